/** The status as clients of two real gateways on one Redis see it. */
import { createGateway, gatewaySchema } from '@carrierarr/gateway';
import { createLogger, createMetrics, loadConfig, Readiness, redisSettings, systemClock } from '@carrierarr/platform';
import { clientMessageSchema, Keys, SERVER_MESSAGES, type StatusPoint } from '@carrierarr/protocol';
import { CommandStore, defineScripts } from '@carrierarr/store';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { WebSocket } from 'ws';
import { startRedis, type TestRedis } from '../../support/redis.js';
import { TestMonitor, workerRecord } from './monitor.js';

let redis: TestRedis;
let connection: Redis;
let monitor: TestMonitor;
const keys = new Keys('carrierarr');
const cleanups: (() => unknown)[] = [];

beforeAll(async () => {
  redis = await startRedis();
  connection = redis.client();
  defineScripts(connection);
  monitor = new TestMonitor(connection, keys);
});
afterAll(() => redis.stop());
beforeEach(() => connection.flushall());
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

async function gateway(): Promise<{ url: string; stop(): Promise<void> }> {
  const argv = ['-addr', '127.0.0.1:0', '--redis-url', redis.url, '--drain-delay', '0s', '--drain-spread', '0s'];
  const loaded = loadConfig({ program: 'carrierarr gateway', summary: '', schema: gatewaySchema, argv, env: {} });
  if (loaded.kind !== 'config') throw new Error(loaded.kind);
  const readiness = new Readiness();
  const started = createGateway({
    config: loaded.values,
    redisSettings: redisSettings(loaded.values),
    logger: createLogger({ program: 'test', level: 'silent', format: 'json' }),
    metrics: createMetrics({ program: 'test', version: '0', hasProcessMetrics: false }),
    ...{ readiness, clock: systemClock },
  });
  await started.start();
  let stopping: Promise<void> | undefined;
  const stop = () => (stopping ??= started.stop());
  cleanups.push(stop);
  await vi.waitFor(() => expect(readiness.ready().checks['redis']).toMatchObject({ ok: true }));
  return { url: `ws://127.0.0.1:${started.address.port}/ws`, stop };
}

/** Has a command run that none of the test's clients sent. */
async function execute(target: string): Promise<void> {
  const store = new CommandStore({
    ...{ connection, keys, queueLengthMax: 5, pendingTargetsMax: 6400, idempotencyMs: 60_000 },
    history: { entriesMax: 1_000, bytesMax: 1 << 20, ageMaxMs: 3_600_000, executionsMs: 60_000 },
  });
  const from = { subject: 's', address: '', gateway: '' };
  await store.submit({ target, command: 'x', args: [], ...from, idempotent: false });
  const claim = await store.claim(target, { id: 'r1', incarnation: 'i1' });
  if (claim.kind !== 'claimed') throw new Error(claim.kind);
  const ending = { outcome: 'succeeded', exitCode: 0, lines: 0, truncatedLines: 0, sequence: 0 } as const;
  await store.finish(target, claim.execution.id, claim.fence, ending);
}

interface Message {
  type: string;
  [key: string]: unknown;
}

class TestClient {
  readonly messages: Message[] = [];
  private constructor(readonly socket: WebSocket) {
    socket.on('message', (data: Buffer) => {
      for (const text of data.toString().split('\n')) this.messages.push(JSON.parse(text) as Message);
    });
    socket.on('error', () => undefined);
    cleanups.push(() => socket.terminate());
  }
  static async open(url: string, ...protocols: string[]): Promise<TestClient> {
    const client = new TestClient(new WebSocket(url, protocols));
    await new Promise((resolve, reject) => {
      client.socket.once('open', resolve);
      client.socket.once('error', reject);
    });
    return client;
  }
  send(message: object): void {
    this.socket.send(JSON.stringify(message));
  }
  of(type: string): Message[] {
    return this.messages.filter((message) => message.type === type);
  }
  /** Workers as a client knows them that does as the protocol says. */
  get known(): Map<string, string> {
    const known = new Map<string, string>();
    for (const message of this.of('workers')) {
      const { full, workers, removed } = SERVER_MESSAGES.workers.schema.parse(message);
      if (full) known.clear();
      for (const id of removed) known.delete(id);
      for (const { id, state } of workers) known.set(id, state);
    }
    return known;
  }
  get point(): StatusPoint {
    const { epoch, version } = SERVER_MESSAGES.workers.schema.parse(this.of('workers').at(-1));
    return { epoch, version };
  }
}

describe('the status on a connection', () => {
  it('clients that only follow output get none if they say so, and may ask for `workers` later', async () => {
    const { url } = await gateway();
    await monitor.publish({ upserts: [workerRecord('a', { state: 'pending' })] });
    const [follower, old] = [await TestClient.open(url, 'carrierarr.v1'), await TestClient.open(url)];
    follower.send({ type: 'subscribe', target: 'w1', batch: true, status: false });
    await vi.waitFor(() => expect(follower.of('subscribed')).toHaveLength(1), { timeout: 5_000 });
    await vi.waitFor(() => expect(old.of('status')).toHaveLength(1), { timeout: 5_000 });
    for (const state of ['running', 'stopping']) {
      const before = old.of('status').length;
      await monitor.publish({ upserts: [workerRecord('a', { state })] });
      await vi.waitFor(() => expect(old.of('status').length).toBeGreaterThan(before), { timeout: 5_000 });
    }
    // What it asks for now is answered after all that it was sent before.
    follower.send({ type: 'subscribe', workers: true });
    await vi.waitFor(() => expect(follower.known.get('a')).toBe('stopping'), { timeout: 5_000 });
    expect(follower.of('status')).toEqual([]);
  });

  it('old clients get `status` when something changes, and never anything that they do not know', async () => {
    const { url } = await gateway();
    const [old, modern, other] = [
      await TestClient.open(url),
      await TestClient.open(url, 'carrierarr.v1'),
      await TestClient.open(url),
    ];
    other.send({ type: 'subscribe', workers: true });
    await monitor.publish({ upserts: [workerRecord('a', { state: 'pending' })] });
    await vi.waitFor(() => expect(old.of('status')).toHaveLength(1), { timeout: 5_000 });
    await monitor.publish({ upserts: [workerRecord('a')] });
    await vi.waitFor(() => expect(old.of('status')).toHaveLength(2), { timeout: 5_000 });
    const { data } = old.of('status').at(-1) as { data?: unknown };
    expect(JSON.parse(data as string)).toMatchObject({ workers: [{ id: 'a', state: 'running', provider: 'ec2' }] });
    await vi.waitFor(() => expect(other.known.get('a')).toBe('running'));
    // A subprotocol alone does not ask for `workers`.
    await vi.waitFor(() => expect(modern.of('status')).toHaveLength(2), { timeout: 5_000 });
    expect([...old.messages, ...modern.messages].filter(({ type }) => type === 'workers')).toEqual([]);
    expect(other.of('status')).toEqual([]);
  });

  it('who reconnects to another gateway misses no change, and gets none that it knows', async () => {
    const [one, two] = [await gateway(), await gateway()];
    await monitor.publish({ upserts: ['a', 'b', 'c'].map((id) => workerRecord(id)) });
    const before = await TestClient.open(one.url);
    before.send({ type: 'subscribe', workers: true });
    await vi.waitFor(() => expect(before.known.size).toBe(3), { timeout: 5_000 });
    await monitor.publish({ upserts: [workerRecord('a', { state: 'stopping' })] });
    await vi.waitFor(() => expect(before.known.get('a')).toBe('stopping'), { timeout: 5_000 });
    const { point } = before;
    before.socket.terminate();
    await one.stop();
    await monitor.publish({ upserts: [workerRecord('b', { state: 'stopped' })], removed: ['c'] });
    await monitor.publish({ upserts: [workerRecord('d')] });
    const after = await TestClient.open(two.url, 'carrierarr.v1');
    after.send({ type: 'subscribe', workers: point });
    await vi.waitFor(
      () =>
        expect(after.known).toEqual(
          new Map([
            ['b', 'stopped'],
            ['d', 'running'],
          ]),
        ),
      { timeout: 5_000 },
    );
    expect(after.of('workers').every(({ full }) => full === false)).toBe(true);
    expect(after.of('workers').flatMap(({ removed }) => removed)).toEqual(['c']);
    await monitor.publish({ removed: ['d'] });
    await vi.waitFor(() => expect(after.of('workers').at(-1)).toMatchObject({ removed: ['d'] }), { timeout: 5_000 });
  });

  it('asking for workers alone leaves output as it is, with a target it is a subscription as before', async () => {
    const { url } = await gateway();
    const [all, one] = [await TestClient.open(url), await TestClient.open(url)];
    all.send({ type: 'subscribe', workers: true });
    one.send({ type: 'subscribe', workers: true, target: 'w1', offsets: true });
    await vi.waitFor(() => {
      expect(all.of('workers')).toMatchObject([{ full: true, workers: [] }]);
      expect(one.of('workers')).toHaveLength(1);
      expect(one.of('subscribed')).toMatchObject([{ target: 'w1' }]);
    });
    expect(all.of('subscribed')).toEqual([]);
    for (const target of ['w1', 'w2']) await execute(target);
    const results = (client: TestClient) => client.of('result').map(({ target }) => target as string);
    await vi.waitFor(() => expect([new Set(results(all)), results(one)]).toEqual([new Set(['w1', 'w2']), ['w1']]));
    all.send({ type: 'subscribe', workers: true, tail: 3 });
    await vi.waitFor(() =>
      expect(all.of('error')).toMatchObject([
        { code: 'bad_message', error: expect.stringContaining('`tail` is about output') },
      ]),
    );
    all.send({ type: 'subscribe', workers: { epoch: 7 } });
    await vi.waitFor(() => expect(all.of('error')).toHaveLength(2));
    expect(clientMessageSchema.safeParse({ type: 'subscribe', workers: false }).success).toBe(false);
  });
});
