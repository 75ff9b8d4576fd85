import { FakeClock } from '@carrierarr/platform';
import * as fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { ApiBudgets, AWS_BUCKETS, BUDGET_SHARE } from '../../../apps/monitor/src/observe/api-budgets.js';
import { TokenBucket, WAITERS_MAX } from '../../../apps/monitor/src/observe/token-bucket.js';
import { unaborted } from './support.js';

let clock: FakeClock;
let taken: number[];
let bucket: TokenBucket;
beforeEach(() => {
  clock = new FakeClock();
  taken = [];
  bucket = new TokenBucket({ burst: 3, perSecond: 2 }, clock);
});
function take(signal = unaborted()): Promise<void> {
  return bucket.take(signal).then(() => void taken.push(clock.monotonicMs()));
}

describe('a budget of calls', () => {
  it('gives a burst at once and the rest as time brings it, in order', async () => {
    const all = [1, 2, 3, 4, 5, 6].map(() => take());
    await clock.advanceAsync(0);
    expect(taken).toEqual([0, 0, 0]);
    expect(bucket.waiting).toBe(3);
    await clock.advanceAsync(5_000);
    await Promise.all(all);
    expect(taken).toEqual([0, 0, 0, 500, 1000, 1500]);
    expect(clock.pendingTimers).toBe(0);
  });

  it('saves up no more than a burst', async () => {
    await clock.advanceAsync(3_600_000);
    const all = [1, 2, 3, 4].map(() => take());
    await clock.advanceAsync(0);
    expect(taken).toHaveLength(3);
    await clock.advanceAsync(500);
    await Promise.all(all);
  });

  it('lets go whoever is aborted, at no cost to the others', async () => {
    for (let at = 0; at < 3; at++) await take();
    const controller = new AbortController();
    const impatient = take(controller.signal);
    const patient = take();
    controller.abort(new Error('enough'));
    await expect(impatient).rejects.toThrow('enough');
    await clock.advanceAsync(500);
    await patient;
    expect(taken.at(-1)).toBe(500);
    await expect(take(controller.signal)).rejects.toThrow('enough');
  });

  it('keeps no timer for a line that has dissolved', async () => {
    for (let at = 0; at < 3; at++) await take();
    const controller = new AbortController();
    const waiting = take(controller.signal);
    expect(clock.pendingTimers).toBe(1);
    controller.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    expect(clock.pendingTimers).toBe(0);
  });

  it('refuses when too many wait', async () => {
    for (let at = 0; at < 3; at++) await take();
    const waiting = Array.from({ length: WAITERS_MAX }, () => take());
    await expect(take()).rejects.toThrow('Poll less often');
    await clock.advanceAsync(WAITERS_MAX * 500);
    await Promise.all(waiting);
  });

  it('never gives more than burst and rate allow in any span, whenever it is asked', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(2_000), fc.integer({ min: 1, max: 5 })), { maxLength: 30 }),
        async (asks) => {
          const time = new FakeClock();
          const limited = new TokenBucket({ burst: 3, perSecond: 2 }, time);
          const at: number[] = [];
          const pending: Promise<unknown>[] = [];
          for (const [pauseMs, count] of asks) {
            await time.advanceAsync(pauseMs);
            for (let n = 0; n < count; n++)
              pending.push(limited.take(unaborted()).then(() => at.push(time.monotonicMs())));
          }
          await time.advanceAsync(100_000);
          await Promise.all(pending);
          for (let from = 0; from < at.length; from++) {
            for (let to = from; to < at.length; to++) {
              const allowed = 3 + (((at[to] ?? 0) - (at[from] ?? 0)) / 1000) * 2;
              expect(to - from + 1).toBeLessThanOrEqual(allowed + 1e-6);
            }
          }
        },
      ),
      { numRuns: 25 },
    );
  });
});

describe('budgets of AWS', () => {
  it('are a quarter of what AWS documents', async () => {
    const budgets = new ApiBudgets(clock);
    const ec2 = budgets.of('ec2', 'DescribeInstances', 'eu-central-1');
    const documented = AWS_BUCKETS['ec2:DescribeInstances'];
    expect(documented).toMatchObject({ burst: 100, perSecond: 20 });
    for (let at = 0; at < 100 * BUDGET_SHARE; at++) await ec2.take(unaborted());
    const next = ec2.take(unaborted());
    expect(budgets.waiting).toBe(1);
    await clock.advanceAsync(1000 / (20 * BUDGET_SHARE));
    await next;
  });

  it('are one for operations that share a bucket, and one for each region', () => {
    const budgets = new ApiBudgets(clock);
    expect(budgets.of('ecs', 'ListTasks', 'a')).toBe(budgets.of('ecs', 'DescribeTasks', 'a'));
    expect(budgets.of('ecs', 'ListTasks', 'a')).not.toBe(budgets.of('ecs', 'ListTasks', 'b'));
    expect(budgets.of('ec2', 'DescribeInstances', 'a')).not.toBe(budgets.of('ec2', 'DescribeInstanceStatus', 'a'));
  });

  it('refuse an operation that nobody thought of', () => {
    expect(() => new ApiBudgets(clock).of('ec2', 'RunInstances', 'a')).toThrow('Add it to AWS_BUCKETS');
  });
});
