import { defineScripts, REMOVALS_MAX, WorkerStatusStore } from '@carrierarr/store';
import { Keys } from '@carrierarr/protocol';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startRedis, type TestRedis } from '../support/redis.js';
import { until } from '../support/until.js';
import { lead, record, report } from './support/control.js';

let redis: TestRedis;
let connection: Redis;
let store: WorkerStatusStore;
let fence: number;
const keys = new Keys('t');
const NOW = Date.UTC(2025, 0, 1);

beforeAll(async () => {
  redis = await startRedis();
  connection = redis.client();
  defineScripts(connection);
  store = new WorkerStatusStore({ connection, keys });
});
afterAll(() => redis.stop());
beforeEach(async () => {
  await connection.flushall();
  fence = await lead(connection, keys);
});

const upsert = (...ids: string[]) =>
  store.publish(fence, { report: report(NOW), upserts: ids.map((id) => record(id)), removed: [] });
const remove = (...removed: string[]) => store.publish(fence, { report: report(NOW), upserts: [], removed });

it('has workers by whatever name, also such as every object has something of', async () => {
  const ids = ['__proto__', 'constructor', 'hasOwnProperty', 'toString'];
  const [seen, ...unseen] = ids as [string, ...string[]];
  const change = { report: report(NOW), upserts: ids.map((id) => record(id)), removed: [] };
  await store.publish(fence, { ...change, seen: Object.fromEntries([[seen, NOW - 5_000]]) });
  const { epoch, version, workers } = await store.read(NOW);
  expect(workers.map(({ id }) => id)).toEqual(ids);
  expect(workers.map(({ observed_at }) => Date.parse(observed_at))).toEqual([NOW - 5_000, ...unseen.map(() => NOW)]);
  const since = await store.changesSince({ epoch, version: version - ids.length }, NOW);
  expect(since.workers.toSorted((a, b) => (a.id < b.id ? -1 : 1))).toEqual(workers);
});

describe('publish', () => {
  it('raises the version by one for each changed record', async () => {
    expect(await upsert('i-1', 'i-2')).toBe(2);
    const stopped = { report: report(NOW), upserts: [record('i-1', { state: 'stopped' })], removed: ['i-2'] };
    expect(await store.publish(fence, stopped)).toBe(4);
    const { workers, version } = await store.read(NOW);
    expect(version).toBe(4);
    expect(workers).toMatchObject([{ id: 'i-1', state: 'stopped', version: 3 }]);
  });

  it('takes records that are stored already so, and unknown ids to remove, for no change', async () => {
    await upsert('i-1');
    expect(await upsert('i-1')).toBe(1);
    expect(await remove('i-9')).toBe(1);
    expect((await store.changesSince({ epoch: (await store.read(NOW)).epoch, version: 0 }, NOW)).removed).toEqual([]);
  });

  it('leaves a record to the source that wrote it, whoever else wants its id removed', async () => {
    await upsert('i-1');
    const others = { report: report(NOW, { source: 'script' }), upserts: [], removed: ['i-1'] };
    expect(await store.publish(fence, others)).toBe(1);
    expect((await store.read(NOW)).workers).toMatchObject([{ id: 'i-1', source: 'ec2/x' }]);
    expect(await remove('i-1')).toBe(2);
    expect((await store.read(NOW)).workers).toEqual([]);
  });

  it('lets any source remove a record that does not say whose it is', async () => {
    await upsert('i-1', 'i-2');
    await connection.hset(keys.workers(), 'i-1', '{"id":"i-1"}', 'i-2', 'not JSON');
    await remove('i-1', 'i-2');
    expect(await connection.hlen(keys.workers())).toBe(0);
  });

  it('says once that there is news, with the newest version, however much is written', async () => {
    const heard: string[] = [];
    const subscriber = redis.client();
    await subscriber.ssubscribe(keys.statusChannel());
    subscriber.on('smessage', (_channel: string, message: string) => heard.push(message));
    await upsert(...Array.from({ length: 2_500 }, (_, i) => `i-${i}`));
    await remove('i-0');
    await until('two messages', () => heard.length >= 2);
    expect(heard).toEqual(['2500', '2501']);
    expect((await store.read(NOW)).workers).toHaveLength(2_499);
  });

  it('writes a report of a source that sees no worker, and of one that fails', async () => {
    await upsert();
    const failed = report(NOW - 60_000, { source: 'ecs/y', ok: false, error: 'AccessDenied' });
    await store.publish(fence, { report: failed, upserts: [], removed: [] });
    expect((await store.read(NOW)).sources).toEqual([report(NOW), failed]);
  });
});

describe('freshness', () => {
  const read = async () => (await store.read(NOW)).workers;
  const publish = (polledMs: number | undefined, overrides = {}, seen = {}) =>
    store.publish(fence, { report: report(polledMs), upserts: [record('i-1', overrides)], removed: [], seen });

  it('is the time of the last complete poll, up to three intervals ago', async () => {
    await publish(NOW - 30_000);
    const [worker] = await read();
    expect(worker).toEqual({ ...record('i-1'), version: 1, observed_at: new Date(NOW - 30_000).toISOString() });
  });

  it('is lost after three intervals, with the age shown', async () => {
    await publish(NOW - 30_001);
    expect(await read()).toMatchObject([{ stale: true, age_seconds: 30 }]);
  });

  it('goes by the worker itself where it is looked at alone', async () => {
    await publish(NOW, {}, { 'i-1': NOW - 45_000, 'i-unknown': NOW });
    expect(await read()).toMatchObject([{ stale: true, observed_at: new Date(NOW - 45_000).toISOString() }]);
    expect(await connection.hkeys(keys.workersSeen())).toEqual(['i-1']);
    await publish(NOW, {}, { 'i-1': NOW - 1 });
    expect((await read())[0]).not.toHaveProperty('stale');
    await remove('i-1');
    expect(await connection.hkeys(keys.workersSeen())).toEqual([]);
  });

  it('is none while its source has never been polled to the end', async () => {
    await publish(undefined);
    const [worker] = await read();
    expect(worker).toMatchObject({ stale: true });
    expect(worker).not.toHaveProperty('age_seconds');
  });

  it('is none for a worker whose source is unknown', async () => {
    await publish(NOW, { source: 'ec2/gone' });
    expect(await read()).toMatchObject([{ stale: true }]);
  });

  it('does not concern tombstones', async () => {
    await publish(NOW - 3_600_000, { gone_at: new Date(NOW - 4_000_000).toISOString() });
    expect((await read())[0]).not.toHaveProperty('stale');
  });
});

describe('changesSince', () => {
  it('tells what changed and what went after a point, and nothing more', async () => {
    await upsert('i-1', 'i-2', 'i-3');
    const { epoch, version } = await store.read(NOW);
    await store.publish(fence, {
      ...{ report: report(NOW), upserts: [record('i-2', { state: 'stopped' }), record('i-4')], removed: ['i-3'] },
    });
    const delta = await store.changesSince({ epoch, version }, NOW);
    expect(delta).toMatchObject({ epoch, version: 6, full: false, removed: ['i-3'] });
    expect(delta.workers.map(({ id, version: at }) => [id, at])).toEqual([
      ['i-2', 4],
      ['i-4', 5],
    ]);
    expect(await store.changesSince(delta, NOW)).toMatchObject({ full: false, workers: [], removed: [], version: 6 });
  });

  it('tells of a worker that went and came back only that it is there', async () => {
    await upsert('i-1');
    const { epoch, version } = await store.read(NOW);
    await remove('i-1');
    await upsert('i-1');
    expect(await store.changesSince({ epoch, version }, NOW)).toMatchObject({
      workers: [{ id: 'i-1', version: 3 }],
      removed: [],
    });
  });

  it('tells everything to who knows nothing, or knows another epoch, or is ahead', async () => {
    await upsert('i-1');
    const { epoch } = await store.read(NOW);
    for (const point of [undefined, { epoch: 'other', version: 1 }, { epoch, version: 2 }])
      expect(await store.changesSince(point, NOW)).toMatchObject({ full: true, version: 1, workers: [{ id: 'i-1' }] });
  });

  it('tells everything after Redis lost its data, though versions repeat', async () => {
    await upsert('i-1', 'i-2');
    const { epoch, version } = await store.read(NOW);
    await connection.flushall();
    fence = await lead(connection, keys);
    await upsert('i-8', 'i-9');
    const delta = await store.changesSince({ epoch, version }, NOW);
    expect(delta).toMatchObject({ full: true, workers: [{ id: 'i-8' }, { id: 'i-9' }] });
    expect(delta.epoch).not.toBe(epoch);
  });

  it('tells everything when the removals after a point are forgotten', async () => {
    await upsert('i-1', 'i-2', 'i-3');
    const { epoch, version } = await store.read(NOW);
    await remove('i-1', 'i-2');
    // As many later removals as are remembered, less one: the first of the two has to go.
    const later = Array.from({ length: REMOVALS_MAX - 1 }, (_, i) => [version + 3 + i, `gone-${i}`]).flat();
    await connection.zadd(keys.removedWorkers(), ...(later as [number, string]));
    await connection.hset(keys.statusMeta(), 'version', version + 2 + REMOVALS_MAX);
    expect(await store.changesSince({ epoch, version }, NOW)).toMatchObject({ full: false });
    await remove('i-3');
    expect(await connection.zcard(keys.removedWorkers())).toBe(REMOVALS_MAX);
    expect(await store.changesSince({ epoch, version: version + 1 }, NOW)).toMatchObject({ full: true });
    const delta = await store.changesSince({ epoch, version: version + 2 }, NOW);
    expect(delta.full).toBe(false);
    expect(delta.removed.at(-1)).toBe('i-3');
  });
});

describe('reading', () => {
  it('tells by themselves what sources reported, and when workers were seen one by one', async () => {
    const script = report(NOW, { source: 'script' });
    const seen = { w1: NOW - 5_000 };
    await store.publish(fence, { report: script, upserts: [record('w1', { source: 'script' })], removed: [], seen });
    await upsert('i-1');
    expect(await store.reports()).toEqual({ sources: [report(NOW), script], seenMs: new Map([['w1', NOW - 5_000]]) });
  });

  it('leaves out reports that cannot be read', async () => {
    await upsert('i-1');
    await connection.hset(keys.sources(), { 'ec2/a': '{', 'ec2/z': '{"source":"ec2/z"}' });
    expect((await store.reports()).sources).toEqual([report(NOW)]);
  });

  it('shows an empty status before the first write', async () => {
    await connection.flushall();
    expect(await store.read(NOW)).toEqual({ epoch: '', version: 0, workers: [], sources: [] });
    expect(await store.changesSince(undefined, NOW)).toMatchObject({ full: true, workers: [] });
  });

  it('leaves out records that cannot be read', async () => {
    await upsert('i-2', 'i-1');
    await connection.hset(keys.workers(), { broken: '{', other: '{"id":"other"}' });
    expect((await store.read(NOW)).workers.map(({ id }) => id)).toEqual(['i-1', 'i-2']);
  });
});
