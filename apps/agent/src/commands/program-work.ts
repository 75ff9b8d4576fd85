/** Runs a program as a runner does: in a group of its own, under the watchdog, with real pipes for its output. */
import { cannotExecute, type PipeFolder, ProgramRun } from '@carrierarr/execution';
import type { Clock } from '@carrierarr/platform';
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

const WORDS = { what: 'The program', where: 'this node', set: 'Name' };

/** Rejects with {@link Refusal} if it cannot be started. */
export async function startProgram(options: ProgramWorkOptions): Promise<Work> {
  const { argv, env, folder, clock, output } = options;
  const [name = '', ...args] = argv;
  const program = await findProgram(name, env['PATH']);
  if (program === undefined) throw new Refusal(`There is no program ${JSON.stringify(name)} on this node.`, 127);
  const cannot = await cannotExecute(program, WORDS);
  if (cannot !== undefined) throw new Refusal(cannot.problem, cannot.code);
  try {
    return await ProgramRun.start({
      ...{ script: program, args, env, folder, clock },
      onOutput: (stream, chunk) => output.bytes(stream, chunk),
      onOutputEnd: (stream) => output.end(stream),
    });
  } catch (error) {
    throw new Refusal(`${name} could not be started on this node: ${(error as Error).message}`);
  }
}
