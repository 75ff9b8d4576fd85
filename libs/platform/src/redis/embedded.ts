/**
 * A private Redis for one machine (`carrierarr up`): started, watched, restarted when it dies, stopped. It runs from a
 * server binary, or through Docker where there is none.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, realpathSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { backoffMs } from '../backoff.js';
import type { Logger } from '../logger.js';
import { type FolderLock, lockFolder } from './folder-lock.js';
import { ask } from './probe.js';
import { dockerServer, findProgram, isDockerUsable, localServer, type ServerProcess } from './server-process.js';

export interface EmbeddedRedisOptions {
  /** Holds the data, the lock and, if its path is short enough, the socket. Made when missing. One owner at a time. */
  readonly dir: string;
  readonly logger: Pick<Logger, 'debug' | 'info' | 'warn' | 'error'>;
  /** Where programs are looked for; $PATH when left out. */
  readonly path?: string;
  /** Used when there is no server binary. */
  readonly dockerImage?: string;
}

export interface EmbeddedRedis {
  /** `unix:///...`, or `redis://:password@127.0.0.1:port` with Docker. The same after a restart of the server. */
  readonly url: string;
  /** The server's process (with Docker: its client); null while it is being restarted. */
  readonly pid: number | null;
  /** Ends the server with SIGTERM, waits for it, frees the folder. Safe to call more than once. */
  stop(): Promise<void>;
}

/** Neither a server binary nor Docker is there; the message has the line that installs one. */
export class RedisNotInstalledError extends Error {
  override readonly name = 'RedisNotInstalledError';
  readonly code = 'redis_not_installed';
}

/** A server that answers LOADING is reading its data, which takes longer the more there is. */
const LOADING_DEADLINE_MS = 600_000;
const STOP_GRACE_MS = 10_000;
const POLL_MS = 20;
const RESTART_BASE_MS = 200;
const RESTART_CAP_MS = 5_000;
/** A server that ran this long has recovered: the next restart comes fast again. */
const STABLE_MS = 10_000;
const OUTPUT_LINES_KEPT = 10;
const DOCKER_IMAGE = 'redis:7';

/**
 * Resolves once the server answers PING. Rejects with RedisNotInstalledError, FolderInUseError, or an error that ends
 * with what the server printed before it died.
 */
export async function startEmbeddedRedis(options: EmbeddedRedisOptions): Promise<EmbeddedRedis> {
  const { logger, path = process.env['PATH'] ?? '', dockerImage = DOCKER_IMAGE } = options;
  mkdirSync(options.dir, { recursive: true, mode: 0o700 });
  const dir = realpathSync(options.dir);
  const lock = lockFolder(dir);
  try {
    const server = await chooseServer(dir, path, dockerImage);
    await server.endStale();
    const embedded = new SupervisedRedis(server, lock, logger);
    await embedded.start();
    return embedded;
  } catch (error) {
    lock.release();
    throw error;
  }
}

async function chooseServer(dir: string, path: string, dockerImage: string): Promise<ServerProcess> {
  const binary = findProgram(['redis-server', 'valkey-server'], path);
  if (binary !== null) return localServer(binary, dir);
  const docker = findProgram(['docker'], path);
  if (docker !== null && (await isDockerUsable(docker))) return dockerServer(docker, dockerImage, dir);
  throw new RedisNotInstalledError(
    'Found neither redis-server nor valkey-server, nor a Docker that runs. Install Redis with one of\n' +
      '  brew install redis\n  sudo apt-get install -y redis-server\n  sudo dnf install -y valkey\n' +
      'or use a Redis that you have with --redis-url (CARRIERARR_REDIS_URL).',
  );
}

class SupervisedRedis implements EmbeddedRedis {
  readonly #server: ServerProcess;
  readonly #lock: FolderLock;
  readonly #logger: EmbeddedRedisOptions['logger'];
  readonly #abort = new AbortController();
  #child: ChildProcess | null = null;
  #output: string[] = [];
  #supervision: Promise<void> | null = null;
  #stopping: Promise<void> | null = null;

  constructor(server: ServerProcess, lock: FolderLock, logger: EmbeddedRedisOptions['logger']) {
    this.#server = server;
    this.#lock = lock;
    this.#logger = logger;
  }

  get url(): string {
    return this.#server.url;
  }

  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  async start(): Promise<void> {
    const exit = this.#spawn();
    try {
      await this.#untilAnswering(exit);
    } catch (error) {
      await this.#end(exit);
      this.#server.cleanUp();
      throw error;
    }
    this.#logger.info({ pid: this.pid }, 'private Redis started');
    this.#supervision = this.#supervise(exit);
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.#abort.abort(); // The supervision ends the server.
    await this.#supervision;
    this.#server.cleanUp();
    this.#lock.release();
  }

  /** Starts the server; the promise resolves with words on how it ended. */
  #spawn(): Promise<string> {
    const child = this.#server.spawn();
    this.#child = child;
    this.#output = [];
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => this.#keepOutput(text));
    }
    return new Promise((resolve) => {
      const onGone = () => {
        this.#child = null;
        this.#server.afterExit(child);
        child.stdin?.destroy();
      };
      child.on('exit', onGone);
      child.on('error', (error) => {
        onGone();
        resolve(error.message);
      });
      // Comes after exit, when all output has been read.
      child.on('close', (code, signal) => resolve(signal === null ? `exit code ${code}` : signal));
    });
  }

  #keepOutput(text: string): void {
    const lines = text.split('\n').filter((line) => line.trim() !== '');
    for (const line of lines) this.#logger.debug({ line }, 'private Redis says');
    this.#output = [...this.#output, ...lines].slice(-OUTPUT_LINES_KEPT);
  }

  async #untilAnswering(exit: Promise<string>): Promise<void> {
    let ended = '';
    void exit.then((how) => (ended = how));
    const beganMs = performance.now();
    for (;;) {
      if (ended !== '') throw new Error(this.#failure(`ended while it started (${ended})`));
      if (this.#abort.signal.aborted) return;
      const answer = await ask(this.#server.place, 'PING');
      const line = answer.kind === 'line' ? answer.line : '';
      if (line === '+PONG') return;
      const deadlineMs = line.startsWith('-LOADING') ? LOADING_DEADLINE_MS : this.#server.startDeadlineMs;
      if (performance.now() - beganMs > deadlineMs) {
        throw new Error(this.#failure(`did not answer within ${deadlineMs / 1000} s (${line || answer.kind})`));
      }
      await pause(POLL_MS);
    }
  }

  #failure(what: string): string {
    const output = this.#output.map((line) => `\n  ${line}`).join('');
    return `The private Redis server ${what}. It said:${output || ' nothing.'}`;
  }

  /** Restarts the server whenever it ends, until stop() is called; then waits for its end. */
  async #supervise(firstExit: Promise<string>): Promise<void> {
    let exit = firstExit;
    let attempt = 0;
    let startedMs = performance.now();
    for (;;) {
      const how = await this.#exitOrStop(exit);
      if (this.#abort.signal.aborted) return;
      if (performance.now() - startedMs > STABLE_MS) attempt = 0;
      this.#logger.error({ reason: how, output: this.#output }, 'private Redis ended unexpectedly; restarting it');
      await pause(backoffMs({ attempt, baseMs: RESTART_BASE_MS, capMs: RESTART_CAP_MS }), undefined, {
        signal: this.#abort.signal,
      }).catch(() => undefined); // stop() cuts the wait short.
      if (this.#abort.signal.aborted) return;
      attempt += 1;
      startedMs = performance.now();
      exit = this.#spawn();
      try {
        await this.#untilAnswering(exit);
        this.#logger.warn({ pid: this.pid }, 'private Redis runs again');
      } catch (error) {
        this.#logger.error({ err: error }, 'private Redis did not come back; trying again');
        await this.#end(exit);
      }
    }
  }

  /** How the server ended. After stop() it has a grace period to do so, then is killed. */
  async #exitOrStop(exit: Promise<string>): Promise<string> {
    const { signal } = this.#abort;
    const aborted = new Promise<'stop'>((resolve) => {
      if (signal.aborted) resolve('stop');
      else signal.addEventListener('abort', () => resolve('stop'), { once: true });
    });
    const first = await Promise.race([exit, aborted]);
    return first === 'stop' ? this.#end(exit) : first;
  }

  async #end(exit: Promise<string>): Promise<string> {
    if (this.#child) this.#server.signal(this.#child, 'SIGTERM');
    const kill = setTimeout(() => {
      if (this.#child) this.#server.signal(this.#child, 'SIGKILL');
    }, STOP_GRACE_MS);
    const how = await exit;
    clearTimeout(kill);
    return how;
  }
}
