/** One run of a script or other program: started under the watchdog, kept alive by heartbeats, ended by its group. */
import type { Readable, Writable } from 'node:stream';
import { createInterface } from 'node:readline';
import type { Clock, Timer } from '@carrierarr/platform';
import { execa } from 'execa';
import { deferred } from '../deferred.js';
import type { OutputPipes } from './pipes.js';
import { WATCHDOG_BOOTSTRAP, WATCHDOG_GRACE_S, WATCHDOG_SCRIPT, WATCHDOG_SILENCE_S } from './watchdog.js';

/** Thrown when no process could be made. */
export class SpawnError extends Error {
  override name = 'SpawnError';
}

export interface ScriptProcessOptions {
  /** Absolute path. */
  script: string;
  args: readonly string[];
  /** The whole environment. */
  env: Record<string, string>;
  pipes: OutputPipes;
  clock: Clock;
}

/** Heartbeats that a stopped watchdog has not read, bytes. */
const HEARTBEAT_BACKLOG_MAX = 64;

const SIGKILL_CODE = 137;

const WATCHDOG_OPTIONS = { extendEnv: false, buffer: false, reject: false, cleanup: false, detached: true } as const;

export class ScriptProcess {
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** The script's exit code, as soon as it has ended. */
  readonly exited: Promise<number>;
  /** Resolves when it and everything it left behind has ended. */
  readonly gone: Promise<void>;
  /** Resolves if the watchdog ended the script for want of heartbeats. */
  readonly abandoned: Promise<void>;

  readonly #o: ScriptProcessOptions;
  readonly #heartbeat: Writable;
  readonly #started = deferred<void>();
  #group: number | undefined;
  #hasExited = false;
  #pendingSignal: NodeJS.Signals | undefined;
  #killTimer: Timer | undefined;

  private constructor(options: ScriptProcessOptions) {
    const { script, args, env, pipes } = options;
    this.#o = options;
    const exited = deferred<number>();
    const abandoned = deferred<void>();
    const times = [String(WATCHDOG_SILENCE_S), String(WATCHDOG_GRACE_S * 10)];
    // --norc: with a socket as its input bash takes itself for a remote login, and would read ~/.bashrc. -p: no BASH_ENV.
    const shell = ['--norc', '-p', '-c', WATCHDOG_BOOTSTRAP, 'carrierarr-watchdog', ...times];
    const watchdog = execa('bash', [...shell, script, ...args], {
      // execa takes any descriptor, but its types stop at 9.
      stdio: ['pipe', pipes.stdout.writeFd as 9, pipes.stderr.writeFd as 9, 'pipe'],
      env,
      ...WATCHDOG_OPTIONS,
    });
    this.stdout = pipes.stdout.reader;
    this.stderr = pipes.stderr.reader;
    this.exited = exited.promise;
    this.abandoned = abandoned.promise;
    this.#heartbeat = watchdog.stdin;
    // It is gone when the watchdog is; the status below tells why.
    this.#heartbeat.on('error', () => undefined);
    this.#heartbeat.write(`${WATCHDOG_SCRIPT}\0`);

    const status = watchdog.stdio[3] as Readable | undefined;
    status?.on('error', () => undefined);
    const statusLines = status && createInterface({ input: status });
    statusLines?.on('line', (line) => {
      const [what, value] = line.split(' ');
      if (what === 'started') this.#hasStarted(Number(value));
      else if (what === 'abandoned') {
        // After the end it only means that there is nobody left to send heartbeats to.
        if (!this.#hasExited) abandoned.resolve();
      } else if (what === 'exited') {
        this.#hasExited = true;
        exited.resolve(Number(value));
      }
    });
    watchdog.once('exit', (code, signal) => {
      // Its status may come a moment later than its end; the code is the same. By a signal: somebody killed it, and what
      // it watched must not go on.
      if (signal !== null) this.kill();
      this.#hasExited = true;
      exited.resolve(code ?? SIGKILL_CODE);
    });
    this.gone = watchdog.then((result) => {
      this.#killTimer?.cancel();
      // The guard, if it still is there, sees the end of the heartbeats.
      this.#heartbeat.destroy();
      if (this.#group === undefined) {
        const cause = result.cause ?? new Error(result.shortMessage ?? 'bash ended at once');
        this.#started.reject(
          new SpawnError(`The script's watchdog could not be started: ${(cause as Error).message}`, { cause }),
        );
      }
      status?.destroy();
    });
  }

  /** Resolves once the script runs. Rejects with {@link SpawnError}. */
  static async start(options: ScriptProcessOptions): Promise<ScriptProcess> {
    const running = new ScriptProcess(options);
    await running.#started.promise;
    return running;
  }

  /** Tells the watchdog that this process lives. */
  beat(): void {
    if (this.#heartbeat.writable && this.#heartbeat.writableLength < HEARTBEAT_BACKLOG_MAX) this.#heartbeat.write('\n');
  }

  /** SIGTERM to the group now, SIGKILL after `graceMs`. */
  terminate(graceMs: number): void {
    this.#signal('SIGTERM');
    this.#killTimer ??= this.#o.clock.setTimeout(() => this.#signal('SIGKILL'), graceMs);
  }

  /** SIGKILL to the group now. */
  kill(): void {
    this.#killTimer?.cancel();
    this.#signal('SIGKILL');
  }

  #hasStarted(group: number): void {
    if (!(group > 0)) return;
    this.#group = group;
    if (this.#pendingSignal !== undefined) this.#signal(this.#pendingSignal);
    this.#started.resolve();
  }

  #signal(signal: NodeJS.Signals): void {
    if (this.#hasExited) return;
    if (this.#group === undefined) {
      this.#pendingSignal = signal;
      return;
    }
    try {
      process.kill(-this.#group, signal);
    } catch (error) {
      // ESRCH: it has ended in this moment. EPERM: it runs as another user; the watchdog cannot either.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}
