/** Runs the control script: in a process group of its own, under the watchdog, with real pipes for its output. */
import { resolve } from 'node:path';
import type { Readable } from 'node:stream';
import {
  cannotExecute,
  commandToken,
  deferred,
  OUTPUT_END_WAIT_MS,
  type OutputPipes,
  type PipeFolder,
  type ProgramExit,
  programEnvironment,
  ScriptProcess,
} from '@carrierarr/execution';
import type { Clock, Logger } from '@carrierarr/platform';
import type { StreamLetter } from '@carrierarr/protocol';
import type { RunnerMetrics } from '../metrics.js';
import type { Executor, Run, Task } from './executor.js';

export interface ScriptExecutorOptions {
  script: string;
  pipes: PipeFolder;
  /** Environment of the script, before carrierarr's own variables are taken out. */
  env: NodeJS.ProcessEnv;
  configNames: Iterable<string>;
  metrics: RunnerMetrics;
  clock: Clock;
  logger: Logger;
}

const OUTPUT_END_POLL_MS = 50;
const WORDS = { what: 'The control script', where: 'this runner', set: 'Set --script to' };

export class ScriptExecutor implements Executor {
  readonly #o: ScriptExecutorOptions;

  constructor(options: ScriptExecutorOptions) {
    this.#o = options;
  }

  async start(task: Task): Promise<Run | undefined> {
    const { env, configNames, metrics, clock, logger, pipes: folder } = this.#o;
    const { execution, fence } = task;
    const script = resolve(this.#o.script);
    const refusal = await cannotExecute(script, WORDS);
    if (refusal !== undefined) task.decide({ kind: 'cannot-execute', ...refusal });
    // Also when it was killed or fenced meanwhile.
    if (task.signal.aborted) return undefined;

    let pipes: OutputPipes | undefined;
    let started: ScriptProcess | undefined;
    try {
      pipes = await folder.take();
      const { id, target, attempt } = execution;
      const facts = { target, execution: id, fence, attempt, token: commandToken(execution) };
      started = await ScriptProcess.start({
        ...{ script, args: [execution.command, ...execution.args], pipes, clock },
        env: programEnvironment({ env, configNames, facts }),
      });
      const run = new ScriptRun({ task, process: started, pipes, metrics, clock, logger });
      await pipes.closeWriters();
      return run;
    } catch (error) {
      started?.kill();
      await pipes?.release(false);
      const problem = `The control script could not be started on this runner: ${(error as Error).message}`;
      task.decide({ kind: 'cannot-execute', code: 126, problem });
      return undefined;
    }
  }
}

interface ScriptRunOptions extends Pick<ScriptExecutorOptions, 'clock' | 'metrics' | 'logger'> {
  task: Task;
  process: ScriptProcess;
  pipes: OutputPipes;
}

class ScriptRun implements Run {
  readonly exited: Promise<ProgramExit>;
  readonly #o: ScriptRunOptions;
  readonly #outputEnd: Promise<unknown>;
  #isPaused = false;
  #isGivenUp = false;

  constructor(options: ScriptRunOptions) {
    const { task, process } = options;
    this.#o = options;
    this.exited = process.exited.then((code) => ({ code }));
    void process.abandoned.then(() => task.decide({ kind: 'stalled' }));
    this.#outputEnd = Promise.all([this.#read('o', process.stdout), this.#read('e', process.stderr)]);
  }

  async finish(): Promise<undefined> {
    const { process, pipes } = this.#o;
    await process.gone;
    await pipes.release(await this.#awaitOutputEnd());
  }

  beat(): void {
    this.#o.process.beat();
  }

  terminate(graceMs: number): void {
    this.#o.process.terminate(graceMs);
  }

  kill(): void {
    this.#isGivenUp = true;
    this.#o.process.kill();
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
    return [this.#o.process.stdout, this.#o.process.stderr];
  }

  /** Resolves at the stream's end. */
  #read(stream: StreamLetter, readable: Readable): Promise<void> {
    const { task, logger } = this.#o;
    return new Promise((done) => {
      readable.on('data', (chunk: Buffer) => task.output(stream, chunk));
      readable.once('end', () => {
        task.outputEnd(stream);
        done();
      });
      readable.on('error', (error) => {
        logger.warn({ err: error, execution: task.execution.id }, 'output of the script could not be read');
        task.outputEnd(stream);
        done();
      });
    });
  }

  /**
   * Waits for the end of the output of a script that has ended; not for ever, since what escaped its group may hold the
   * pipe open. Time in which we do not read does not count. Resolves to true if the end was seen.
   */
  async #awaitOutputEnd(): Promise<boolean> {
    const { task, metrics, clock } = this.#o;
    const end = deferred<boolean>();
    let waitedMs = 0;
    const poll = clock.setInterval(() => {
      if (!this.#isPaused) waitedMs += OUTPUT_END_POLL_MS;
      if (waitedMs >= OUTPUT_END_WAIT_MS || this.#isGivenUp) end.resolve(false);
    }, OUTPUT_END_POLL_MS);
    void this.#outputEnd.then(() => end.resolve(true));
    const isEnded = await end.promise;
    poll.cancel();
    if (!isEnded) {
      metrics.escapedOutputs.inc();
      task.outputEnd('o');
      task.outputEnd('e');
    }
    return isEnded;
  }
}
