/** Runs a program as a runner does: in a group of its own, under the watchdog, with real pipes for its output. */
import type { Readable } from 'node:stream';
import {
  cannotExecute,
  deferred,
  OUTPUT_END_WAIT_MS,
  type OutputPipes,
  type PipeFolder,
  ScriptProcess,
} from '@carrierarr/execution';
import type { Clock } from '@carrierarr/platform';
import type { StreamLetter } from '@carrierarr/protocol';
import { findProgram } from './find-program.js';
import { Refusal, type Work, type WorkOutput } from './work.js';

export interface ProgramWorkOptions {
  argv: readonly string[];
  /** The whole environment. */
  env: Record<string, string>;
  folder: PipeFolder;
  output: WorkOutput;
  clock: Clock;
}

const OUTPUT_END_POLL_MS = 50;
const WORDS = { what: 'The program', where: 'this node', set: 'Name' };

/** Rejects with {@link Refusal} if it cannot be started. */
export async function startProgram(options: ProgramWorkOptions): Promise<Work> {
  const { argv, env, folder, clock, output } = options;
  const [name = '', ...args] = argv;
  const program = await findProgram(name, env['PATH']);
  if (program === undefined) throw new Refusal(`There is no program ${JSON.stringify(name)} on this node.`, 127);
  const cannot = await cannotExecute(program, WORDS);
  if (cannot !== undefined) throw new Refusal(cannot.problem, cannot.code);
  let pipes: OutputPipes | undefined;
  let started: ScriptProcess | undefined;
  try {
    pipes = await folder.take();
    started = await ScriptProcess.start({ script: program, args, env, pipes, clock });
    const work = new ProgramWork(started, pipes, output, clock);
    await pipes.closeWriters();
    return work;
  } catch (error) {
    started?.kill();
    await pipes?.release(false);
    throw new Refusal(`${name} could not be started on this node: ${(error as Error).message}`);
  }
}

class ProgramWork implements Work {
  readonly exited: Promise<{ code: number }>;
  readonly abandoned: Promise<void>;
  readonly #process: ScriptProcess;
  readonly #pipes: OutputPipes;
  readonly #output: WorkOutput;
  readonly #clock: Clock;
  readonly #outputEnd: Promise<unknown>;
  #isPaused = false;
  #isGivenUp = false;

  constructor(process: ScriptProcess, pipes: OutputPipes, output: WorkOutput, clock: Clock) {
    this.#process = process;
    this.#pipes = pipes;
    this.#output = output;
    this.#clock = clock;
    this.exited = process.exited.then((code) => ({ code }));
    this.abandoned = process.abandoned;
    this.#outputEnd = Promise.all([this.#read('o', process.stdout), this.#read('e', process.stderr)]);
  }

  async finish(): Promise<void> {
    await this.#process.gone;
    await this.#pipes.release(await this.#awaitOutputEnd());
  }

  beat(): void {
    this.#process.beat();
  }

  terminate(graceMs: number): void {
    this.#process.terminate(graceMs);
  }

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

  #read(stream: StreamLetter, readable: Readable): Promise<void> {
    return new Promise((done) => {
      readable.on('data', (chunk: Buffer) => this.#output.bytes(stream, chunk));
      const end = () => {
        this.#output.end(stream);
        done();
      };
      readable.once('end', end);
      readable.once('error', end);
    });
  }

  /** Not for ever: what left its group may hold the pipe open. Time in which nothing is read does not count. */
  async #awaitOutputEnd(): Promise<boolean> {
    const end = deferred<boolean>();
    let waitedMs = 0;
    const poll = this.#clock.setInterval(() => {
      if (!this.#isPaused) waitedMs += OUTPUT_END_POLL_MS;
      if (waitedMs >= OUTPUT_END_WAIT_MS || this.#isGivenUp) end.resolve(false);
    }, OUTPUT_END_POLL_MS);
    void this.#outputEnd.then(() => end.resolve(true));
    const isEnded = await end.promise;
    poll.cancel();
    if (!isEnded) for (const stream of ['o', 'e'] as const) this.#output.end(stream);
    return isEnded;
  }
}
