/**
 * A program that runs, with its output: in a process group of its own, under the watchdog, with real pipes. What a runner's
 * control script and an agent's program have in common.
 */
import type { Readable } from 'node:stream';
import type { Timer } from '@carrierarr/platform';
import type { StreamLetter } from '@carrierarr/protocol';
import { deferred } from '../deferred.js';
import type { ProgramExit } from '../outcome.js';
import type { OutputPipes, PipeFolder } from './pipes.js';
import { ScriptProcess, type ScriptProcessOptions } from './script-process.js';

/** What escaped a program that has ended may hold its output open for this long, ms. */
const OUTPUT_END_WAIT_MS = 2_000;
const OUTPUT_END_POLL_MS = 50;

export interface ProgramRunOptions extends Omit<ScriptProcessOptions, 'pipes'> {
  folder: Pick<PipeFolder, 'take'>;
  /** Output as it comes, none before `start` has resolved, none while paused. */
  onOutput: (stream: StreamLetter, chunk: Buffer) => void;
  /** No more of this stream will come. */
  onOutputEnd: (stream: StreamLetter) => void;
  onReadError?: (error: Error) => void;
  /** Something that left its group holds the output open, and is not waited for any longer. */
  onEscape?: () => void;
}

export class ProgramRun {
  /** How it ended, as soon as that is known. */
  readonly exited: Promise<ProgramExit>;
  /** Resolves if the watchdog ended it because this process froze. */
  readonly abandoned: Promise<void>;
  readonly #o: ProgramRunOptions;
  readonly #process: ScriptProcess;
  readonly #pipes: OutputPipes;
  readonly #outputEnd: Promise<unknown>;
  #isPaused = false;
  #isGivenUp = false;

  private constructor(options: ProgramRunOptions, process: ScriptProcess, pipes: OutputPipes) {
    this.#o = options;
    this.#process = process;
    this.#pipes = pipes;
    this.exited = process.exited.then((code) => ({ code }));
    this.abandoned = process.abandoned;
    this.#outputEnd = Promise.all([this.#read('o', process.stdout), this.#read('e', process.stderr)]);
  }

  /** Resolves once it runs. Rejects when there are no pipes or no process; then nothing of it is left. */
  static async start(options: ProgramRunOptions): Promise<ProgramRun> {
    let pipes: OutputPipes | undefined;
    let process: ScriptProcess | undefined;
    try {
      pipes = await options.folder.take();
      process = await ScriptProcess.start({ ...options, pipes });
      // At once: the end of a stream that is empty comes as soon as it is known, and only to who listens.
      const run = new ProgramRun(options, process, pipes);
      // No output yet, though: who cannot be told to pause would have to take whatever comes.
      for (const readable of run.#readables) readable.pause();
      await pipes.closeWriters();
      for (const readable of run.#readables) readable.resume();
      return run;
    } catch (error) {
      process?.kill();
      await pipes?.release(false);
      throw error;
    }
  }

  /** To be called once, after `exited`: resolves when nothing of it is left and its output has been handed over. */
  async finish(): Promise<undefined> {
    await this.#process.gone;
    await this.#pipes.release(await this.#awaitOutputEnd());
  }

  /** Tells the watchdog that this process lives. */
  beat(): void {
    this.#process.beat();
  }

  /** SIGTERM to its group now, SIGKILL after `graceMs`. */
  terminate(graceMs: number): void {
    this.#process.terminate(graceMs);
  }

  /** SIGKILL to its group now; the rest of its output is not waited for. */
  kill(): void {
    this.#isGivenUp = true;
    this.#process.kill();
  }

  pause(): void {
    this.#isPaused = true;
    for (const readable of this.#readables) readable.pause();
  }

  resume(): void {
    this.#isPaused = false;
    for (const readable of this.#readables) readable.resume();
  }

  get #readables(): Readable[] {
    return [this.#process.stdout, this.#process.stderr];
  }

  /** Resolves at the stream's end. */
  #read(stream: StreamLetter, readable: Readable): Promise<void> {
    const { onOutput, onOutputEnd, onReadError } = this.#o;
    return new Promise((done) => {
      readable.on('data', (chunk: Buffer) => onOutput(stream, chunk));
      const end = () => {
        onOutputEnd(stream);
        done();
      };
      readable.once('end', end);
      readable.once('error', (error) => {
        onReadError?.(error);
        end();
      });
    });
  }

  /**
   * Waits for the end of the output of a program that has ended; not for ever, since what escaped its group may hold the
   * pipe open. Time in which nothing is read does not count. Resolves to true if the end was seen.
   */
  async #awaitOutputEnd(): Promise<boolean> {
    const { clock, onEscape, onOutputEnd } = this.#o;
    const end = deferred<boolean>();
    let waitedMs = 0;
    const poll: Timer = clock.setInterval(() => {
      if (!this.#isPaused) waitedMs += OUTPUT_END_POLL_MS;
      if (waitedMs >= OUTPUT_END_WAIT_MS || this.#isGivenUp) end.resolve(false);
    }, OUTPUT_END_POLL_MS);
    void this.#outputEnd.then(() => end.resolve(true));
    const isEnded = await end.promise;
    poll.cancel();
    if (!isEnded) {
      onEscape?.();
      for (const stream of ['o', 'e'] as const) onOutputEnd(stream);
    }
    return isEnded;
  }
}
