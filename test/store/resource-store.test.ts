import {
  createResource,
  defineScripts,
  EVENTS_KEPT_MS,
  EVENTS_MAX,
  ResourceEvents,
  ResourceStore,
  UnreadableResourceError,
} from '@carrierarr/store';
import {
  Keys,
  RESOURCE_API_VERSION,
  type Resource,
  workerPoolManifestSchema,
  type WorkerResource,
} from '@carrierarr/protocol';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startRedis, type TestRedis } from '../support/redis.js';
import { until } from '../support/until.js';
import { BIRTH, lead, workerResource } from './support/control.js';

let redis: TestRedis;
let connection: Redis;
let store: ResourceStore;
const keys = new Keys('t');

beforeAll(async () => {
  redis = await startRedis();
  connection = redis.client();
  defineScripts(connection);
  store = new ResourceStore({ connection, keys });
});
afterAll(() => redis.stop());
beforeEach(() => connection.flushall());

async function put<T extends Resource>(resource: T, expected?: string): Promise<T> {
  const answer = await store.put(resource, expected);
  if (answer.kind !== 'ok') throw new Error(answer.kind);
  return answer.resource;
}

const pool = (name: string) =>
  createResource(
    workerPoolManifestSchema.parse({
      apiVersion: RESOURCE_API_VERSION,
      kind: 'WorkerPool',
      metadata: { name },
      spec: { replicas: 1, template: { spec: {} } },
    }),
    BIRTH,
  );

describe('put', () => {
  it('stores a resource as it is, with the revision of its change', async () => {
    const stored = await put(workerResource('w1', { args: { start: ['--ünï', '"'] } }), '0');
    expect(stored.metadata.resourceVersion).toBe(await store.revision());
    expect(await store.get('Worker', 'w1')).toEqual(stored);
    expect(await store.get('WorkerPool', 'w1')).toBeUndefined();
  });

  it('creates only what does not exist when it is told so', async () => {
    const first = await put(workerResource('w1'), '0');
    expect(await store.put(workerResource('w1', { paused: true }), '0')).toEqual({
      kind: 'conflict',
      resourceVersion: first.metadata.resourceVersion,
    });
    expect(await store.get('Worker', 'w1')).toEqual(first);
  });

  it('changes only what it is told to change', async () => {
    const first = await put(workerResource('w1'));
    const second = await put({ ...first, spec: { ...first.spec, paused: true } }, first.metadata.resourceVersion);
    expect(Number(second.metadata.resourceVersion)).toBeGreaterThan(Number(first.metadata.resourceVersion));
    expect(await store.put(first, first.metadata.resourceVersion)).toEqual({
      kind: 'conflict',
      resourceVersion: second.metadata.resourceVersion,
    });
    expect(await store.put(workerResource('w2'), '7')).toEqual({ kind: 'not-found' });
    const any = await store.put(first, undefined);
    expect(any).toMatchObject({ kind: 'ok', resource: { spec: { paused: false } } });
  });

  it('of what is there already costs no revision and wakes nobody', async () => {
    const heard: string[] = [];
    const subscriber = redis.client();
    await subscriber.ssubscribe(keys.resourceChannel());
    subscriber.on('smessage', (_channel: string, message: string) => heard.push(message));
    const first = await put(workerResource('w1', { args: { start: ['a'], stop: ['b'] } }));
    const { apiVersion, kind, metadata, spec } = workerResource('w1', { args: { stop: ['b'], start: ['a'] } });
    expect(await put({ spec, metadata, kind, apiVersion }, first.metadata.resourceVersion)).toEqual(first);
    expect(await connection.xlen(keys.resourceJournal())).toBe(1);
    const other = await put(workerResource('w2'));
    await until('two messages', () => heard.length >= 2);
    expect(heard).toEqual([first.metadata.resourceVersion, other.metadata.resourceVersion]);
  });

  it('of what is there already is a conflict all the same when something else was expected', async () => {
    const first = await put(workerResource('w1'));
    expect(await store.put(workerResource('w1'), '0')).toMatchObject({ kind: 'conflict' });
    expect(await store.put(workerResource('w1'), '7')).toMatchObject({ kind: 'conflict' });
    expect(await store.revision()).toBe(first.metadata.resourceVersion);
  });

  it('gives a target to one Worker only, and to another when that one has gone or has another target', async () => {
    const first = await put(workerResource('w1', { target: 'gpu' }), '0');
    expect(await store.put(workerResource('w2', { target: 'gpu' }), '0')).toEqual({ kind: 'taken', by: 'w1' });
    expect(await store.put(workerResource('gpu'), '0')).toEqual({ kind: 'taken', by: 'w1' });
    const second = await put(workerResource('w2'), '0');
    const moved = { ...second, spec: { ...second.spec, target: 'gpu' } };
    expect(await store.put(moved, second.metadata.resourceVersion)).toEqual({ kind: 'taken', by: 'w1' });
    await put({ ...first, spec: { ...first.spec, target: 'tpu' } });
    const took = await put(moved, second.metadata.resourceVersion);
    expect(await store.put(workerResource('w3', { target: 'gpu' }), '0')).toEqual({ kind: 'taken', by: 'w2' });
    await store.remove('Worker', 'w2', took.metadata.resourceVersion);
    await put(workerResource('w3', { target: 'gpu' }), '0');
    // A pool has no target.
    await put(pool('tpu'), '0');
    expect(await connection.hgetall(keys.resourceTargets())).toEqual({ tpu: 'w1', gpu: 'w3' });
  });

  it('finds out who has which target where no index says so, and leaves two that share one as they are', async () => {
    await put(workerResource('w1', { target: 'gpu' }), '0');
    // Of a version that knew no index, with two that were written at the same moment.
    const stored = (await connection.hget(keys.resources('Worker'), 'w1')) as string;
    await connection.hset(keys.resources('Worker'), 'w2', stored.replace('"name":"w1"', '"name":"w2"'));
    await connection.del(keys.resourceTargets());
    expect(await store.put(workerResource('w3', { target: 'gpu' }), '0')).toMatchObject({ kind: 'taken' });
    for (const name of ['w1', 'w2']) await put(workerResource(name, { target: 'gpu', paused: true }));
    const who = await connection.hget(keys.resourceTargets(), 'gpu');
    await store.remove('Worker', who as string, undefined);
    // The other one has it still, whatever the index has forgotten.
    await put(workerResource(who === 'w1' ? 'w2' : 'w1', { target: 'gpu' }));
    expect(await store.put(workerResource('w3', { target: 'gpu' }), '0')).toMatchObject({ kind: 'taken' });
  });

  it('loses no update of many at once that each try again after a conflict', async () => {
    await put(workerResource('w1', { maxRetries: 0 }), '0');
    const increment = async (): Promise<void> => {
      for (;;) {
        const now = (await store.get('Worker', 'w1')) as WorkerResource;
        const next = { ...now, spec: { ...now.spec, maxRetries: now.spec.maxRetries + 1 } };
        const answer = await store.put(next, now.metadata.resourceVersion);
        if (answer.kind === 'ok') return;
      }
    };
    const workers = Array.from({ length: 10 }, async () => {
      for (let i = 0; i < 20; i++) await increment();
    });
    await Promise.all(workers);
    expect((await store.get('Worker', 'w1'))?.spec.maxRetries).toBe(200);
    expect(await connection.xlen(keys.resourceJournal())).toBe(201);
  });

  it('with the fence of the leader is written', async () => {
    const fence = await lead(connection, keys);
    expect(await store.put(workerResource('w1'), '0', fence)).toMatchObject({ kind: 'ok' });
    expect(await store.remove('Worker', 'w1', undefined, fence)).toEqual({ kind: 'ok' });
  });
});

describe('remove', () => {
  it('removes what is expected, once', async () => {
    const first = await put(workerResource('w1'));
    expect(await store.remove('Worker', 'w1', '7')).toEqual({ kind: 'conflict' });
    expect(await store.remove('Worker', 'w1', first.metadata.resourceVersion)).toEqual({ kind: 'ok' });
    expect(await store.get('Worker', 'w1')).toBeUndefined();
    expect(await store.remove('Worker', 'w1', undefined)).toEqual({ kind: 'not-found' });
  });
});

describe('list', () => {
  it('has all of a kind by name, and the revision it is of', async () => {
    expect(await store.list('Worker')).toEqual({ items: [], resourceVersion: '0' });
    const b = await put(workerResource('b'));
    const a = await put(workerResource('a'));
    const p = await put(pool('p'));
    const resourceVersion = p.metadata.resourceVersion;
    expect(await store.list('Worker')).toEqual({ items: [a, b], resourceVersion });
    expect(await store.list('WorkerPool')).toEqual({ items: [p], resourceVersion });
    expect(await store.listAll()).toEqual({ items: [a, b, p], resourceVersion });
  });

  it('fails over a resource that it does not understand, which must not look deleted', async () => {
    await put(workerResource('a'));
    await connection.hset(keys.resources('Worker'), 'b', '9 {"kind":"Other","metadata":{}}');
    await expect(store.list('Worker')).rejects.toThrow(UnreadableResourceError);
    await expect(store.list('Worker')).rejects.toThrow(/Worker "b"/);
  });
});

describe('changesSince', () => {
  it('tells each change after a revision in order, in parts', async () => {
    const a = await put(workerResource('a'));
    const b = await put(workerResource('b'));
    const c = await put({ ...a, spec: { ...a.spec, paused: true } });
    await store.remove('Worker', 'b', undefined);
    const end = await store.revision();

    const first = await store.changesSince('0', 2);
    if (first.kind !== 'changes') throw new Error(first.kind);
    expect(first.changes).toEqual([
      { type: 'ADDED', object: a, resourceVersion: a.metadata.resourceVersion },
      { type: 'ADDED', object: b, resourceVersion: b.metadata.resourceVersion },
    ]);
    expect(first.resourceVersion).toBe(b.metadata.resourceVersion);
    const gone = { ...b, metadata: { ...b.metadata, resourceVersion: end } };
    expect(await store.changesSince(first.resourceVersion, 100)).toEqual({
      kind: 'changes',
      changes: [
        { type: 'MODIFIED', object: c, resourceVersion: c.metadata.resourceVersion },
        { type: 'DELETED', object: gone, resourceVersion: end },
      ],
      resourceVersion: end,
    });
    expect(await store.changesSince(end, 100)).toEqual({ kind: 'changes', changes: [], resourceVersion: end });
  });

  it('has nothing after nothing', async () => {
    expect(await store.changesSince('0', 1)).toEqual({ kind: 'changes', changes: [], resourceVersion: '0' });
  });

  it('is expired where the journal was cut, and only there', async () => {
    const small = new ResourceStore({ connection, keys, journalEntriesMax: 100 });
    const versions: string[] = [];
    for (let i = 0; i < 400; i++) {
      const answer = await small.put(workerResource('w', { maxRetries: i }), undefined);
      if (answer.kind === 'ok') versions.push(answer.resource.metadata.resourceVersion);
    }
    const kept = await connection.xlen(keys.resourceJournal());
    expect(kept).toBeGreaterThanOrEqual(100);
    expect(kept).toBeLessThan(400);
    const lastExpired = versions.length - kept - 2;
    expect(await store.changesSince('0', 1)).toEqual({ kind: 'expired' });
    expect(await store.changesSince(versions[lastExpired] as string, 1)).toEqual({ kind: 'expired' });
    const answer = await store.changesSince(versions[lastExpired + 1] as string, 1_000);
    expect(answer.kind === 'changes' && answer.changes.map((change) => change.resourceVersion)).toEqual(
      versions.slice(lastExpired + 2),
    );
  });

  it('is expired for a revision that the store never gave out, or lost', async () => {
    await put(workerResource('a'));
    const lost = await put(workerResource('b'));
    await connection.flushall();
    expect(await store.changesSince(lost.metadata.resourceVersion, 1)).toEqual({ kind: 'expired' });
    // Also once new changes have gone beyond it.
    await until('a later millisecond', async () => {
      const [seconds, micros] = await connection.time();
      return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000) > Number(lost.metadata.resourceVersion);
    });
    const later = await put(workerResource('c'));
    expect(Number(later.metadata.resourceVersion)).toBeGreaterThan(Number(lost.metadata.resourceVersion));
    expect(await store.changesSince(lost.metadata.resourceVersion, 1)).toEqual({ kind: 'expired' });
    for (const wrong of ['', 'x', '-1', '1 2', '9'.repeat(15)])
      expect(await store.changesSince(wrong, 1)).toEqual({ kind: 'expired' });
  });
});

describe('events', () => {
  const events = () => new ResourceEvents({ connection, keys });
  const record = (message: string, reason = 'Failed') =>
    events().record('Worker', 'w1', { type: 'Warning', reason, message });

  it('are counted when they repeat, with when first and last', async () => {
    await record('exit 1');
    const [first] = await events().list('Worker', 'w1');
    expect(first).toMatchObject({ type: 'Warning', reason: 'Failed', message: 'exit 1', count: 1 });
    await until('a later millisecond', () => Date.now() > Date.parse(first?.lastTime ?? ''));
    await record('exit 2');
    const recordedMs = Date.now();
    await until('a later millisecond', () => Date.now() > recordedMs + 1);
    await record('exit 1');
    const both = await events().list('Worker', 'w1');
    expect(both.map(({ message, count }) => [message, count])).toEqual([
      ['exit 2', 1],
      ['exit 1', 2],
    ]);
    expect(both[1]?.firstTime).toBe(first?.firstTime);
    expect(Date.parse(both[1]?.lastTime ?? '')).toBeGreaterThan(Date.parse(first?.lastTime ?? ''));
    expect(await events().list('WorkerPool', 'w1')).toEqual([]);
  });

  it('are bounded in number: those longest not repeated go first', async () => {
    await record('oldest');
    const key = keys.resourceEvents('Worker', 'w1');
    const [field] = await connection.hkeys(key);
    const hourAgo = Date.now() - 3_600_000;
    await connection.hset(key, field as string, `3 ${hourAgo} ${hourAgo}`);
    for (let i = 1; i < EVENTS_MAX; i++) await record(`exit ${i}`);
    expect((await events().list('Worker', 'w1')).map(({ message }) => message)).toContain('oldest');
    await record('one more');
    const left = (await events().list('Worker', 'w1')).map(({ message }) => message);
    expect(left).toHaveLength(EVENTS_MAX);
    expect(left).not.toContain('oldest');
    expect(left).toContain('one more');
  });

  it('are forgotten after a week', async () => {
    await record('old');
    const key = keys.resourceEvents('Worker', 'w1');
    expect(await connection.pttl(key)).toSatisfy((ms: number) => ms > EVENTS_KEPT_MS - 60_000 && ms <= EVENTS_KEPT_MS);
    const [field] = await connection.hkeys(key);
    const old = Date.now() - EVENTS_KEPT_MS - 60_000;
    await connection.hset(key, field as string, `3 ${old} ${old}`);
    await record('new');
    expect((await events().list('Worker', 'w1')).map(({ message }) => message)).toEqual(['new']);
  });
});
