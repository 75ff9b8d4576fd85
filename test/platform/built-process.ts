/** Runs a few lines against the built library in a process of their own, for what only a real process can show. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const workspace = fileURLToPath(new URL('../..', import.meta.url));

export interface BuiltProcess {
  readonly process: ChildProcess;
  /** What it has written to standard output and error so far. */
  output(): string;
  /** Exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals | null>;
}

/** Builds the library if needed. `code` may use its exports through `platform`. */
export function runBuilt(code: string): BuiltProcess {
  execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', '-b', 'libs/platform'], { cwd: workspace });
  const script = `import * as platform from '@carrierarr/platform';\n${code}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { cwd: workspace, stdio: 'pipe' });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += String(chunk)));
  const ended = new Promise<number | NodeJS.Signals | null>((resolve) => {
    child.once('close', (exitCode, signal) => resolve(exitCode ?? signal));
  });
  return { process: child, output: () => output, ended };
}
