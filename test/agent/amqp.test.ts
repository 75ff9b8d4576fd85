import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { AGENT_EXCHANGES, amqpHeartbeatSchema, amqpRegistrationSchema } from '@carrierarr/protocol';
import { type Clock, createLogger, createMetrics, Readiness, systemClock } from '@carrierarr/platform';
import type { ConfirmChannel } from 'amqplib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AmqpPublisher, amqpUrl } from '../../apps/agent/src/amqp/publisher.js';
import { BROKER_START_MS, noRabbitMq, startRabbitMq, type TestRabbitMq } from '../support/rabbitmq.js';
import { until } from '../support/until.js';
import { createAgentMetrics } from '../../apps/agent/src/metrics.js';
import { endAgents, startAgent } from './support/agent-process.js';
import { TestControlPlane } from './support/control-plane.js';
import { endServers, startServer } from './support/http-server.js';

describe('the URL of the broker', () => {
  it.each([
    ['amqp://u:p@rabbit.example', 'amqp://u:p@rabbit.example/agents?heartbeat=15'],
    ['amqps://rabbit.example:5671/', 'amqps://rabbit.example:5671/agents?heartbeat=15'],
    ['amqp://rabbit.example/own?heartbeat=60', 'amqp://rabbit.example/own?heartbeat=60'],
  ])('%s has a virtual host and heartbeats', (text, url) => {
    expect(amqpUrl(text, 'agents')).toBe(url);
  });
});

type AgentExchange = (typeof AGENT_EXCHANGES)['registration' | 'heartbeat'];

/** A clock whose long pauses pass when the test says so; what waits for the broker is real. */
function pausedClock() {
  const pauses = new Set<{ wake: () => void; ms: number }>();
  let skippedMs = 0;
  const clock: Clock = {
    now: () => systemClock.now() + skippedMs,
    monotonicMs: () => systemClock.monotonicMs() + skippedMs,
    setInterval: (callback, ms) => systemClock.setInterval(callback, ms),
    setTimeout(wake, ms) {
      if (ms <= 10_000) return systemClock.setTimeout(wake, ms);
      const pause = { wake, ms };
      pauses.add(pause);
      return { cancel: () => void pauses.delete(pause) };
    },
  };
  return {
    clock,
    passNextPause: async () => {
      const pause = await until('a pause', () => [...pauses][0]);
      pauses.delete(pause);
      skippedMs += pause.ms;
      pause.wake();
    },
  };
}

async function startNumberIn(stateDir: string): Promise<number> {
  return (JSON.parse(await readFile(join(stateDir, 'start.json'), 'utf8')) as { number: number }).number;
}

interface Received {
  key: string;
  body: Record<string, unknown>;
  isPersistent: boolean;
  contentType: unknown;
}

describe.skipIf(noRabbitMq() !== undefined)('an agent at RabbitMQ', () => {
  let broker: TestRabbitMq;
  beforeAll(async () => {
    broker = await startRabbitMq();
  }, BROKER_START_MS);
  afterAll(() => broker.stop());

  let channel: ConfirmChannel;
  let received: Received[];
  beforeEach(() => (received = []));
  afterEach(async () => {
    await endAgents();
    await endServers();
    for (const { name } of [AGENT_EXCHANGES.registration, AGENT_EXCHANGES.heartbeat])
      await channel.deleteExchange(name);
  });

  /** Does what a control plane does when it starts. */
  async function declare(consumed = [AGENT_EXCHANGES.registration, AGENT_EXCHANGES.heartbeat]): Promise<void> {
    channel = await (await broker.client()).createConfirmChannel();
    for (const { name, type } of [AGENT_EXCHANGES.registration, AGENT_EXCHANGES.heartbeat])
      await channel.assertExchange(name, type, { durable: true });
    await consume(consumed);
  }

  async function consume(exchanges: readonly AgentExchange[]): Promise<void> {
    for (const { name, keys } of exchanges) {
      const { queue } = await channel.assertQueue('', { exclusive: true });
      for (const key of keys) await channel.bindQueue(queue, name, key);
      await channel.consume(
        queue,
        (message) => {
          if (message === null) return;
          received.push({
            ...{
              key: message.fields.routingKey,
              body: JSON.parse(message.content.toString()) as Record<string, unknown>,
            },
            ...{ isPersistent: message.properties.deliveryMode === 2, contentType: message.properties.contentType },
          });
        },
        { noAck: true },
      );
    }
  }

  const start = (clock?: Clock) =>
    startAgent({
      flags: ['--rabbitmq-url', broker.url, '--instance-id', 'i-1', '--type', 'gpu-worker', '--region', 'r1'],
      ...(clock && { clock }),
    });
  const bodies = (key: string) => received.filter((message) => message.key === key).map(({ body }) => body);

  it('registers by its instance id, sends heartbeats, and deregisters when it stops', async () => {
    await declare();
    const agent = await start();
    await until('a heartbeat', () => bodies('').length > 0);
    const [registration] = bodies('register');
    expect(registration).toMatchObject({
      ...{ action: 'register', node_id: 'i-1', node_type: 'gpu-worker', region: 'r1', az: '', public_ip: '' },
      capabilities: { gpu: false },
    });
    expect(amqpRegistrationSchema.safeParse(registration).error).toBeUndefined();
    const [heartbeat] = bodies('');
    expect(heartbeat).toMatchObject({ node_id: 'i-1', status: 'degraded', services: { nebula: false } });
    expect(amqpHeartbeatSchema.safeParse(heartbeat).error).toBeUndefined();
    expect(heartbeat?.['resources']).toMatchObject({ gpus: [], models_loaded: [] });
    expect(received.every(({ isPersistent, contentType }) => isPersistent && contentType === 'application/json')).toBe(
      true,
    );
    expect(agent.readiness.ready().ready).toBe(true);
    await agent.stop();
    await until('the deregistration', () => bodies('deregister').length === 1);
    const starts = received.map(({ body }) => body['start_number']);
    expect(new Set(starts)).toEqual(new Set([await startNumberIn(agent.stateDir)]));
  });

  it('deregisters over a connection for that alone, if it has none when it stops', async () => {
    const agent = await start();
    await until('a failure', () => agent.logs().includes('no heartbeats over RabbitMQ'));
    const stopping = agent.stop();
    await declare();
    await stopping;
    await until('the deregistration', () => bodies('deregister').length === 1);
    expect(received).toHaveLength(1);
  });

  it('ends its stream before it deregisters: a node with a stream would be kept', async () => {
    await declare();
    const control = await TestControlPlane.start({ endsStreams: false });
    const agent = await startAgent({
      flags: ['--control-plane', control.address, '--rabbitmq-url', broker.url, '--instance-id', 'i-1'],
    });
    await until('a heartbeat', () => bodies('').length > 0);
    const saidAllMs = once(await control.connected(), 'end').then(() => performance.now());
    const stopping = agent.stop();
    await until('the deregistration', () => bodies('deregister').length === 1);
    // For so long the agent waits for the other end.
    expect(performance.now() - (await saidAllMs)).toBeGreaterThan(2_500);
    await stopping;
    control.stop();
  });

  it('tries again to register when no queue takes it, says so, and beats meanwhile', async () => {
    await declare([AGENT_EXCHANGES.heartbeat]);
    const agent = await start();
    await until('a heartbeat', () => bodies('').length > 0);
    expect(await agent.metric('carrierarr_agent_unroutable_registrations_total')).toBeGreaterThan(0);
    expect(await agent.metric('carrierarr_agent_rabbitmq_connected')).toBe(0);
    expect(agent.readiness.ready().checks['rabbitmq']).toMatchObject({
      ...{ ok: false, detail: 'no queue takes registrations from the exchange agents.registration' },
    });
    expect(agent.logs()).toContain('not registered at RabbitMQ');
    await consume([AGENT_EXCHANGES.registration]);
    await until('the registration', () => bodies('register').length > 0, 30_000);
    await until('ready', () => agent.readiness.ready().ready);
  }, 60_000);

  it('registers again every few minutes, since a registration may be lost', async () => {
    await declare();
    const { clock, passNextPause } = pausedClock();
    const agent = await start(clock);
    await until('the first heartbeat', () => bodies('').length === 1);
    const published = () => bodies('register').length + bodies('').length;
    while (bodies('register').length < 2) {
      const before = published();
      await passNextPause();
      await until('what follows a pause', () => published() > before);
      expect(bodies('').length).toBeLessThan(12);
    }
    expect(bodies('').length).toBeGreaterThan(4);
    expect(agent.logs()).not.toContain('no heartbeats over RabbitMQ');
  });

  /** An agent whose cloud answers only later. */
  async function startUnidentified() {
    let isThere = false;
    const imds = await startServer((request, response) => {
      if (!isThere) return void response.writeHead(503).end();
      const isKnown = request.method === 'PUT' || request.url?.endsWith('/instance-id');
      return void response.writeHead(isKnown ? 200 : 404).end('i-late');
    });
    const agent = await startAgent({
      flags: ['--rabbitmq-url', broker.url, '--metadata', 'ec2', '--metadata-url', imds.url],
    });
    await until('a heartbeat', () => bodies('').length > 0);
    expect(bodies('register')).toMatchObject([{ node_id: 'node-1' }]);
    return {
      agent,
      identify: () => {
        isThere = true;
      },
    };
  }

  it('goes by its instance id once it knows that, and by its host name no more', async () => {
    await declare();
    const { identify } = await startUnidentified();
    identify();
    // It is asked again within 12 s.
    await until('the new registration', () => bodies('register').length > 1, 25_000);
    expect(bodies('deregister')).toMatchObject([{ node_id: 'node-1' }]);
    expect(bodies('register').at(-1)).toMatchObject({ node_id: 'i-late' });
  }, 60_000);

  it('deregisters its host name once it can, if nothing could be said when it learnt its instance id', async () => {
    await declare();
    const { agent, identify } = await startUnidentified();
    for (const { name } of [AGENT_EXCHANGES.registration, AGENT_EXCHANGES.heartbeat])
      await channel.deleteExchange(name);
    received.length = 0;
    identify();
    await until('its instance id', () => agent.logs().includes('i-late'), 25_000);
    await until('a failure', () => agent.logs().includes('no heartbeats over RabbitMQ'));
    await declare();
    await until('the end of the former name', () => bodies('deregister').length > 0, 40_000);
    await until('the new registration', () => bodies('register').length > 0, 40_000);
    expect(bodies('deregister')[0]).toMatchObject({ node_id: 'node-1' });
    expect(bodies('register').every((body) => body['node_id'] === 'i-late')).toBe(true);
  }, 120_000);

  it('sends no heartbeat behind the word that it goes', async () => {
    await declare();
    const looks: (() => void)[] = [];
    const publisher = new AmqpPublisher({
      ...{ url: broker.url, vhost: 'agents', readiness: new Readiness(), clock: systemClock },
      registration: (action) => Promise.resolve({ action, node_id: 'i-1' }),
      heartbeat: () => new Promise((resolve) => looks.push(() => resolve({ node_id: 'i-1' }))),
      metrics: createAgentMetrics(createMetrics({ program: 'agent', version: 'test', hasProcessMetrics: false }), {
        ...{ running: () => 0, idleSeconds: () => 0, undelivered: () => 0, spoolBytes: () => 0 },
      }),
      logger: createLogger({ program: 'test', level: 'silent', destination: new Writable() }),
    });
    publisher.start();
    await until('a look at the machine', () => looks.length > 0);
    const stopping = publisher.stop();
    await until('the deregistration', () => bodies('deregister').length === 1);
    looks[0]?.();
    await stopping;
    // What was published before this one has come by then.
    channel.publish(AGENT_EXCHANGES.heartbeat.name, '', Buffer.from('{"node_id":"last"}'));
    await until('the last message', () => bodies('').some((body) => body['node_id'] === 'last'));
    expect(bodies('')).toEqual([{ node_id: 'last' }]);
  });

  it('waits for exchanges that are not there yet, and declares none', async () => {
    const agent = await start();
    await until('a failure', () => agent.logs().includes('no heartbeats over RabbitMQ'));
    expect(agent.readiness.ready().ready).toBe(false);
    await declare();
    await until('the registration', () => bodies('register').length > 0, 20_000);
  });

  it('comes back to a broker that was killed, and registers again', async () => {
    await declare();
    await start();
    await until('a heartbeat', () => bodies('').length > 0);
    await broker.kill();
    await broker.start();
    received.length = 0;
    await declare();
    await until('the registration', () => bodies('register').length > 0, 40_000);
    await until('a heartbeat', () => bodies('').length > 0);
  }, 120_000);
});
