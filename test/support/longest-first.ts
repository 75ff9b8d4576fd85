/**
 * The files that take longest begin first: one of minutes that begins last keeps one core busy, and all who wait. Vitest goes
 * by what it remembers of earlier runs, and a fresh checkout has none.
 */
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Those of half a minute and more, the longest first, as measured. */
const LONG = [
  'scenarios/documents',
  'scenarios/monitor-aws',
  'scripts/ec2-worker',
  'scenarios/agents-outage',
  'scenarios/old-agents',
  'scenarios/mixed-versions',
  'scenarios/crash',
  'scenarios/monitor-fleet',
  'monitor/agents/amqp',
  'reconcile/simulation/simulation',
  'scripts/fargate-worker',
  'scripts/llm-worker',
  'scenarios/redis-outage',
  'runner/redis-outage',
  'runner/runner-process',
  'runner/runner',
  'scenarios/command-line',
].map((name) => `test/${name}.test.ts`);

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
