import { createMetrics, FakeClock, createLogger } from '@carrierarr/platform';
import { encodeEntry, Keys, PARTITIONS, partitionOf } from '@carrierarr/protocol';
import {
  CommandStore,
  defineScripts,
  ExecutionHistory,
  type HistoryBounds,
  OutputLog,
  Retention,
} from '@carrierarr/store';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { HistoryKeeper } from '../../../apps/runner/src/history/retention.js';
import { createRunnerMetrics } from '../../../apps/runner/src/metrics.js';
import { startRedis, type TestRedis } from '../../support/redis.js';

const HOUR = 3_600_000;
const keys = new Keys('t');
let redis: TestRedis;
let connection: Redis;
beforeAll(async () => {
  redis = await startRedis();
  connection = redis.client();
  defineScripts(connection);
});
afterAll(() => redis.stop());
beforeEach(() => connection.flushall());

const bounds = (overrides: Partial<HistoryBounds> = {}): HistoryBounds => ({
  ...{ entriesMax: 1000, bytesMax: 1 << 20, ageMaxMs: HOUR, executionsMs: HOUR },
  ...overrides,
});

function store(history = bounds()) {
  return new CommandStore({ connection, keys, history, queueLengthMax: 9, pendingTargetsMax: 6400, idempotencyMs: 1 });
}

/** Runs a command that writes some kilobytes. */
async function run(target: string, kilobytes: number, history = bounds()) {
  const s = store(history);
  const from = { subject: 's', address: 'a', gateway: 'g', idempotent: false };
  await s.submit({ ...from, target, command: 'x', args: [] });
  const claimed = await s.claim(target, { id: 'r', incarnation: 'i' });
  if (claimed.kind !== 'claimed') throw new Error(claimed.kind);
  const { fence, execution } = claimed;
  for (let sequence = 1; sequence <= kilobytes; sequence++) {
    const body = Buffer.alloc(1000, 'x');
    const entry = encodeEntry({
      kind: 'lines',
      execution: execution.id,
      sequence,
      timeMs: 1,
      runs: [{ stream: 'o', lines: 1 }],
      body,
    });
    await s.append(target, fence, sequence, 1, entry);
  }
  const ending = {
    outcome: 'succeeded',
    exitCode: 0,
    lines: kilobytes,
    truncatedLines: 0,
    sequence: kilobytes,
  } as const;
  await s.finish(target, execution.id, fence, ending);
  return execution.id;
}

/** As if the target had last been active `ms` ago. */
async function age(target: string, ms: number) {
  await connection.zadd(keys.targets(partitionOf(target)), (await store().redisNowMs()) - ms, target);
}

function retention(totalBytesMax = 1 << 30, history = bounds()) {
  return new Retention({ connection, keys, history, totalBytesMax });
}

describe('Retention', () => {
  it('removes the logs of the least recently active targets until all are within the bound', async () => {
    for (const target of ['a', 'b', 'c']) await run(target, 50);
    await age('b', 3000);
    await age('c', 2000);
    await age('a', 1000);
    const r = retention(100_000);
    const before = await r.totalBytes();
    expect(before).toBeGreaterThan(150_000);
    const report = await r.trimTotal();
    expect(report.targets).toEqual(['b', 'c']);
    expect(await r.totalBytes()).toBe(before - report.bytes);
    expect(await r.totalBytes()).toBeLessThan(100_000);
  });

  it('keeps epoch and offsets of a log it removed, so that what follows is numbered on', async () => {
    await run('a', 20);
    const log = new OutputLog(connection, keys);
    const before = await log.bounds('a');
    await retention(0).trimTotal();
    expect(await log.bounds('a')).toEqual({ ...before, first: before.last + 1 });
    await run('a', 1);
    const after = await log.bounds('a');
    expect(after).toEqual({ epoch: before.epoch, first: before.last + 1, last: before.last + 3 });
    const usage = Number(await connection.hget(keys.usage(partitionOf('a')), 'a'));
    expect(usage).toBe(Number(await connection.hget(keys.logMeta('a'), 'bytes')));
  });

  it('removes what nobody has added to for longer than its age', async () => {
    await run('old', 20);
    await run('new', 20);
    await age('old', 2 * HOUR);
    const r = retention();
    for (const target of ['old', 'new']) await r.tidyPartition(partitionOf(target));
    expect(await connection.exists(keys.log('old'))).toBe(0);
    expect(await connection.exists(keys.log('new'))).toBe(1);
    expect(await connection.hexists(keys.usage(partitionOf('old')), 'old')).toBe(0);
  });

  it('forgets the ids of executions whose records have expired, and targets of which nothing is left', async () => {
    const history = bounds({ executionsMs: 1, ageMaxMs: 1 });
    const id = await run('gone', 5, history);
    await connection.del(keys.execution(id));
    await age('gone', 2 * HOUR);
    const p = partitionOf('gone');
    const old = retention(1 << 30, history);
    expect(await old.tidyPartition(p)).toMatchObject({ executions: 1, targets: 1 });
    expect(await connection.keys('t:*')).toEqual([keys.partitionSequence(p)]);
    expect((await new ExecutionHistory(connection, keys).targets(10)).length).toBe(0);
  });

  it('keeps targets and executions that still have something to run', async () => {
    const s = store();
    const from = { subject: 's', address: 'a', gateway: 'g', idempotent: false };
    await s.submit({ ...from, target: 'w', command: 'x', args: [] });
    await age('w', 5 * HOUR);
    await retention(0, bounds({ executionsMs: 0, ageMaxMs: 0 })).tidyPartition(partitionOf('w'));
    expect(await s.claim('w', { id: 'r', incarnation: 'i' })).toMatchObject({ kind: 'claimed' });
    await age('w', 5 * HOUR);
    await retention(0, bounds({ executionsMs: 0, ageMaxMs: 0 })).tidyPartition(partitionOf('w'));
    expect(await s.lease('w')).toMatchObject({ state: 'running' });
  });

  it('opens a target that was closed after a loss and has nothing to run', async () => {
    const s = store();
    const from = { subject: 's', address: 'a', gateway: 'g', idempotent: false };
    await s.submit({ ...from, target: 'w', command: 'x', args: [] });
    await s.claim('w', { id: 'r', incarnation: 'i' });
    const lease = await s.lease('w');
    if (lease === undefined) throw new Error('no lease');
    expect(await s.reap(lease, 0)).toBe('lost');
    await retention().tidyPartition(partitionOf('w'));
    expect(await s.leases(partitionOf('w'))).toEqual([]);
  });
});

describe('HistoryKeeper', () => {
  it('lets one runner tidy at a time, and has gone through all partitions after some rounds', async () => {
    await run('old', 20);
    await age('old', 2 * HOUR);
    const metrics = createRunnerMetrics(createMetrics({ program: 't', version: '0', hasProcessMetrics: false }), {
      ...{ running: () => 0, spoolBytes: () => 0, appendsInFlight: () => 0 },
    });
    const clock = new FakeClock();
    const logger = createLogger({ program: 't', level: 'silent' });
    const keeper = new HistoryKeeper({ retention: retention(), owner: 'me', clock, metrics, logger });
    await connection.set(keys.retentionLock(), 'another', 'PX', 60_000);
    await keeper.round();
    expect(await connection.get(keys.retentionLock())).toBe('another');
    for (let round = 0; round < PARTITIONS; round++) {
      await connection.del(keys.retentionLock());
      await keeper.round();
      clock.advance(60_000);
    }
    expect(await connection.exists(keys.log('old'))).toBe(0);
    expect((await metrics.trimmedBytes.get()).values[0]?.value).toBeGreaterThan(20_000);
    await keeper.stop();
  });
});
