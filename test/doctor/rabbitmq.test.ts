import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { judgeConnection, judgeDeclared } from '../../apps/cli/src/doctor/rabbitmq.js';
import { BROKER_START_MS, noRabbitMq, startRabbitMq, type TestRabbitMq, VHOST } from '../support/rabbitmq.js';
import { examine } from './support.js';

const missing = noRabbitMq();

describe.skipIf(missing !== undefined)(`doctor and a real RabbitMQ${missing ? ` (${missing})` : ''}`, () => {
  let broker: TestRabbitMq;
  beforeAll(async () => {
    broker = await startRabbitMq();
  }, BROKER_START_MS);
  afterAll(() => broker?.stop());

  it('tell what is missing, make none of it, and see what a monitor would have made', async () => {
    const flags = ['--rabbitmq-url', broker.url];
    const before = await examine(flags);
    expect(before.of('rabbitmq')).toEqual([
      'ok: RabbitMQ lets us into the virtual host "agents".',
      ...['exchange agents.registration', 'queue registration.control-plane', 'exchange agents.heartbeat'].map((what) =>
        expect.stringContaining(`fail: The ${what} does not exist`),
      ),
      expect.stringContaining('fail: The queue heartbeat.control-plane does not exist'),
      expect.stringContaining('fail: The exchange agents.commands does not exist'),
    ]);
    expect(before.exitCode).toBe(1);
    expect((await examine(flags)).of('rabbitmq')).toEqual(before.of('rabbitmq'));

    const channel = await (await broker.client()).createChannel();
    await channel.assertExchange('agents.registration', 'direct', { durable: true });
    await channel.assertExchange('agents.heartbeat', 'topic', { durable: true });
    await channel.assertExchange('agents.commands', 'topic', { durable: true });
    await channel.assertQueue('registration.control-plane', { durable: true });
    await channel.assertQueue('heartbeat.control-plane', { durable: true });
    await channel.consume('heartbeat.control-plane', () => undefined);
    const after = await examine(flags);
    expect(after.of('rabbitmq')).toEqual([
      'ok: RabbitMQ lets us into the virtual host "agents".',
      'ok: The exchange agents.registration exists.',
      'warn: Nobody reads the queue registration.control-plane; 0 messages wait.',
      expect.stringMatching(
        /^fail: The exchange agents\.heartbeat is not what agents expect \(.*inequivalent arg 'type'/,
      ),
      'ok: The queue heartbeat.control-plane is read by 1; 0 messages wait.',
      'ok: The exchange agents.commands exists.',
    ]);
  });

  it('tell a wrong password from a virtual host that is not there, and show no password', async () => {
    const wrong = await examine(['--rabbitmq-url', broker.url.replace('guest:guest', 'guest:wrong-sekret')]);
    expect(wrong.of('rabbitmq')).toEqual(['fail: RabbitMQ refuses the user or its password.']);
    expect(wrong.text).not.toContain('sekret');
    const elsewhere = await examine(['--rabbitmq-url', broker.url, '--rabbitmq-vhost', 'fleet']);
    expect(elsewhere.of('rabbitmq')).toEqual([
      'fail: RabbitMQ has no virtual host "fleet", or does not let this user in.',
    ]);
    expect(VHOST).toBe('agents');
    const nobody = await examine(['--rabbitmq-url', 'amqp://guest:wrong-sekret@127.0.0.1:1']);
    expect(nobody.of('rabbitmq')).toEqual([expect.stringMatching(/^fail: RabbitMQ cannot be reached: .*ECONNREFUSED/)]);
    expect(nobody.text).not.toContain('sekret');
  });
});

it('doctor tells of messages that nobody gets round to, and of a user that may not look', () => {
  const there = (messages: number, consumers: number) =>
    judgeDeclared('queue q', { kind: 'there', messages, consumers }).level;
  expect([there(1_000, 1), there(1_001, 1), there(0, 0)]).toEqual(['ok', 'warn', 'warn']);
  // All monitors read, not only the one that leads.
  for (const [messages, consumers] of [
    [5, 0],
    [1_001, 2],
  ] as const) {
    const { advice } = judgeDeclared('queue q', { kind: 'there', messages, consumers });
    expect(advice).toMatch(/monitors? with --rabbitmq-url/);
    expect(advice).not.toMatch(/leading|one that leads/);
  }
  expect(judgeDeclared('queue q', { kind: 'forbidden' }).advice).toContain('permissions');
  expect(judgeConnection('v', new Error('getaddrinfo EAI_AGAIN')).level).toBe('fail');
});
