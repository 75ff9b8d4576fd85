/**
 * A small file that is read again when it changes. It is read every few seconds rather than watched: Kubernetes swaps a
 * mounted secret by renaming a link two levels up, network file systems tell nobody, and a few kilobytes cost nothing.
 */
import { readFile, stat } from 'node:fs/promises';
import type { Clock, Timer } from '../clock.js';
import type { Logger } from '../logger.js';

const READ_EVERY_MS = 5_000;
const BYTES_MAX = 4 * 1024 * 1024;

export interface WatchedFileOptions {
  path: string;
  /** For messages: what the file is, such as "tokens file". */
  what: string;
  /** Takes the text over, or throws an Error whose message says what is wrong with it; then the text before stays. */
  load: (text: string, isFirst: boolean) => void;
  clock: Clock;
  logger: Pick<Logger, 'info' | 'error'>;
}

export class WatchedFile {
  readonly #o: WatchedFileOptions;
  #timer: Timer | undefined;
  #loaded: string | undefined;
  /** The last problem, so that it is logged once and not every few seconds. */
  #problem: string | undefined;
  #reading = false;

  constructor(options: WatchedFileOptions) {
    this.#o = options;
  }

  /** Reads it for the first time. Throws an Error that names the file when it cannot be used. */
  async start(): Promise<void> {
    const { path, what, clock } = this.#o;
    try {
      const text = await this.#read();
      this.#o.load(text, true);
      this.#loaded = text;
    } catch (cause) {
      throw new Error(`The ${what} ${path} cannot be used: ${messageOf(cause)}`, { cause });
    }
    this.#timer = clock.setInterval(() => void this.refresh(), READ_EVERY_MS);
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** Reads it now. Never rejects: a file that cannot be used is logged, and what was read before stays. */
  async refresh(): Promise<void> {
    const { path, what, logger } = this.#o;
    if (this.#reading) return;
    this.#reading = true;
    try {
      const text = await this.#read();
      if (text !== this.#loaded) {
        this.#o.load(text, false);
        this.#loaded = text;
        logger.info({ path }, `the ${what} has changed and was read again`);
      }
      this.#problem = undefined;
    } catch (error) {
      const problem = messageOf(error);
      if (problem !== this.#problem) {
        logger.error({ path, problem }, `the ${what} cannot be used as it is now; what it said before still holds`);
      }
      this.#problem = problem;
    } finally {
      this.#reading = false;
    }
  }

  async #read(): Promise<string> {
    const { size } = await stat(this.#o.path);
    if (size > BYTES_MAX) throw new Error(`it has ${size} bytes, more than ${BYTES_MAX}.`);
    return readFile(this.#o.path, 'utf8');
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
