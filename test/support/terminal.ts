/**
 * One terminal for whoever follows a page: a bash that keeps its folder, variables, functions and aliases from command to
 * command. What a reader would start in a terminal of its own is begun in the background here, in a process group of its own.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import type { Writable } from 'node:stream';
import { isRunning } from './processes.js';
import { until } from './until.js';

const COMMAND_MS = 60_000;
const END_MS = 20_000;

/** Commands come as files, so that nothing in them has to be quoted. A pipe fails if a part of it does. */
const BASH = `
set -m -o pipefail
shopt -s expand_aliases
while IFS= read -r -u 3 file; do
  source "$file" >"$file.out" 2>&1 </dev/null 3<&- 4>&-
  printf '%s\\n' "$?" >&4
done`;

export interface Ran {
  code: number;
  /** Both streams, as a terminal shows them. */
  output: string;
}

/** What was begun, and goes on. */
export interface Job {
  readonly command: string;
  readonly hasEnded: boolean;
  /** What it ended with. Undefined while it runs, and if a signal ended it. */
  readonly code: number | undefined;
  /** Both streams. */
  output(): string;
  /** Without what it says of itself. */
  stdout(): string;
  /** SIGINT, as Ctrl-C does it, to all its processes. Rejects if they do not end. */
  interrupt(): Promise<void>;
}

const groups = new Set<number>();
process.once('exit', () => {
  for (const group of groups) signalGroup(group, 'SIGKILL');
});

function signalGroup(group: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-group, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

export class Terminal {
  readonly #commands: string;
  readonly #bash: ChildProcess;
  readonly #answers: Interface;
  #count = 0;

  constructor(cwd: string, env: Readonly<Record<string, string>>) {
    this.#commands = mkdtempSync(join(tmpdir(), 'carrierarr-terminal-'));
    const stdio = ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] as const;
    // Its group is its own, so that a command that hangs can be ended with all that it has started.
    this.#bash = spawn('bash', ['--norc', '--noprofile', '-c', BASH], { cwd, env, stdio: [...stdio], detached: true });
    if (this.#bash.pid !== undefined) groups.add(this.#bash.pid);
    this.#answers = createInterface(this.#bash.stdio[4] as NodeJS.ReadableStream);
  }

  /** Runs commands to their end. Rejects if that takes a minute, or if they end the shell. */
  async run(commands: string): Promise<Ran> {
    const file = await this.#give(commands);
    return { code: Number(file.answer), output: readFileSync(`${file.path}.out`, 'utf8') };
  }

  /** Begins a command that goes on. */
  async begin(command: string): Promise<Job> {
    // A signal ends this shell with its command; then it writes no code.
    const whole = `{\n${command}\nprintf '%s' "$?" >"$file.rc"\n} >"$file.job" 2>"$file.err" &`;
    const { path } = await this.#give(`${whole}\nprintf '%s' "$!" >"$file.pid"`);
    const group = Number(readFileSync(`${path}.pid`, 'utf8'));
    groups.add(group);
    // Not where bash itself tells of jobs that have ended.
    const stdout = () => readFileSync(`${path}.job`, 'utf8');
    const job = {
      ...{ command, stdout },
      get hasEnded() {
        return !isRunning(group);
      },
      get code() {
        return !isRunning(group) && existsSync(`${path}.rc`) ? Number(readFileSync(`${path}.rc`, 'utf8')) : undefined;
      },
      output: () => `${stdout()}${readFileSync(`${path}.err`, 'utf8')}`,
      async interrupt() {
        signalGroup(group, 'SIGINT');
        await until(`Ctrl-C to end ${command}`, () => job.hasEnded, END_MS);
        signalGroup(group, 'SIGKILL');
        groups.delete(group);
      },
    };
    return job;
  }

  /** Ends the shell. Jobs must have been interrupted. */
  async close(): Promise<void> {
    const { pid, exitCode, signalCode } = this.#bash;
    if (pid !== undefined && exitCode === null && signalCode === null) {
      const ended = once(this.#bash, 'exit');
      signalGroup(pid, 'SIGKILL');
      await ended;
    }
    if (pid !== undefined) groups.delete(pid);
    rmSync(this.#commands, { recursive: true, force: true });
  }

  async #give(commands: string): Promise<{ path: string; answer: string }> {
    const path = join(this.#commands, `${(this.#count += 1)}`);
    writeFileSync(path, `${commands}\n`);
    const enough = new AbortController();
    const signal = AbortSignal.any([enough.signal, AbortSignal.timeout(COMMAND_MS)]);
    const answered = once(this.#answers, 'line', { signal });
    const ended = once(this.#bash, 'exit', { signal }).then(() => {
      throw new Error(`The shell ended with ${commands}`);
    });
    for (const promise of [answered, ended]) promise.catch(() => undefined);
    (this.#bash.stdio[3] as Writable).write(`${path}\n`);
    try {
      const [answer] = (await Promise.race([answered, ended])) as [string];
      return { path, answer };
    } catch (error) {
      const output = readFileSync(`${path}.out`, 'utf8');
      throw new Error(`Expected an end within ${COMMAND_MS / 1000} s: ${commands}\nIt shows:\n${output}`, {
        cause: error,
      });
    } finally {
      enough.abort();
    }
  }
}
