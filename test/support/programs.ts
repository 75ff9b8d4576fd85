/**
 * The built programs as processes of their own: started on ports of their own choice, awaited, signalled by pid, ended with
 * the test. Each listens on port 0 and says where that is: a port chosen here might be taken before it is used.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { until } from './until.js';

const MAIN = fileURLToPath(new URL('../../apps/cli/dist/main.js', import.meta.url));
export const WORKSPACE = fileURLToPath(new URL('../..', import.meta.url));
const OUTPUT_CHARS_MAX = 1_000_000;

export interface Ended {
  /** Null if a signal ended it. */
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface Program {
  readonly name: string;
  readonly pid: number;
  /** Where it serves HTTP, such as `http://127.0.0.1:4711`. Throws until it has said so. */
  readonly url: string;
  readonly port: number;
  readonly ended: Promise<Ended>;
  readonly hasEnded: boolean;
  /** Standard output and error so far (the last million characters). */
  output(): string;
  stdout(): string;
  /** Resolves when `/ready` says so. Rejects with its output if it does not in time, by default 20 s. */
  ready(timeoutMs?: number): Promise<void>;
  signal(signal: NodeJS.Signals): void;
  /** SIGTERM, and waits for the end. */
  stop(): Promise<Ended>;
  /** SIGKILL, and waits for the end. */
  kill(): Promise<Ended>;
  /** SIGSTOP; {@link Program.thaw} is SIGCONT. */
  freeze(): void;
  thaw(): void;
}

/** The programs of another release, in place of those that are built here. */
export interface Release {
  /** Its tag or commit. */
  readonly name: string;
  /** Command line of its `carrierarr`. */
  readonly launch: readonly [string, ...string[]];
  /** Those of these arguments of a program that it knows: flags with a value each. */
  known(program: string, flags: readonly string[]): string[];
}

export interface ProgramOptions {
  name: string;
  args: readonly string[];
  /** Finds the port that it listens on in what it writes (first group); without it, it serves no HTTP. */
  listens?: RegExp;
  env?: Record<string, string>;
  /** What to start in place of the built program: a command line to which `args` are added, such as `docker run IMAGE`. */
  launch?: readonly [string, ...string[]];
}

const living = new Set<number>();
process.once('exit', () => {
  for (const pid of living) signalQuietly(pid, 'SIGKILL');
});

function signalQuietly(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Starts `carrierarr ARGS`. Nothing of this process's environment but PATH, HOME and the like reaches it. */
export function startProgram({ name, args, listens, env = {}, launch }: ProgramOptions): Program {
  if (!launch && !existsSync(MAIN))
    throw new Error(`Expected the built program at ${MAIN}. Run \`npm run build\` first.`);
  const kept = ['PATH', 'HOME', 'TMPDIR', 'LANG', 'XDG_STATE_HOME'].flatMap((key) =>
    process.env[key] === undefined ? [] : [[key, process.env[key]] as const],
  );
  const [file, ...first] = launch ?? [process.execPath, MAIN];
  const child = spawn(file, [...first, ...args], {
    cwd: WORKSPACE,
    env: { ...Object.fromEntries(kept), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const { pid } = child;
  if (pid === undefined) throw new Error(`${name} could not be started.`);
  living.add(pid);
  let output = '';
  let stdout = '';
  let hasEnded = false;
  let port: number | undefined;
  child.stdout.on('data', (chunk) => (stdout = (stdout + String(chunk)).slice(-OUTPUT_CHARS_MAX)));
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output = (output + String(chunk)).slice(-OUTPUT_CHARS_MAX);
      const said = port === undefined ? listens?.exec(output)?.[1] : undefined;
      if (said !== undefined) port = Number(said);
    });
  }
  const knownPort = () => {
    if (port === undefined) throw new Error(`${name} has not said where it listens. It wrote:\n${output.slice(-4000)}`);
    return port;
  };
  const url = () => `http://127.0.0.1:${knownPort()}`;
  const ended = new Promise<Ended>((resolve) => {
    child.once('close', (code, signal) => {
      hasEnded = true;
      living.delete(pid);
      resolve({ code, signal });
    });
  });
  const signal = (which: NodeJS.Signals) => {
    if (!hasEnded) signalQuietly(pid, which);
  };
  return {
    name,
    pid,
    get url() {
      return url();
    },
    get port() {
      return knownPort();
    },
    ended,
    get hasEnded() {
      return hasEnded;
    },
    output: () => output,
    stdout: () => stdout,
    async ready(timeoutMs = 20_000) {
      await until(
        () => `${name} to be ready. It wrote:\n${output.slice(-4000)}`,
        async () => {
          if (hasEnded) return 'ended';
          if (port === undefined) return false;
          const answer = await fetch(`${url()}/ready`, { signal: AbortSignal.timeout(2000) });
          return answer.ok && 'ready';
        },
        timeoutMs,
      );
      if (hasEnded) throw new Error(`${name} ended before it was ready. It wrote:\n${output.slice(-4000)}`);
    },
    signal,
    stop() {
      signal('SIGTERM');
      return ended;
    },
    kill() {
      signal('SIGCONT');
      signal('SIGKILL');
      return ended;
    },
    freeze: () => signal('SIGSTOP'),
    thaw: () => signal('SIGCONT'),
  };
}

/** Where a program says in its log that it listens. */
export const LOGGED_PORT = /"address":"127\.0\.0\.1:(\d+)"/;

/** `carrierarr gateway` on a loopback port. */
export function startGateway(options: {
  name: string;
  redisUrl: string;
  flags?: readonly string[];
  release?: Release | undefined;
}): Program {
  const flags = ['--addr', '127.0.0.1:0', '--redis-url', options.redisUrl, '--log-format', 'json'];
  return startOf(options, 'gateway', [...flags, ...(options.flags ?? [])]);
}

/** `carrierarr runner` with its probes on a loopback port. */
export function startRunner(options: {
  name: string;
  redisUrl: string;
  script: string;
  flags?: readonly string[];
  env?: Record<string, string>;
  release?: Release | undefined;
}): Program {
  const flags = ['--ops-addr', '127.0.0.1:0', '--redis-url', options.redisUrl, '--log-format', 'json'];
  flags.push('--script', options.script, '--runner-id', options.name, ...(options.flags ?? []));
  return startOf(options, 'runner', flags);
}

/** `carrierarr monitor` with its probes on a loopback port. */
export function startMonitor(options: {
  name: string;
  redisUrl: string;
  flags?: readonly string[];
  env?: Record<string, string>;
  release?: Release | undefined;
}): Program {
  const flags = ['--ops-addr', '127.0.0.1:0', '--redis-url', options.redisUrl, '--log-format', 'json'];
  // Several on one machine cannot all have the default port.
  flags.push('--monitor-id', options.name, '--grpc-addr', 'off', ...(options.flags ?? []));
  return startOf(options, 'monitor', flags);
}

/** A program of this release, or of another one with those flags that it knows. */
function startOf(
  { name, env, release }: { name: string; env?: Record<string, string>; release?: Release | undefined },
  program: string,
  flags: readonly string[],
): Program {
  const args = [program, ...(release?.known(program, flags) ?? flags)];
  return startProgram({
    ...{ name, listens: LOGGED_PORT, args },
    ...(release && { launch: release.launch }),
    ...(env && { env }),
  });
}
