/** Agents' messages over a real RabbitMQ into a real Redis. */
import { createLogger, Readiness, Registry, systemClock } from '@carrierarr/platform';
import { AGENT_EXCHANGES, Keys } from '@carrierarr/protocol';
import { defineScripts, NodeFollow, NodeRegistry } from '@carrierarr/store';
import type { Channel } from 'amqplib';
import { Redis } from 'ioredis';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Writable } from 'node:stream';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AgentQueues } from '../../../apps/monitor/src/agents/amqp/agent-queues.js';
import { createAmqpMetrics } from '../../../apps/monitor/src/agents/amqp/metrics.js';
import { BROKER_START_MS, noRabbitMq, startRabbitMq, type TestRabbitMq } from '../../support/rabbitmq.js';
import { startRedis, type TestRedis } from '../../support/redis.js';
import { until } from '../../support/until.js';

const { registration, heartbeat } = AGENT_EXCHANGES;
const missing = noRabbitMq();

let broker: TestRabbitMq;
let redis: TestRedis;
let connection: Redis;
let keys: Keys;
let follow: NodeFollow;
/** Of an agent. */
let agent: Channel;
const readers: AgentQueues[] = [];

beforeAll(async () => {
  if (missing !== undefined) return;
  [broker, redis] = await Promise.all([startRabbitMq(), startRedis({ appendOnly: true })]);
  // As monitors have it: what cannot be sent now fails now.
  connection = new Redis(redis.port, '127.0.0.1', {
    ...{ enableOfflineQueue: false, maxRetriesPerRequest: 0, autoResendUnfulfilledCommands: false },
    retryStrategy: () => 50,
  });
  connection.on('error', () => undefined);
  await once(connection, 'ready');
  defineScripts(connection);
}, BROKER_START_MS);
afterAll(async () => {
  connection?.disconnect();
  await Promise.all([broker?.stop(), redis?.stop()]);
}, BROKER_START_MS);
afterEach(async () => {
  await Promise.all(readers.splice(0).map((reader) => reader.stop()));
});

/** A monitor's part that reads; begun, and not waited for. */
async function read(monitor: string, { url = broker.url, nodesMax = 5_000 } = {}) {
  const metrics = new Registry();
  const readiness = new Readiness();
  const lines: string[] = [];
  const destination = new Writable({
    write(chunk: Buffer, _, done) {
      lines.push(chunk.toString());
      done();
    },
  });
  const reader = new AgentQueues({
    ...{ url, vhost: 'agents', monitor, clock: systemClock, readiness },
    registry: new NodeRegistry({ connection, keys, nodesMax }),
    logger: createLogger({ program: 'test', destination }),
    metrics: createAmqpMetrics(metrics),
  });
  readers.push(reader);
  await reader.start();
  const counted = async (queue: string, outcome: string) => {
    const { values } = await metrics.getSingleMetric('carrierarr_monitor_rabbitmq_messages_total')!.get();
    return values.find(({ labels }) => labels['queue'] === queue && labels['outcome'] === outcome)?.value;
  };
  const detail = () => readiness.ready().checks['rabbitmq'];
  return { reader, counted, detail, lines, metrics };
}
const reading = (what: { reader: AgentQueues }) => until('messages to be read', () => what.reader.isConsuming, 60_000);

async function nodes() {
  await follow.refresh();
  return follow;
}
const say = (exchange: string, key: string, body: unknown) =>
  agent.publish(exchange, key, Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)), {
    ...{ persistent: true, contentType: 'application/json' },
  });
const register = (node_id: string, fields: object = {}) =>
  say(registration.name, 'register', { action: 'register', node_id, node_type: 'gpu-worker', ...fields });
const deregister = (node_id: string, fields: object = {}) =>
  say(registration.name, 'deregister', { action: 'deregister', node_id, node_type: 'gpu-worker', ...fields });
const beat = (node_id: string, fields: object = {}) =>
  say(heartbeat.name, '', { node_id, status: 'healthy', services: {}, resources: {}, ...fields });
const waiting = async (queue: string) => (await agent.checkQueue(queue)).messageCount;

describe.skipIf(missing !== undefined)(`agents over RabbitMQ${missing ? ` (${missing})` : ''}`, () => {
  beforeEach(async () => {
    keys = new Keys(`t${randomBytes(4).toString('hex')}`);
    follow = new NodeFollow({ connection, keys });
    agent = await (await broker.client()).createChannel();
  });

  it('register, beat and deregister, into queues that are made for them', async () => {
    const m1 = await read('m1');
    await reading(m1);
    register('i-0000000a', { nebula_ip: '10.42.0.7', capabilities: { gpu: true } });
    beat('i-0000000a', { status: 'degraded' });
    beat('i-0000000a', { status: 'degraded' });
    const node = await until('both to be known', async () => {
      const found = (await nodes()).find('i-0000000a');
      return found?.registration !== undefined && found.heartbeat !== undefined && found;
    });
    expect(node).toMatchObject({
      registration: { type: 'NODE_TYPE_GPU_WORKER', nebula_ip: '10.42.0.7', instance_id: 'i-0000000a' },
      heartbeat: { status: 'degraded' },
    });
    expect(node.seenMs.amqp).toBeGreaterThan(Date.now() - 60_000);
    expect((await nodes()).listening.amqp).toBeDefined();
    expect(m1.detail()).toMatchObject({ ok: true, detail: 'messages of agents are read' });

    deregister('i-0000000a');
    await until('it to be gone', async () => (await nodes()).find('i-0000000a') === undefined);
    await until('all to be counted', async () => (await m1.counted('heartbeat', 'taken')) === 2);
    expect(await m1.counted('registration', 'taken')).toBe(2);
  });

  it('are not taken out by a goodbye that is older than their registration', async () => {
    await reading(await read('m1'));
    register('i-0000000b', { timestamp: '2025-01-01T00:00:10Z' });
    deregister('i-0000000b', { timestamp: '2025-01-01T00:00:09Z' });
    register('i-0000000c');
    await until('the last one to be known', async () => (await nodes()).find('i-0000000c'));
    expect((await nodes()).find('i-0000000b')).toBeDefined();
    deregister('i-0000000b', { timestamp: '2025-01-01T00:00:11Z' });
    await until('it to be gone', async () => (await nodes()).find('i-0000000b') === undefined);
  });

  it('do not come back by what they said before they left', async () => {
    const m1 = await read('m1');
    await reading(m1);
    register('i-0000000b', { timestamp: '2025-01-01T00:00:08Z' });
    deregister('i-0000000b', { timestamp: '2025-01-01T00:00:10Z' });
    register('i-0000000b', { timestamp: '2025-01-01T00:00:09Z' });
    register('i-0000000c');
    await until('the last one to be known', async () => (await nodes()).find('i-0000000c'));
    beat('i-0000000b', { timestamp: '2025-01-01T00:00:09.5Z' });
    await until('it to be counted', async () => (await m1.counted('heartbeat', 'outdated')) === 1);
    expect(await m1.counted('registration', 'outdated')).toBe(1);
    expect((await nodes()).find('i-0000000b')).toBeUndefined();
    register('i-0000000b', { timestamp: '2025-01-01T00:00:11Z' });
    beat('i-0000000b', { timestamp: '2025-01-01T00:00:12Z' });
    await until('it to be back', async () => (await nodes()).find('i-0000000b')?.heartbeat);
  });

  it('drops what cannot be read, once, and says what it was now and then', async () => {
    const m1 = await read('m1');
    await reading(m1);
    for (let i = 0; i < 50; i += 1) say(heartbeat.name, '', `{"broken": ${i}`);
    say(registration.name, 'register', { action: 'register', node_id: 7 });
    beat('i-0000000d', { status: 'wonderful' });
    beat('i-0000000d', { colour: 'blue' });
    await until('all to be counted', async () => (await m1.counted('heartbeat', 'malformed')) === 51);
    await until('the other, too', async () => (await m1.counted('registration', 'malformed')) === 1);
    await until('what can be read to be known', async () => (await nodes()).find('i-0000000d'));
    expect(await waiting(heartbeat.queue)).toBe(0);
    const said = m1.lines.filter((line) => line.includes('cannot be read'));
    expect(said).toHaveLength(1);
    expect(said[0]).toContain('broken');
  });

  it('that are too many are refused, and do not come again', async () => {
    const m1 = await read('m1', { nodesMax: 1 });
    await reading(m1);
    register('i-0000000e');
    register('i-0000000f');
    beat('i-00000010');
    await until('both to be refused', async () => {
      return (await m1.counted('registration', 'refused')) === 1 && (await m1.counted('heartbeat', 'refused')) === 1;
    });
    expect([...(await nodes()).nodes.keys()]).toEqual(['i-0000000e']);
  });

  it('are lost to nobody while Redis is away, and are taken without a storm', async () => {
    const m1 = await read('m1');
    await reading(m1);
    await redis.kill();
    for (let i = 0; i < 300; i += 1) beat(`i-1000${1000 + i}`);
    register('i-00000011');
    const retries = async () => {
      const { values } = await m1.metrics.getSingleMetric('carrierarr_monitor_rabbitmq_retries_total')!.get();
      return values[0]?.value ?? 0;
    };
    await until('writes to fail', async () => (await retries()) > 200);
    const inHand = await m1.metrics.getSingleMetric('carrierarr_monitor_rabbitmq_in_hand')!.get();
    expect(inHand.values[0]?.value).toBeLessThanOrEqual(250);
    await redis.start();
    await until('all to be known', async () => (await nodes()).nodes.size === 301, 30_000);
    // With a backoff of 200 ms that doubles, a second or two of absence is a handful of tries each.
    expect(await retries()).toBeLessThan(250 * 15);
    expect(await m1.counted('heartbeat', 'taken')).toBe(300);
    expect(await m1.counted('heartbeat', 'failed')).toBe(0);
  });

  it('are read by several monitors at once, each message by one', async () => {
    const [one, two] = [await read('m1'), await read('m2')];
    await Promise.all([reading(one), reading(two)]);
    for (let i = 0; i < 600; i += 1) beat(`i-2000${1000 + i}`);
    await until('all to be known', async () => (await nodes()).nodes.size === 600);
    const taken = async () => [await one.counted('heartbeat', 'taken'), await two.counted('heartbeat', 'taken')];
    await until('all to be counted', async () => (await taken()).reduce((a = 0, b = 0) => a + b, 0) === 600);
    expect(Math.min(...((await taken()) as number[]))).toBeGreaterThan(0);
    await one.reader.stop();
    beat('i-00000012');
    await until('the other to go on', async () => (await nodes()).find('i-00000012'));
  });

  it('find again all that was said when a monitor stops with messages in hand', async () => {
    const first = await read('m1');
    await reading(first);
    await redis.kill();
    for (let i = 0; i < 20; i += 1) beat(`i-3000${1000 + i}`);
    register('i-00000013');
    await until('all to be in hand', async () => (await waiting(heartbeat.queue)) === 0);
    await first.reader.stop();
    expect(await first.counted('heartbeat', 'given-back')).toBe(20);
    await redis.start();
    await reading(await read('m2'));
    await until('all to be known', async () => (await nodes()).nodes.size === 21, 30_000);
  });

  it('begin anew when somebody deletes a queue', async () => {
    const m1 = await read('m1');
    await reading(m1);
    await agent.deleteQueue(heartbeat.queue);
    await until('reading to have ended', () => !m1.reader.isConsuming);
    await reading(m1);
    beat('i-00000014');
    await until('it to be known', async () => (await nodes()).find('i-00000014'));
  });

  it('are told of a queue that is there as something else, and read once it is gone', async () => {
    await agent.deleteQueue(heartbeat.queue);
    await agent.assertQueue(heartbeat.queue, { durable: true, messageTtl: 1_000 });
    const m1 = await read('m1');
    const { detail } = await until('the reason', () => {
      const check = m1.detail();
      return check?.detail.includes('Expected the queue') && check;
    });
    expect(detail).toContain('Expected the queue heartbeat.control-plane to be a durable classic queue');
    expect(detail).toContain('Delete it');
    expect(m1.detail()?.ok).toBe(true);
    expect(m1.reader.isConsuming).toBe(false);
    expect((await nodes()).listening.amqp).toBeUndefined();
    await agent.deleteQueue(heartbeat.queue);
    await reading(m1);
  });

  it('are read after a broker that was away from the start, and again after it was restarted', async () => {
    await broker.halt();
    const m1 = await read('m1');
    await until('it to say so', () => m1.detail()?.detail.includes('RabbitMQ is away'));
    expect(m1.detail()).toMatchObject({ ok: true, detail: expect.stringContaining('ECONNREFUSED') as string });
    expect(m1.detail()?.detail).not.toContain('guest');
    // It would listen: no node may be stale because nobody does.
    await until('it to say that it serves agents', async () => (await nodes()).isServed);
    expect((await nodes()).listening.amqp).toBeUndefined();
    await broker.start();
    await reading(m1);
    const before = await until('it to say that it listens', async () => (await nodes()).listening.amqp);

    // Nobody can have been heard for a while: the silence before does not count.
    const [since, upTo] = (await connection.hget(keys.listening(), 'amqp'))!.split(' ').map(Number);
    expect(since).toBe(before);
    await broker.halt();
    await until('reading to have ended', () => !m1.reader.isConsuming);
    await connection.hset(keys.listening(), 'amqp', `${since! - 60_000} ${upTo! - 60_000}`);
    expect((await nodes()).listening.amqp).toBeUndefined();
    await broker.start();
    await reading(m1);
    agent = await (await broker.client()).createChannel();
    beat('i-00000015');
    await until('it to be known', async () => (await nodes()).find('i-00000015'));
    expect(await until('it to listen again', async () => (await nodes()).listening.amqp)).toBeGreaterThan(before);
  }, 180_000);

  it('notices a broker that is frozen, and a stop does not wait for it', async () => {
    const m1 = await read('m1', { url: `${broker.url}?heartbeat=1` });
    await reading(m1);
    broker.freeze();
    try {
      await until('reading to have ended', () => !m1.reader.isConsuming);
      const began = performance.now();
      await m1.reader.stop();
      expect(performance.now() - began).toBeLessThan(12_000);
    } finally {
      broker.thaw();
    }
  }, 60_000);
});
