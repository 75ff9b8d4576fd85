/** What the command line needs of its process, so that tests can run it in theirs. */
import type { Readable, Writable } from 'node:stream';
import type { ProcessHost } from '@carrierarr/platform';

export interface Host extends Pick<ProcessHost, 'on' | 'off'> {
  /** How this program was called, for advice that can be copied: `carrierarr`, or `node apps/cli/dist/main.js`. */
  readonly command: string;
  readonly env: NodeJS.ProcessEnv;
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable & { readonly isTTY?: boolean };
}

/** Listens for a signal; returns what takes the listener away again. */
export function onSignal(host: Host, signal: 'SIGINT' | 'SIGTERM', listener: () => void): () => void {
  host.on(signal, listener);
  return () => void host.off(signal, listener);
}

/** One of `carrierarr`'s subcommands. */
export interface Verb {
  /** Exit code of a usage error, if not the usual one. */
  readonly usageExitCode?: number;
  /**
   * Runs to the end and returns the exit code. `summary` is for the help text. Throws `Failure` or the platform's `ConfigError` with a text for the
   * user; anything else is a defect.
   */
  run(argv: readonly string[], host: Host, summary: string): Promise<number>;
}
