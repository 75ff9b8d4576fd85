import { AGENT_EXCHANGES, amqpHeartbeatSchema, amqpRegistrationSchema } from '@carrierarr/protocol';
import type { ConfirmChannel } from 'amqplib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { amqpUrl } from '../../apps/agent/src/amqp/publisher.js';
import { BROKER_START_MS, noRabbitMq, startRabbitMq, type TestRabbitMq } from '../support/rabbitmq.js';
import { until } from '../support/until.js';
import { endAgents, startAgent } from './support/agent-process.js';

describe('the URL of the broker', () => {
  it.each([
    ['amqp://u:p@rabbit.example', 'amqp://u:p@rabbit.example/agents?heartbeat=15'],
    ['amqps://rabbit.example:5671/', 'amqps://rabbit.example:5671/agents?heartbeat=15'],
    ['amqp://rabbit.example/own?heartbeat=60', 'amqp://rabbit.example/own?heartbeat=60'],
  ])('%s has a virtual host and heartbeats', (text, url) => {
    expect(amqpUrl(text, 'agents')).toBe(url);
  });
});

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
    for (const { name } of [AGENT_EXCHANGES.registration, AGENT_EXCHANGES.heartbeat])
      await channel.deleteExchange(name);
  });

  /** Does what a control plane does when it starts. */
  async function declare(): Promise<void> {
    channel = await (await broker.client()).createConfirmChannel();
    for (const { name, type, keys } of [AGENT_EXCHANGES.registration, AGENT_EXCHANGES.heartbeat]) {
      await channel.assertExchange(name, type, { durable: true });
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

  const start = () =>
    startAgent({
      flags: ['--rabbitmq-url', broker.url, '--instance-id', 'i-1', '--type', 'gpu-worker', '--region', 'r1'],
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
