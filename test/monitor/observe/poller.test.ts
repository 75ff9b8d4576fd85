import { FakeClock } from '@carrierarr/platform';
import type { SourceReport, WorkerRecord } from '@carrierarr/protocol';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DEADLINE_MS_MIN, Poller, type StatusChange } from '../../../apps/monitor/src/observe/poller.js';
import { type PollResult, SourceError } from '../../../apps/monitor/src/observe/source.js';
import { type Fleet, GONE } from '../../../apps/monitor/src/observe/tombstones.js';
import { metric, observing, worker } from './support.js';

const START_MS = Date.UTC(2025, 0, 1);
const a = worker('a');
const b = worker('b');

let clock: FakeClock;
let context: ReturnType<typeof observing>;
let poller: Poller;
/** When polls began, ms after the start. */
let polls: number[];
let published: { report: SourceReport; change: StatusChange; atMs: number }[];
/** What the source does. */
let answer: (signal: AbortSignal) => Promise<readonly WorkerRecord[]>;
/** Throws while Redis is away. */
let take: () => void;

beforeEach(() => {
  clock = new FakeClock(START_MS);
  context = observing(clock);
  polls = [];
  published = [];
  answer = () => Promise.resolve([a]);
  take = () => {};
});
afterEach(() => poller.stop());

async function start(
  known: Fleet = new Map(),
  options: { pollMs?: number; report?: SourceReport } = {},
): Promise<void> {
  poller = new Poller({
    source: {
      name: 'ec2/test',
      hasTombstones: true,
      async poll(signal): Promise<PollResult> {
        polls.push(clock.monotonicMs());
        return { kind: 'complete', records: await answer(signal), calls: 1 };
      },
    },
    pollMs: options.pollMs ?? 30_000,
    pollMsMax: 60_000,
    ...context,
    random: () => 0.5,
    onPoll(report, change) {
      return Promise.resolve().then(() => {
        take();
        published.push({ report, change, atMs: clock.monotonicMs() });
      });
    },
  });
  poller.start(known, options.report);
  await clock.advanceAsync(0);
}

const changes = () =>
  published.map(({ change: { upserts, removed } }) => [upserts.map(({ id, state }) => `${id} ${state}`), removed]);

describe('a poller', () => {
  it('polls at once, then at its interval, and reports each time', async () => {
    await start();
    await clock.advanceAsync(60_000);
    expect(polls).toEqual([0, 30_000, 60_000]);
    expect(changes()).toEqual([
      [['a running'], []],
      [[], []],
      [[], []],
    ]);
    expect(published[1]?.report).toEqual({
      source: 'ec2/test',
      ok: true,
      polled_at: new Date(START_MS + 30_000).toISOString(),
      interval_ms: 30_000,
      calls: 1,
      workers: 1,
    });
  });

  it('that fails at first leaves what another leader saw as old as it is, and no older', async () => {
    const report = {
      ...{ source: 'ec2/test', ok: true, interval_ms: 45_000, calls: 1, workers: 1 },
      polled_at: new Date(START_MS - 20_000).toISOString(),
    };
    answer = () => Promise.reject(new SourceError('No answer.', { calls: 1 }));
    await start(new Map([['a', { record: a, misses: 0 }]]), { report });
    expect(published.map((each) => each.report)).toEqual([
      { ...report, ok: false, error: 'No answer.', calls: 1, workers: 1 },
    ]);
    expect(await metric(context.registry, 'carrierarr_monitor_source_age_seconds', { source: 'ec2/test' })).toBe(20);
  });

  it('counts its interval from the begin of a poll, however long that took', async () => {
    answer = async () => {
      await new Promise<void>((resolve) => void clock.setTimeout(resolve, 12_000));
      return [a];
    };
    await start();
    await clock.advanceAsync(90_000);
    expect(polls).toEqual([0, 30_000, 60_000, 90_000]);
    expect(published[0]?.report.polled_at).toBe(new Date(START_MS).toISOString());
  });

  it('never polls twice at once, and says how long its polls really are apart', async () => {
    let running = 0;
    let most = 0;
    answer = async () => {
      most = Math.max(most, (running += 1));
      await new Promise<void>((resolve) => void clock.setTimeout(resolve, 50_000));
      running -= 1;
      return [a];
    };
    await start();
    poller.nudge();
    await clock.advanceAsync(200_000);
    expect(most).toBe(1);
    expect(polls).toEqual([0, 50_000, 100_000, 150_000, 200_000]);
    expect(published[0]?.report.interval_ms).toBe(50_000);
  });

  it('polls faster while a worker is in transition, and reports its plain interval', async () => {
    answer = () => Promise.resolve([worker('a', { state: clock.monotonicMs() < 10_000 ? 'pending' : 'running' })]);
    await start();
    await clock.advanceAsync(40_000);
    expect(polls).toEqual([0, 5_000, 10_000, 40_000]);
    expect(published[0]?.report.interval_ms).toBe(30_000);
  });

  it('polls less often when nothing changes for long, and says so', async () => {
    await start();
    await clock.advanceAsync(3_600_000);
    const [before, last] = polls.slice(-2);
    expect((last ?? 0) - (before ?? 0)).toBe(60_000);
    expect(published.at(-1)?.report.interval_ms).toBe(60_000);
  });

  it('polls soon when nudged, once for many nudges, and not more than once a second', async () => {
    await start();
    await clock.advanceAsync(10_000);
    for (let at = 0; at < 100; at++) poller.nudge();
    await clock.advanceAsync(0);
    expect(polls).toEqual([0, 10_000]);
    for (let at = 0; at < 100; at++) poller.nudge();
    await clock.advanceAsync(999);
    expect(polls).toEqual([0, 10_000]);
    await clock.advanceAsync(1);
    expect(polls).toEqual([0, 10_000, 11_000]);
  });

  it('polls once more when it is nudged during a poll: that may have asked too early', async () => {
    answer = async () => {
      await new Promise<void>((resolve) => void clock.setTimeout(resolve, 5_000));
      return [a];
    };
    await start();
    await clock.advanceAsync(2_000);
    poller.nudge();
    await clock.advanceAsync(3_000);
    expect(polls).toEqual([0, 5_000]);
  });

  it('polls fast for a minute after a command was given', async () => {
    await start();
    await clock.advanceAsync(12_000);
    poller.expectChange();
    await clock.advanceAsync(118_000);
    expect(polls.filter((ms) => ms > 0 && ms <= 72_000)).toEqual([
      ...[12_000, 17_000, 22_000, 27_000, 32_000, 37_000, 42_000, 47_000, 52_000, 57_000, 62_000, 67_000],
    ]);
    expect(polls.filter((ms) => ms > 72_000)).toEqual([97_000, 127_000]);
  });

  it('goes on from what is known, and publishes only what differs', async () => {
    answer = () => Promise.resolve([a, b]);
    await start(new Map([['a', { record: a, misses: 0 }]]));
    expect(changes()).toEqual([[['b running'], []]]);
  });

  it('shows its source and its workers in metrics', async () => {
    answer = () => Promise.resolve([a, worker('c', { state: clock.monotonicMs() === 0 ? 'stopped' : 'running' })]);
    await start();
    const workers = (state: string) => metric(context.registry, 'carrierarr_monitor_workers', { state });
    expect([await workers('running'), await workers('stopped')]).toEqual([1, 1]);
    await clock.advanceAsync(42_000);
    expect([await workers('running'), await workers('stopped')]).toEqual([2, undefined]);
    expect(await metric(context.registry, 'carrierarr_monitor_source_age_seconds', { source: 'ec2/test' })).toBe(12);
    await poller.stop();
    expect(await metric(context.registry, 'carrierarr_monitor_source_age_seconds')).toBeUndefined();
    expect(await workers('running')).toBeUndefined();
  });

  it('counts failed polls from 0 on, so that the first one is seen as an increase', async () => {
    await start();
    expect(await metric(context.registry, 'carrierarr_monitor_poll_errors_total', { source: 'ec2/test' })).toBe(0);
  });

  it('stops in the middle of a poll, and does nothing after', async () => {
    answer = (signal) =>
      new Promise((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason as Error));
      });
    await start();
    await poller.stop();
    await clock.advanceAsync(600_000);
    expect(published).toEqual([]);
    expect(polls).toEqual([0]);
    expect(clock.pendingTimers).toBe(0);
  });
});

describe('a poll that fails', () => {
  const fail = () => Promise.reject(new SourceError('No. Try again.', { calls: 3 }));

  it('changes nothing of what is known and says so, with why', async () => {
    await start();
    answer = fail;
    await clock.advanceAsync(30_000);
    expect(published[1]).toMatchObject({
      report: {
        ok: false,
        error: 'No. Try again.',
        calls: 3,
        workers: 1,
        polled_at: new Date(START_MS).toISOString(),
        interval_ms: 30_000,
      },
      change: { upserts: [], removed: [] },
    });
    expect(await metric(context.registry, 'carrierarr_monitor_poll_errors_total')).toBe(1);
  });

  it('says nothing of a complete poll when there was none', async () => {
    answer = fail;
    await start();
    expect(published[0]?.report).not.toHaveProperty('polled_at');
  });

  it('is followed by others ever later, at most five minutes apart, until one succeeds', async () => {
    answer = fail;
    await start();
    await clock.advanceAsync(3_600_000);
    const gaps = polls.slice(1).map((ms, at) => ms - (polls[at] ?? 0));
    expect(gaps.slice(0, 5)).toEqual([22_500, 45_000, 90_000, 180_000, 225_000]);
    expect(Math.max(...gaps)).toBeLessThanOrEqual(300_000);
    answer = () => Promise.resolve([a]);
    await clock.advanceAsync(300_000);
    const [before, last] = polls.slice(-2);
    expect((last ?? 0) - (before ?? 0)).toBe(30_000);
  });

  it('between two that miss a worker leaves it one miss away from gone', async () => {
    answer = () => Promise.resolve([a, b]);
    await start();
    answer = () => Promise.resolve([a]);
    await clock.advanceAsync(30_000);
    answer = fail;
    await clock.advanceAsync(30_000);
    expect(published.at(-1)?.change.upserts).toEqual([]);
    answer = () => Promise.resolve([a]);
    await clock.advanceAsync(30_000);
    expect(published.at(-1)?.change.upserts).toMatchObject([{ id: 'b', state: GONE }]);
  });

  it('is one that hangs, too; and it is not asked again while it does', async () => {
    const release: (() => void)[] = [];
    answer = () => new Promise((resolve) => void release.push(() => resolve([a])));
    await start();
    await clock.advanceAsync(DEADLINE_MS_MIN);
    expect(published[0]?.report.error).toContain('was given up after 120 s');
    await clock.advanceAsync(300_000);
    expect(polls).toEqual([0]);
    expect(published.at(-1)?.report.error).toContain('has not ended yet');
    answer = () => Promise.resolve([b]);
    for (const letGo of release) letGo();
    await clock.advanceAsync(300_000);
    expect(changes().at(-1)).toEqual([[], []]);
    expect([...poller.fleet.keys()]).toEqual(['b']);
  });
});

describe('a result that cannot be published', () => {
  it('is tried again until it can, before anything else is asked', async () => {
    let left = 5;
    take = () => {
      if (left-- > 0) throw new Error('Redis is away');
    };
    await start();
    await clock.advanceAsync(20_000);
    expect(polls).toEqual([0]);
    expect(changes()).toEqual([[['a running'], []]]);
    expect(published[0]?.report.polled_at).toBe(new Date(START_MS).toISOString());
    expect(await metric(context.registry, 'carrierarr_monitor_publish_errors_total')).toBe(5);
    await clock.advanceAsync(10_000);
    expect(polls).toEqual([0, 30_000]);
  });

  it('is not known: the next poll is compared with what was published', async () => {
    await start();
    take = () => {
      throw new Error('Redis is away');
    };
    answer = () => Promise.resolve([a, b]);
    await clock.advanceAsync(60_000);
    expect([...poller.fleet.keys()]).toEqual(['a']);
    expect(await metric(context.registry, 'carrierarr_monitor_source_age_seconds')).toBe(60);
    take = () => {};
    await clock.advanceAsync(5_000);
    expect(published[1]?.change.upserts).toEqual([b]);
    expect([...poller.fleet.keys()]).toEqual(['a', 'b']);
  });

  it('does not keep the poller from stopping', async () => {
    take = () => {
      throw new Error('Redis is away');
    };
    await start();
    await poller.stop();
    expect(published).toEqual([]);
    expect(poller.fleet.size).toBe(0);
  });
});

it('a warning is logged when it changes, not at every poll', async () => {
  const warnings = ['no permission', 'no permission', 'another'];
  poller = new Poller({
    source: {
      name: 'x',
      hasTombstones: true,
      poll: () => Promise.resolve({ kind: 'complete', records: [], calls: 0, warning: warnings.shift() ?? 'another' }),
    },
    ...{ pollMs: 1_000, pollMsMax: 1_000, ...context, onPoll: () => Promise.resolve() },
  });
  poller.start(new Map());
  await clock.advanceAsync(5_000);
  const logged = context.lines.map((line) => (JSON.parse(line) as { warning: string }).warning);
  expect(logged).toEqual(['no permission', 'another']);
});
