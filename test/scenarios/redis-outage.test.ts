/** Redis dies, freezes and drops connections under load (promises O1, O5, P3). */
import { expect, test } from 'vitest';
import { Installation } from '../support/installation.js';
import { until } from '../support/until.js';
import type { NewClient } from '../support/ws-clients.js';

const TARGETS = ['worker-1', 'worker-2'];
/** What clients of the old protocol may ever receive. */
const OLD_TYPES = ['error', 'pong', 'result', 'status', 'stderr', 'stdout'];

/** Commands, one after the other, on every target until it is stopped. */
function load(client: NewClient, targets: readonly string[]) {
  let isStopped = false;
  const run = async (target: string) => {
    for (let n = 0; !isStopped; n += 1) await client.submitUntilAccepted(target, 'write', 30 + (n % 5), 10, 0.005);
  };
  const running = Promise.all(targets.map(run));
  return async () => {
    isStopped = true;
    await running;
  };
}

test('Redis is killed and started again: clients are told, running scripts go on, and nothing is lost', async () => {
  const it = await Installation.start();
  const client = await it.newClient('client', { targets: '*' });
  const held = await Promise.all(TARGETS.map((target) => client.submit(target, 'hold', 10, 0.02)));
  const writer = await it.newClient('writer', { gateway: it.gateway(1), targets: ['loaded'] });
  const stopLoad = load(writer, ['loaded']);
  await until('lines of all', () => [...TARGETS, 'loaded'].every((target) => client.session.lineCount(target) > 60));

  await it.redis.kill();
  await client.next('to be told', ({ type }) => type === 'degraded');
  await it.redis.start();
  await client.next('to be told', ({ type }) => type === 'restored');
  const seen = client.session.lineCount('worker-1');
  await until('more lines', () => client.session.lineCount('worker-1') > seen + 100);
  await stopLoad();
  for (const { commandId } of held) await it.release(commandId);
  await it.verdict('SIGKILL of Redis', { timeoutMs: 60_000 });
  expect(held.map(({ execution }) => client.session.outcomeOf(execution))).toEqual(held.map(() => 'succeeded'));
  expect([client.connections, writer.connections]).toEqual([1, 1]);
});

test('while Redis is frozen sockets stay, clients are told, submits fail fast, scripts go on and catch up in order', async () => {
  const it = await Installation.start();
  const client = await it.newClient('client', { targets: '*' });
  const old = await it.oldClient('old', it.gateway(1));
  const held = await Promise.all(TARGETS.map((target) => client.submit(target, 'hold', 10, 0.02)));
  await until('lines', () => TARGETS.every((target) => client.session.lineCount(target) > 50));

  it.redis.freeze();
  const frozenMs = Date.now();
  await client.next('to be told', ({ type }) => type === 'degraded', 5_000);
  const toldMs = Date.now() - frozenMs;
  // Known to be away by now: refused at once, and in words.
  const sentMs = Date.now();
  const refused = client.submitAs('during-1', 'worker-3', 'write', 5);
  await expect(refused).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringContaining('was not accepted') as string,
  });
  expect(Date.now() - sentMs).toBeLessThan(1_000);
  old.submit('worker-4', 'write', 5);
  await old.socket.next('an error', ({ type, target }) => type === 'error' && target === 'worker-4', 3_000);
  const ready = await fetch(`${it.gateway(0).url}/ready`);
  expect(ready.status).toBe(503);
  // Scripts write on; what they wrote waits in the runner's spool.
  await until('5 s without Redis', () => Date.now() - frozenMs > 5_000);

  it.redis.thaw();
  await client.next('to be told', ({ type }) => type === 'restored');
  await client.submitUntilAccepted('worker-3', 'write', 5);
  const seen = client.session.lineCount('worker-1');
  await until('more lines', () => client.session.lineCount('worker-1') > seen + 100);
  for (const { commandId } of held) await it.release(commandId);
  const report = await it.verdict('Redis frozen for 5 s', { timeoutMs: 60_000 });
  expect(report.lines).toBeGreaterThan(2 * 2 * 250 * 5);
  expect(held.map(({ execution }) => client.session.outcomeOf(execution))).toEqual(held.map(() => 'succeeded'));
  expect(client.connections).toBe(1);
  expect(old.socket.isOpen).toBe(true);
  expect(old.socket.messages.map(({ type }) => type).filter((type) => !OLD_TYPES.includes(type))).toEqual([]);
  expect(toldMs).toBeLessThan(5_000);
});

test('Redis connections that are killed again and again under load cost no line and no command', async () => {
  const it = await Installation.start();
  const clients = [
    await it.newClient('client 1', { gateway: it.gateway(0), targets: '*' }),
    await it.newClient('client 2', { gateway: it.gateway(1), targets: [...TARGETS, 'held'] }),
  ];
  const old = await it.oldClient('old', it.gateway(1));
  const [first] = clients as [NewClient, NewClient];
  const held = await first.submit('held', 'hold', 20, 0.01);
  const stopLoad = load(first, TARGETS);
  const redis = it.redis.client();
  for (let round = 0; round < 12; round += 1) {
    const seen = first.session.lineCount('held');
    await until('more lines', () => first.session.lineCount('held') > seen + 200, 30_000);
    await redis.call('CLIENT', 'KILL', 'TYPE', round % 3 === 2 ? 'normal' : 'pubsub', 'SKIPME', 'yes');
  }
  await stopLoad();
  await it.release(held.commandId);
  await it.verdict('Redis connections killed 12 times', { timeoutMs: 60_000 });
  expect(clients.map((client) => client.connections)).toEqual([1, 1]);
  expect(old.socket.isOpen).toBe(true);
});
