/** What `scale`, `pause`, `resume`, `delete` and `plan` share: something done to each resource that was named. */
import { isOfAll } from '../client/unreachable.js';
import { EXIT, Failure } from '../exit.js';
import type { Output } from '../terminal/output.js';
import { type Reference, referenceText } from './references.js';

/** One after the other; a failure with one is told and does not stop the rest. Resolves to the exit code. */
export async function forEachResource(
  references: readonly Reference[],
  output: Output,
  act: (reference: Reference) => Promise<void>,
): Promise<number> {
  let failed = 0;
  for (const reference of references) {
    try {
      await act(reference);
    } catch (error) {
      if (!(error instanceof Failure) || isOfAll(error)) throw error;
      output.notice(`${referenceText(reference)}: ${error.message}`);
      failed++;
    }
  }
  return failed > 0 ? EXIT.partly : EXIT.done;
}

/** For a resource that is named and not there. */
export function absent(reference: Reference): Failure {
  const list = reference.kind === 'Worker' ? 'workers' : 'pools';
  return new Failure(`There is no such resource. \`carrierarr get ${list}\` lists those there are.`);
}
