/** Runs the control script: in a process group of its own, under the watchdog, with real pipes for its output. */
import { resolve } from 'node:path';
import { cannotExecute, commandToken, type PipeFolder, programEnvironment, ProgramRun } from '@carrierarr/execution';
import type { Clock, Logger } from '@carrierarr/platform';
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

    const { id, target, attempt } = execution;
    const facts = { target, execution: id, fence, attempt, token: commandToken(execution) };
    try {
      const run = await ProgramRun.start({
        ...{ script, args: [execution.command, ...execution.args], folder, clock },
        env: programEnvironment({ env, configNames, facts }),
        onOutput: (stream, chunk) => task.output(stream, chunk),
        onOutputEnd: (stream) => task.outputEnd(stream),
        onReadError: (error) => logger.warn({ err: error, execution: id }, 'output of the script could not be read'),
        onEscape: () => metrics.escapedOutputs.inc(),
      });
      void run.abandoned.then(() => task.decide({ kind: 'stalled' }));
      return run;
    } catch (error) {
      const problem = `The control script could not be started on this runner: ${(error as Error).message}`;
      task.decide({ kind: 'cannot-execute', code: 126, problem });
      return undefined;
    }
  }
}
