/**
 * The scenarios that take longest begin first: one of minutes that begins last keeps one core busy, and all who wait. Vitest
 * goes by what it remembers of earlier runs, and a fresh checkout has none.
 */
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Those of half a minute and more, the longest first, as measured. */
const LONG = [
  ...['documents', 'agents-outage', 'monitor-aws', 'old-agents', 'mixed-versions', 'crash', 'monitor-fleet'],
  ...['redis-outage', 'command-line'],
].map((name) => `test/scenarios/${name}.test.ts`);

function rankOf({ moduleId }: TestSpecification): number {
  const rank = LONG.findIndex((name) => moduleId.endsWith(`/${name}`));
  return rank === -1 ? LONG.length : rank;
}

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    // oxlint-disable-next-line unicorn/no-array-sort -- of a sequencer, not of an array
    return (await super.sort(files)).toSorted((a, b) => rankOf(a) - rankOf(b));
  }
}
