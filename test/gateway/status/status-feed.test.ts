import { createMetrics, createRedis, FakeClock, loadConfig, redisSettings } from '@carrierarr/platform';
import { gatewaySchema } from '@carrierarr/gateway';
import { Keys, type StatusDocument } from '@carrierarr/protocol';
import { defineScripts, type RedisConnection, WorkerStatusStore } from '@carrierarr/store';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from 'vitest';
import type { RedisState } from '../../../apps/gateway/src/redis-health.js';
import { LOOK_EVERY_MS, StatusFeed } from '../../../apps/gateway/src/status/status-feed.js';
import type { StatusClient } from '../../../apps/gateway/src/status/status-push.js';
import { startRedis, type TestRedis } from '../../support/redis.js';
import { TestMonitor, workerRecord } from './monitor.js';

let redis: TestRedis;
let connection: Redis;
let monitor: TestMonitor;
let clock: FakeClock;
let feed: StatusFeed;
let subscriber: RedisConnection;
let state: RedisState;
const keys = new Keys('t');
const warn = vi.fn<(...args: unknown[]) => void>();

beforeAll(async () => {
  redis = await startRedis();
  connection = redis.client();
  defineScripts(connection);
});
afterAll(() => redis.stop());
beforeEach(async () => {
  await connection.flushall();
  clock = new FakeClock(Date.UTC(2026, 10, 22, 10));
  monitor = new TestMonitor(connection, keys);
  monitor.nowMs = () => clock.now();
  state = { kind: 'available' };
  warn.mockReset();
  feed = newFeed();
});
afterEach(() => feed.stop());

function newFeed(): StatusFeed {
  const loaded = loadConfig({
    ...{ program: 'test', summary: '', schema: gatewaySchema },
    ...{ argv: ['--redis-url', redis.url], env: {} },
  });
  if (loaded.kind === 'help') throw new Error('help');
  subscriber = createRedis(redisSettings(loaded.values), { name: 'test-status', role: 'subscriber' });
  return new StatusFeed({
    ...{ subscriber, keys, clock, clientBufferBytes: 100_000 },
    store: new WorkerStatusStore({ connection, keys }),
    redis: {
      get state() {
        return state;
      },
    },
    logger: { warn },
    metrics: createMetrics({ program: 'test', version: '0', hasProcessMetrics: false }),
  });
}

async function document(gone = false): Promise<StatusDocument> {
  return JSON.parse(await feed.document({ gone })) as StatusDocument;
}

const ids = async (gone = false) => (await document(gone)).workers.map(({ id }) => id);

/** Two seconds go by, and what was asked of Redis meanwhile is answered. */
async function tick(): Promise<void> {
  clock.advance(LOOK_EVERY_MS);
  await feed.refresh();
}

class TestClient implements StatusClient {
  readonly messages: { type: string; [key: string]: unknown }[] = [];
  send(frame: Buffer): boolean {
    this.messages.push(JSON.parse(frame.toString()));
    return true;
  }
  bufferedBytes(): number {
    return 0;
  }
}

it('knows what was published before it started, and what is published later without being asked', async () => {
  await monitor.publish({ upserts: [workerRecord('a')] });
  await feed.start();
  expect(await ids()).toEqual(['a']);
  // Only once it listens is silence no news.
  await vi.waitFor(async () =>
    expect(await connection.call('pubsub', 'shardnumsub', keys.statusChannel())).toEqual([keys.statusChannel(), 1]),
  );
  const client = new TestClient();
  feed.optIn(client, undefined);
  expect(client.messages).toMatchObject([{ full: true, version: 1 }]);
  clock.advance(100);
  await monitor.publish({ upserts: [workerRecord('b')], removed: ['a'] });
  await vi.waitFor(() =>
    expect(client.messages.at(-1)).toMatchObject({ full: false, workers: [{ id: 'b', target: 'b' }], removed: ['a'] }),
  );
  const observed = await feed.observed();
  expect(observed).toMatchObject({ version: client.messages.at(-1)?.['version'], sources: [{ ok: true }] });
});

it('is kept up to date although its subscription is dead', async () => {
  await feed.start();
  expect(await ids()).toEqual([]);
  subscriber.disconnect();
  await monitor.publish({ upserts: [workerRecord('a')] });
  await tick();
  clock.advance(1_000);
  expect(await ids()).toEqual(['a']);
});

it('subscribes again after the connection broke', async () => {
  await feed.start();
  await vi.waitFor(() => expect(subscriber.status).toBe('ready'));
  await connection.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
  await vi.waitFor(
    async () => {
      clock.advance(100);
      await connection.spublish(keys.statusChannel(), 'x');
      expect(await connection.call('pubsub', 'shardnumsub', keys.statusChannel())).toEqual([keys.statusChannel(), 1]);
    },
    { timeout: 5_000 },
  );
  const client = new TestClient();
  feed.optIn(client, undefined);
  clock.advance(100);
  await monitor.publish({ upserts: [workerRecord('a')] });
  await vi.waitFor(() => {
    // Two looks in a row are some time apart.
    clock.advance(100);
    expect(client.messages.at(-1)).toMatchObject({ workers: [{ id: 'a' }] });
  });
});

it('lists who vanished only for who asks', async () => {
  const gone_at = new Date(clock.now()).toISOString();
  await monitor.publish({ upserts: [workerRecord('a', { gone_at }), workerRecord('b', { state: 'terminated' })] });
  await feed.start();
  expect([await ids(), await ids(true)]).toEqual([['b'], ['a', 'b']]);
});

it('tells all when a source turns stale, and when it is fresh again', async () => {
  await monitor.publish({ upserts: [workerRecord('a')] });
  await feed.start();
  const [old, modern] = [new TestClient(), new TestClient()];
  feed.add(old, { mayOptIn: false });
  feed.optIn(modern, undefined);
  // Quiet polls are no news.
  for (let i = 0; i < 3; i += 1) {
    clock.advance(29_000);
    await monitor.publish();
    await tick();
  }
  expect([old.messages.length, modern.messages.length]).toEqual([1, 1]);
  expect((await document()).workers[0]).not.toHaveProperty('stale');
  clock.advance(86_000);
  await tick();
  expect(modern.messages).toHaveLength(1);
  clock.advance(LOOK_EVERY_MS);
  await vi.waitFor(() =>
    expect(modern.messages.at(-1)).toMatchObject({
      full: false,
      version: 1,
      workers: [{ stale: true, age_seconds: 92 }],
    }),
  );
  const told = JSON.parse(old.messages.at(-1)?.['data'] as string) as StatusDocument;
  expect(told.workers).toMatchObject([{ id: 'a', stale: true, age_seconds: 92 }]);
  await monitor.publish();
  await tick();
  await vi.waitFor(() => expect(modern.messages).toHaveLength(3));
  expect(modern.messages.at(-1)).toMatchObject({ full: false, version: 1 });
  expect(modern.messages[2]).not.toHaveProperty('workers.0.stale');
  expect(modern.messages[2]).toHaveProperty('workers.0.id', 'a');
});

it('serves the last that was known while Redis is away, with its age', async () => {
  await monitor.publish({ upserts: [workerRecord('a')] });
  await feed.start();
  const begun = new Date(clock.now()).toISOString();
  state = { kind: 'degraded', reason: 'gone' };
  clock.advance(120_000);
  await feed.refresh();
  expect(await document()).toMatchObject({ timestamp: begun, workers: [{ id: 'a', stale: true, age_seconds: 120 }] });
});

it('says that Redis is away if nothing was ever known, and knows it when Redis answers', async () => {
  await monitor.publish({ upserts: [workerRecord('a')] });
  state = { kind: 'degraded', reason: 'gone' };
  await feed.start();
  const client = new TestClient();
  feed.add(client, { mayOptIn: false });
  await expect(feed.document({ gone: false })).rejects.toThrow('Redis is not available: gone');
  expect(client.messages).toEqual([]);
  state = { kind: 'available' };
  expect(await ids()).toEqual(['a']);
  expect(client.messages).toMatchObject([{ type: 'status' }]);
});

it('a worker that is looked at by itself has its own age', async () => {
  const source = 'script';
  const report = () => monitor.report({ source, interval_ms: 10_000 });
  const upserts = ['a', 'b'].map((id) => workerRecord(id, { source, provider: 'script' }));
  await monitor.publish({ upserts, report: report(), seen: { a: clock.now(), b: clock.now() } });
  await feed.start();
  clock.advance(31_000);
  await monitor.publish({ report: report(), seen: { b: clock.now() } });
  await feed.refresh();
  expect((await document()).workers).toMatchObject([{ id: 'a', stale: true, age_seconds: 31 }, { id: 'b' }]);
  expect((await document()).workers[1]).not.toHaveProperty('stale');
});
