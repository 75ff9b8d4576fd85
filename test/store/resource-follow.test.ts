import { FakeClock } from '@carrierarr/platform';
import {
  defineScripts,
  FOLLOW_INTERVAL_MS,
  type FollowedChange,
  ResourceFollow,
  ResourceStore,
} from '@carrierarr/store';
import { Keys } from '@carrierarr/protocol';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startRedis, type TestRedis } from '../support/redis.js';
import { until } from '../support/until.js';
import { workerResource } from './support/control.js';

let redis: TestRedis;
let connection: Redis;
let store: ResourceStore;
const keys = new Keys('t');
const stops: (() => void)[] = [];

beforeAll(async () => {
  redis = await startRedis({ appendOnly: true });
  connection = redis.client();
  defineScripts(connection);
  store = new ResourceStore({ connection, keys });
});
afterAll(() => redis.stop());
beforeEach(() => connection.flushall());
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

/** A subscriber as programs have it: it forgets its subscriptions when it reconnects. */
function subscriberConnection(): Redis {
  const subscriber = new Redis(redis.port, '127.0.0.1', {
    ...{ autoResubscribe: false, enableOfflineQueue: false, lazyConnect: true, retryStrategy: () => 20 },
  });
  subscriber.on('error', () => undefined);
  stops.push(() => subscriber.disconnect());
  return subscriber;
}

interface Following {
  follow: ResourceFollow;
  changes: FollowedChange[];
  errors: unknown[];
  clock: FakeClock;
  subscriber: Redis;
}

function following(overrides: Partial<ConstructorParameters<typeof ResourceFollow>[0]> = {}): Following {
  const clock = new FakeClock();
  const subscriber = subscriberConnection();
  const errors: unknown[] = [];
  const onError = (error: unknown) => void errors.push(error);
  const follow = new ResourceFollow({ subscriber, keys, store, clock, onError, ...overrides });
  const changes: FollowedChange[] = [];
  follow.onChange((change) => changes.push(change));
  stops.push(() => follow.stop());
  return { follow, changes, errors, clock, subscriber };
}

/** What it knows is what there is. */
async function complete({ follow }: Following): Promise<void> {
  const revision = await store.revision();
  await until(
    () => `revision ${revision} is followed, not ${follow.resources.resourceVersion}`,
    () => follow.resources.resourceVersion === revision,
  );
  const { items } = await store.list('Worker');
  expect(follow.resources.list('Worker')).toEqual(items);
}

/** What it has told of, put together from the last reset on, is what there is. */
async function toldAll({ changes }: Following, before: Iterable<string> = []): Promise<void> {
  const names = new Set(before);
  for (const change of changes) {
    if (change.type === 'RESET') continue;
    if (change.type === 'DELETED') names.delete(change.object.metadata.name);
    else names.add(change.object.metadata.name);
  }
  const { items } = await store.list('Worker');
  expect([...names].toSorted()).toEqual(items.map((item) => item.metadata.name));
}

const subscribers = async () =>
  Number(((await connection.call('PUBSUB', 'SHARDNUMSUB', keys.resourceChannel())) as unknown[])[1]);

describe('following', () => {
  it('begins with all there is, and hears of each change without waiting for its interval', async () => {
    await store.put(workerResource('b'), '0');
    const f = following();
    await f.follow.start();
    expect(f.follow.resources.get('Worker', 'b')).toEqual(await store.get('Worker', 'b'));
    expect(f.changes).toEqual([{ type: 'RESET' }]);
    await until('it is subscribed', async () => (await subscribers()) === 1);
    await store.put(workerResource('a'), '0');
    await store.put(workerResource('b', { paused: true }), undefined);
    await store.remove('Worker', 'b', undefined);
    await complete(f);
    expect(f.changes.slice(1).map((change) => change.type)).toEqual(['ADDED', 'MODIFIED', 'DELETED']);
    expect(f.follow.resources.get('Worker', 'b')).toBeUndefined();
    expect(f.errors).toEqual([]);
  });

  it('has the change in its memory when it tells of it', async () => {
    const f = following();
    const paused: (boolean | undefined)[] = [];
    f.follow.onChange(() => paused.push(f.follow.resources.get('Worker', 'a')?.spec.paused));
    await f.follow.start();
    await store.put(workerResource('a'), '0');
    await store.put(workerResource('a', { paused: true }), undefined);
    await complete(f);
    expect(paused).toEqual([undefined, false, true]);
  });

  it('misses nothing that is written while it begins', async () => {
    const followings: Following[] = [];
    const writing = (async () => {
      for (let i = 0; i < 300; i++) {
        await store.put(workerResource(`w${i % 40}`, { maxRetries: i }), undefined);
        if (i % 7 === 0) await store.remove('Worker', `w${i % 40}`, undefined);
        if (i % 30 === 0) followings.push(following());
        if (i % 30 === 1) void followings.at(-1)?.follow.start();
      }
    })();
    await writing;
    for (const f of followings) await complete(f);
  });

  it('misses nothing when its subscription is killed again and again', async () => {
    const f = following();
    await f.follow.start();
    let kills = 0;
    for (let i = 0; i < 200; i++) {
      await store.put(workerResource(`w${i}`), '0');
      if (i % 20 === 0) kills += Number(await connection.call('CLIENT', 'KILL', 'TYPE', 'pubsub'));
    }
    expect(kills).toBeGreaterThan(0);
    await complete(f);
    await toldAll(f);
    expect(f.changes.filter((change) => change.type === 'RESET')).toHaveLength(1);
    await until('it is subscribed again', async () => (await subscribers()) === 1);
    await store.put(workerResource('later'), '0');
    await complete(f);
  });

  it('finds changes whose messages were lost, at its interval', async () => {
    const f = following();
    await f.follow.start();
    await until('it is subscribed', async () => (await subscribers()) === 1);
    await f.subscriber.sunsubscribe(keys.resourceChannel());
    await store.put(workerResource('a'), '0');
    await until('it waits', () => f.clock.pendingTimers === 1);
    expect(f.follow.resources.get('Worker', 'a')).toBeUndefined();
    f.clock.advance(FOLLOW_INTERVAL_MS);
    await complete(f);
    await toldAll(f);
  });

  it('catches up with many changes at once', async () => {
    const f = following();
    await f.follow.start();
    await until('it is subscribed', async () => (await subscribers()) === 1);
    await f.subscriber.sunsubscribe(keys.resourceChannel());
    await until('it waits', () => f.clock.pendingTimers === 1);
    await Promise.all(Array.from({ length: 1_200 }, (_, i) => store.put(workerResource(`w${i}`), '0')));
    f.clock.advance(FOLLOW_INTERVAL_MS);
    await complete(f);
    expect(f.changes).toHaveLength(1_201);
  });

  it('lists anew, and says so, when the journal was cut while it was away', async () => {
    const f = following();
    await store.put(workerResource('gone'), '0');
    await f.follow.start();
    await until('it is subscribed', async () => (await subscribers()) === 1);
    await f.subscriber.sunsubscribe(keys.resourceChannel());
    await store.remove('Worker', 'gone', undefined);
    await store.put(workerResource('new'), '0');
    await connection.xtrim(keys.resourceJournal(), 'MAXLEN', 1);
    f.clock.advance(FOLLOW_INTERVAL_MS);
    await complete(f);
    expect(f.changes).toEqual([{ type: 'RESET' }, { type: 'RESET' }]);
  });

  it('lists anew when Redis has lost its data', async () => {
    await store.put(workerResource('a'), '0');
    const f = following();
    await f.follow.start();
    await connection.flushall();
    await store.put(workerResource('b'), '0');
    f.clock.advance(FOLLOW_INTERVAL_MS);
    await complete(f);
    expect(f.follow.resources.list('Worker').map((worker) => worker.metadata.name)).toEqual(['b']);
  });

  it('goes on after Redis was away', async () => {
    const f = following();
    await f.follow.start();
    await store.put(workerResource('a'), '0');
    await redis.kill();
    await redis.start();
    await until('Redis is back', async () => (await connection.ping()) === 'PONG');
    await store.put(workerResource('b'), '0');
    await until('it looked', () => {
      f.clock.advance(FOLLOW_INTERVAL_MS);
      return f.follow.resources.get('Worker', 'b') !== undefined;
    });
    await complete(f);
    await until('it is subscribed again', async () => (await subscribers()) === 1);
  });

  it('begins when Redis is there at last', async () => {
    let away = true;
    const flaky = Object.assign(Object.create(store) as ResourceStore, {
      listAll: () => (away ? Promise.reject(new Error('away')) : store.listAll()),
    });
    await store.put(workerResource('a'), '0');
    const f = following({ store: flaky });
    const started = f.follow.start();
    await until('it failed', () => f.errors.length > 0 && f.clock.pendingTimers === 1);
    away = false;
    f.clock.advance(FOLLOW_INTERVAL_MS);
    await started;
    await complete(f);
  });

  it('goes on when a listener throws', async () => {
    const f = following();
    const error = new Error('listener');
    const end = f.follow.onChange(() => {
      throw error;
    });
    await f.follow.start();
    await store.put(workerResource('a'), '0');
    await complete(f);
    expect(f.errors).toEqual([error, error]);
    end();
    await store.put(workerResource('b'), '0');
    await complete(f);
    expect(f.errors).toHaveLength(2);
  });

  it('ends when it is stopped, also before it has begun', async () => {
    const f = following();
    await f.follow.start();
    f.follow.stop();
    await store.put(workerResource('a'), '0');
    await until('nothing is planned', () => f.clock.pendingTimers === 0);
    expect(f.changes).toHaveLength(1);
    expect(f.subscriber.listenerCount('smessage')).toBe(0);
    const never = following({ store: Object.assign(Object.create(store), { listAll: () => new Promise(() => {}) }) });
    const started = never.follow.start();
    never.follow.stop();
    await started;
  });
});
