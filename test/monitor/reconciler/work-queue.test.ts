import { createMetrics, FakeClock } from '@carrierarr/platform';
import { array, assert, constantFrom, nat, oneof, property, record, constant } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createQueueMetrics } from '../../../apps/monitor/src/reconciler/metrics.js';
import {
  PRIORITIES,
  type Priority,
  RETRY_BASE_MS,
  RETRY_CAP_MS,
  WorkQueue,
} from '../../../apps/monitor/src/reconciler/work-queue.js';
import { metricValues } from '../../support/metric.js';

function setUp(more: { random?: () => number; keysMax?: number } = {}) {
  const clock = new FakeClock();
  const registry = createMetrics({ program: 'test', version: 'test', hasProcessMetrics: false });
  const metrics = createQueueMetrics(registry, 'test', () => clock.monotonicMs());
  let ready = 0;
  const queue = new WorkQueue({ clock, metrics, onReady: () => (ready += 1), ...more });
  const metric = async (name: string) => {
    const [first] = await metricValues(registry, `workqueue_${name}`, { name: 'test' });
    return first?.value;
  };
  /** Takes all there is, finishing each at once. */
  const drain = () => {
    const keys: string[] = [];
    for (let item = queue.take(); item !== undefined; item = queue.take()) {
      keys.push(item.key);
      queue.done(item.key);
    }
    return keys;
  };
  return { clock, queue, metric, drain, ready: () => ready };
}

describe('a work queue', () => {
  it('hands a key out once, however often it was added', () => {
    const { queue, drain } = setUp();
    for (let i = 0; i < 5; i++) queue.add('a', 'drift');
    queue.add('b', 'drift');
    expect(queue.depth).toBe(2);
    expect(drain()).toEqual(['a', 'b']);
  });

  it('does not hand a key out while it is worked on, and once more afterwards if it was added meanwhile', () => {
    const { queue } = setUp();
    queue.add('a', 'drift');
    expect(queue.take()?.key).toBe('a');
    queue.add('a', 'drift');
    queue.add('a', 'user');
    expect(queue.take()).toBeUndefined();
    queue.done('a');
    expect(queue.take()).toEqual({ key: 'a', priority: 'user' });
    queue.done('a');
    expect(queue.take()).toBeUndefined();
  });

  it('hands urgent keys out first, those of one priority in the order they came, and moves a key up', () => {
    const { queue, drain } = setUp();
    queue.add('r', 'resync');
    queue.add('d1', 'drift');
    queue.add('i', 'interruption');
    queue.add('d2', 'drift');
    queue.add('u', 'user');
    queue.add('d2', 'user');
    queue.add('u', 'resync');
    expect(drain()).toEqual(['u', 'd2', 'i', 'd1', 'r']);
  });

  it('adds a key later, at the earlier of two times', () => {
    const { queue, clock, drain } = setUp();
    queue.addAfter('a', 1_000, 'drift');
    queue.addAfter('a', 200, 'resync');
    queue.addAfter('a', 5_000, 'drift');
    queue.addAfter('b', 500, 'drift');
    clock.advance(199);
    expect(drain()).toEqual([]);
    clock.advance(1);
    expect(drain()).toEqual(['a']);
    clock.advance(10_000);
    expect(drain()).toEqual(['b']);
  });

  it('brings a key that fails back ever later, up to five minutes, and soon again once that is forgotten', () => {
    const { queue, clock, drain } = setUp({ random: () => 0.999_999 });
    const delayOfNext = () => {
      queue.retry('a', 'drift');
      const beganMs = clock.monotonicMs();
      while (drain().length === 0) clock.advance(10);
      return clock.monotonicMs() - beganMs;
    };
    const delays = Array.from({ length: 13 }, delayOfNext);
    expect(delays[0]).toBeLessThanOrEqual(RETRY_BASE_MS);
    expect(delays[1]).toBeGreaterThan(RETRY_BASE_MS);
    expect(delays[5]).toBeGreaterThan(delays[4] as number);
    expect(delays.at(-1)).toBeGreaterThan(RETRY_CAP_MS - 100);
    expect(delays.at(-1)).toBeLessThanOrEqual(RETRY_CAP_MS);
    queue.forget('a');
    expect(delayOfNext()).toBeLessThanOrEqual(RETRY_BASE_MS);
  });

  it('refuses keys beyond its bound and counts them', async () => {
    const { queue, metric, drain } = setUp({ keysMax: 3 });
    for (const key of ['a', 'b', 'c', 'd', 'e']) queue.add(key, 'drift');
    queue.addAfter('f', 10, 'drift');
    expect(await metric('refused_total')).toBe(3);
    expect(drain()).toEqual(['a', 'b', 'c']);
  });

  it('hands out nothing once it is closed', () => {
    const { queue, clock } = setUp();
    queue.add('a', 'user');
    queue.addAfter('b', 10, 'user');
    queue.close();
    clock.advance(100);
    expect(queue.take()).toBeUndefined();
    expect(clock.pendingTimers).toBe(0);
  });

  it("tells its metrics under controller-runtime's names", async () => {
    const { queue, clock, metric } = setUp({ random: () => 0.5 });
    queue.add('a', 'drift');
    queue.add('b', 'drift');
    queue.add('b', 'drift');
    expect(await metric('depth')).toBe(2);
    expect(await metric('adds_total')).toBe(2);
    queue.take();
    clock.advance(3_000);
    queue.take();
    clock.advance(1_000);
    expect(await metric('depth')).toBe(0);
    expect(await metric('unfinished_work_seconds')).toBe(5);
    expect(await metric('longest_running_processor_seconds')).toBe(4);
    queue.retry('a', 'drift');
    expect(await metric('retries_total')).toBe(1);
    queue.done('a');
    queue.done('b');
    expect(await metric('unfinished_work_seconds')).toBe(0);
    expect(await metric('longest_running_processor_seconds')).toBe(0);
  });
});

// --- against a model ---------------------------------------------------------------------------------------------------

const KEYS = ['a', 'b', 'c', 'd', 'e'];
const key = constantFrom(...KEYS);
const priority = constantFrom(...PRIORITIES);
const steps = array(
  oneof(
    record({ do: constant('add' as const), key, priority }),
    record({ do: constant('addAfter' as const), key, priority, ms: nat(400) }),
    record({ do: constant('take' as const) }),
    record({ do: constant('done' as const), which: nat(4) }),
    record({ do: constant('advance' as const), ms: nat(300) }),
  ),
  { maxLength: 120 },
);

it('behaves like the plainest possible queue, whatever is done to it in whatever order', () => {
  assert(
    property(steps, (given) => {
      const { queue, clock } = setUp();
      const rank = (one: Priority) => PRIORITIES.indexOf(one);
      // Waiting keys in the order in which each got its present priority.
      let waiting: { key: string; priority: Priority }[] = [];
      const working = new Map<string, Priority | undefined>();
      const later = new Map<string, { dueMs: number; priority: Priority }>();
      const add = (name: string, wanted: Priority) => {
        if (working.has(name)) {
          const before = working.get(name);
          working.set(name, before !== undefined && rank(before) < rank(wanted) ? before : wanted);
          return;
        }
        const before = waiting.find((each) => each.key === name);
        if (before !== undefined && rank(before.priority) <= rank(wanted)) return;
        waiting = [...waiting.filter((each) => each.key !== name), { key: name, priority: wanted }];
      };
      for (const step of given) {
        switch (step.do) {
          case 'add':
            queue.add(step.key, step.priority);
            add(step.key, step.priority);
            break;
          case 'addAfter': {
            queue.addAfter(step.key, step.ms, step.priority);
            if (step.ms === 0) add(step.key, step.priority);
            else {
              const before = later.get(step.key);
              const dueMs = Math.min(before?.dueMs ?? Infinity, clock.monotonicMs() + step.ms);
              const urgent = before !== undefined && rank(before.priority) < rank(step.priority);
              later.set(step.key, { dueMs, priority: urgent ? before.priority : step.priority });
            }
            break;
          }
          case 'take': {
            const [first] = waiting.toSorted((a, b) => rank(a.priority) - rank(b.priority));
            expect(queue.take()).toEqual(first);
            if (first === undefined) break;
            waiting = waiting.filter((each) => each !== first);
            working.set(first.key, undefined);
            break;
          }
          case 'done': {
            const name = [...working.keys()][step.which];
            if (name === undefined) break;
            queue.done(name);
            const again = working.get(name);
            working.delete(name);
            if (again !== undefined) add(name, again);
            break;
          }
          case 'advance': {
            clock.advance(step.ms);
            const due = [...later].filter(([, { dueMs }]) => dueMs <= clock.monotonicMs());
            for (const [name, { priority: wanted }] of due.toSorted(([, a], [, b]) => a.dueMs - b.dueMs)) {
              later.delete(name);
              add(name, wanted);
            }
            break;
          }
        }
        expect(queue.depth).toBe(waiting.length);
        expect([...queue.processing.keys()]).toEqual([...working.keys()]);
        expect(queue.delayed).toBe(later.size);
      }
    }),
    { numRuns: 500 },
  );
});
