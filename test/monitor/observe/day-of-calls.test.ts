/**
 * A day of polling ten thousand workers, in virtual time: the real sources, pollers, budgets and SDK commands; what would
 * go over the wire is answered at once. Each call is held against buckets of a quarter of what AWS documents.
 */
import { FakeClock } from '@carrierarr/platform';
import { describe, expect, it } from 'vitest';
import { AWS_BUCKETS } from '../../../apps/monitor/src/observe/api-budgets.js';
import { InstanceMetrics } from '../../../apps/monitor/src/observe/cloudwatch.js';
import { Ec2Source } from '../../../apps/monitor/src/observe/ec2.js';
import { EcsSource } from '../../../apps/monitor/src/observe/ecs.js';
import { Poller } from '../../../apps/monitor/src/observe/poller.js';
import type { Source } from '../../../apps/monitor/src/observe/source.js';
import { observing, REGION, unaborted } from './support.js';

const HOUR_MS = 3_600_000;
const WORKERS = 10_000;
const SHARE = 0.25;

/** What a quarter of each of AWS' buckets would say to the calls. */
class Ledger {
  readonly calls = new Map<string, number>();
  readonly refused: string[] = [];
  readonly #buckets = new Map<string, { tokens: number; atMs: number }>();

  constructor(readonly clock: FakeClock) {}

  call(action: string): void {
    this.calls.set(action, (this.calls.get(action) ?? 0) + 1);
    const documented = AWS_BUCKETS[action];
    if (!documented) throw new Error(`nobody thought of ${action}`);
    const nowMs = this.clock.monotonicMs();
    const most = documented.burst * SHARE;
    const bucket = this.#buckets.get(documented.bucket) ?? { tokens: most, atMs: nowMs };
    const tokens = Math.min(most, bucket.tokens + ((nowMs - bucket.atMs) / 1000) * documented.perSecond * SHARE);
    // Sums of fractions are off by a hair.
    if (tokens < 1 - 1e-6) this.refused.push(`${action} at ${nowMs} ms`);
    this.#buckets.set(documented.bucket, { tokens: tokens - 1, atMs: nowMs });
  }

  total(action: string): number {
    return this.calls.get(action) ?? 0;
  }

  /** Share of the calls that AWS would allow in a day. */
  shareOfDay(action: string, ms: number): number {
    return this.total(action) / ((AWS_BUCKETS[action]?.perSecond ?? 0) * (ms / 1000));
  }
}

/** As much of an SDK command as a transport needs. */
interface Command {
  readonly input: Record<string, unknown>;
  readonly middlewareStack: {
    add(middleware: (next: unknown) => unknown, options: { name: string; step: 'finalizeRequest' }): void;
    resolve(handler: () => Promise<unknown>, context: object): (args: unknown) => Promise<{ output: unknown }>;
  };
}

/** Stands for an SDK client: runs a command's own middleware, the budget's among it, and answers in place of AWS. */
function transport(ledger: Ledger, service: string, answer: (operation: string, input: Command['input']) => unknown) {
  return {
    async send(command: Command): Promise<unknown> {
      const operation = command.constructor.name.replace(/Command$/, '');
      command.middlewareStack.add((next) => next, { name: 'retryMiddleware', step: 'finalizeRequest' });
      const handler = command.middlewareStack.resolve(() => {
        ledger.call(`${service}:${operation}`);
        return Promise.resolve({ output: answer(operation, command.input) });
      }, {});
      return (await handler({ input: command.input })).output;
    },
  } as never;
}

/** Pages of as many instances as EC2 would send; each holds one, as only the number of calls matters. */
function answerEc2(operation: string, input: Command['input'], state: string): unknown {
  const page = Number(input['NextToken'] ?? 0);
  const next = page + 1 < WORKERS / Number(input['MaxResults']) ? { NextToken: String(page + 1) } : {};
  const instance = { InstanceId: `i-${page}`, State: { Name: state } };
  return operation === 'DescribeInstances'
    ? { Reservations: [{ Instances: [instance] }], ...next }
    : { InstanceStatuses: [instance], ...next };
}

function answerEcs(operation: string, input: Command['input'], state: string): unknown {
  if (operation === 'DescribeTasks') {
    return { tasks: (input['tasks'] as string[]).map((taskArn) => ({ taskArn, lastStatus: state })) };
  }
  if (input['desiredStatus'] === 'STOPPED') return { taskArns: [] };
  const [page, size] = [Number(input['nextToken'] ?? 0), Number(input['maxResults'])];
  const taskArns = Array.from({ length: size }, (_, at) => `arn:aws:ecs:r:1:task/prod/${page}-${at}`);
  return { taskArns, ...(page + 1 < WORKERS / size ? { nextToken: String(page + 1) } : {}) };
}

/** Lets time go by, but none while a poll is busy with anything else than waiting for its budget. */
async function pass(clock: FakeClock, ms: number, isBusy: () => boolean): Promise<void> {
  const untilMs = clock.monotonicMs() + ms;
  while (clock.monotonicMs() < untilMs) {
    await clock.advanceAsync(Math.min(200, untilMs - clock.monotonicMs()));
    while (isBusy()) await new Promise((resolve) => void setImmediate(resolve));
  }
}

function day(what: { source: 'ec2' | 'ecs'; state: () => string; pollMs?: number }) {
  const clock = new FakeClock();
  const ledger = new Ledger(clock);
  const context = observing(clock);
  let polling = 0;
  const inner: Source =
    what.source === 'ec2'
      ? new Ec2Source({
          ...context,
          client: transport(ledger, 'ec2', (operation, input) => answerEc2(operation, input, what.state())),
          ...{ region: REGION, tags: { fleet: 'llm' }, statusEveryMs: 300_000, interruptionOf: () => undefined },
        })
      : new EcsSource({
          ...context,
          client: transport(ledger, 'ecs', (operation, input) => answerEcs(operation, input, what.state())),
          ...{ region: REGION, cluster: 'prod' },
        });
  const polls: number[] = [];
  const errors: (string | undefined)[] = [];
  const source: Source = {
    name: inner.name,
    hasTombstones: true,
    async poll(signal) {
      polls.push(clock.monotonicMs());
      polling += 1;
      try {
        return await inner.poll(signal);
      } finally {
        polling -= 1;
      }
    },
  };
  const pollMs = what.pollMs ?? 30_000;
  const poller = new Poller({
    ...{ source, pollMs, pollMsMax: 2 * pollMs, ...context },
    onPoll(report) {
      if (!report.ok) errors.push(report.error);
      return Promise.resolve();
    },
  });
  const run = async (ms: number, each?: (poller: Poller, minute: number) => void) => {
    poller.start(new Map());
    for (let minute = 0; minute * 60_000 < ms; minute++) {
      each?.(poller, minute);
      await pass(clock, 60_000, () => polling > 0 && context.budgets.waiting === 0);
    }
    await poller.stop();
  };
  return { ledger, polls, errors, run };
}

describe('AWS calls at ten thousand workers stay within a quarter of the documented buckets', () => {
  it('over a day on EC2, quiet by night, restless by day, hurried by events', { timeout: 120_000 }, async () => {
    let state = 'running';
    const { ledger, polls, errors, run } = day({ source: 'ec2', state: () => state });
    const dayMs = 24 * HOUR_MS;
    await run(dayMs, (poller, minute) => {
      const hour = Math.floor(minute / 60);
      // From nine to twelve something starts in every other minute; each change comes as an event, too.
      const isRestless = hour >= 9 && hour < 12;
      state = isRestless && minute % 2 === 0 ? 'pending' : 'running';
      if (isRestless) poller.nudge();
      if (isRestless) poller.expectChange();
    });
    expect(errors).toEqual([]);
    expect(ledger.refused).toEqual([]);
    // Quiet hours are polled each minute, the restless three each 5 s: and nothing but ⌈N/1000⌉ calls a poll.
    expect(ledger.total('ec2:DescribeInstances')).toBe(polls.length * 10);
    expect(polls.length).toBeGreaterThan(21 * 60 + 3 * 60 * 11);
    expect(ledger.shareOfDay('ec2:DescribeInstances', dayMs)).toBeLessThan(SHARE / 5);
    expect(ledger.total('ec2:DescribeInstanceStatus')).toBeLessThanOrEqual((dayMs / 300_000 + 1) * 10);
  });

  it(
    'over twenty minutes on ECS that never rests: the budget makes polls slower, not wrong',
    { timeout: 180_000 },
    async () => {
      const { ledger, polls, errors, run } = day({ source: 'ecs', state: () => 'PENDING', pollMs: 10_000 });
      await run(HOUR_MS);
      expect(errors).toEqual([]);
      expect(ledger.refused).toEqual([]);
      // 100 pages of running tasks, one of stopped ones, 100 descriptions.
      expect(ledger.total('ecs:ListTasks') + ledger.total('ecs:DescribeTasks')).toBeLessThanOrEqual(polls.length * 201);
      expect(polls.length).toBeGreaterThan(25);
    },
  );

  it('when CloudWatch is asked for all of them at once', async () => {
    const clock = new FakeClock();
    const ledger = new Ledger(clock);
    const context = observing(clock);
    const client = transport(ledger, 'cloudwatch', () => ({ MetricDataResults: [] }));
    const metrics = new InstanceMetrics({ ...context, client, region: REGION, periodSeconds: 60 });
    const refreshed = metrics.refresh(
      Array.from({ length: WORKERS }, (_, at) => `i-${at}`),
      unaborted(),
    );
    await clock.advanceAsync(30_000);
    expect(await refreshed).toBe(80);
    expect(ledger.total('cloudwatch:GetMetricData')).toBe(80);
    expect(ledger.refused).toEqual([]);
  });
});
