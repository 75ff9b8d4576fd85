/**
 * Clients of the old protocol, to the letter: no message they do not know, no field they do not know, also while Redis
 * is away and while the gateway stops.
 */
import { Keys } from '@carrierarr/protocol';
import { defineScripts } from '@carrierarr/store';
import { expect, test } from 'vitest';
import { TestMonitor, workerRecord } from '../gateway/status/monitor.js';
import { Installation } from '../support/installation.js';
import { until } from '../support/until.js';
import { type Message, Socket, wsUrl } from '../support/ws-clients.js';

/** Fields by type, as section 1 of the wire facts has them; those in the second list may be left out. */
const FIELDS: Record<string, [required: string[], optional: string[]]> = {
  stdout: [['type', 'timestamp', 'target', 'data'], []],
  stderr: [['type', 'timestamp', 'target', 'data'], []],
  result: [['type', 'timestamp', 'target', 'exit_code'], []],
  // `code` and `id` are optional fields, which an old client ignores.
  error: [
    ['type', 'timestamp', 'error'],
    ['target', 'code', 'id'],
  ],
  status: [['type', 'timestamp', 'data'], []],
  pong: [['type'], ['timestamp']],
};
const RFC_3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;

function expectOld(messages: readonly Message[]): void {
  expect(messages.length).toBeGreaterThan(0);
  for (const message of messages) {
    const fields = FIELDS[message.type];
    expect(fields, `an old client must never get ${JSON.stringify(message)}`).toBeDefined();
    const [required, optional] = fields ?? [[], []];
    expect(Object.keys(message)).toEqual(expect.arrayContaining(required));
    expect([...required, ...optional]).toEqual(expect.arrayContaining(Object.keys(message)));
    if (message['timestamp'] !== undefined) expect(message['timestamp']).toMatch(RFC_3339);
    if (message.type === 'result') expect(Number.isInteger(message['exit_code'])).toBe(true);
    if ('data' in message) expect(typeof message['data']).toBe('string');
  }
}

const ofTypes = (messages: readonly Message[], ...types: string[]) =>
  messages.filter(({ type }) => types.includes(type));

test('an old client gets what the old protocol has and nothing else, from its first command to the end of the gateway', async () => {
  const it = await Installation.start({ runners: 1 });
  const old = await it.oldClient('old', it.gateway(0), { keepsLines: true });
  const { messages } = old.socket;
  old.socket.send({ type: 'ping' });
  await old.socket.next('a pong', ({ type }) => type === 'pong');
  old.submit('worker-1', 'write', 4);
  old.submit('worker-1', 'exit', 7);
  await until('two results', () => ofTypes(messages, 'result').length === 2);
  expect(ofTypes(messages, 'result').map(({ exit_code }) => exit_code as number)).toEqual([0, 7]);
  expect(
    ofTypes(messages, 'stdout', 'stderr')
      .map(({ type, data }) => `${type} ${String(data).split(' ')[0]}`)
      .toSorted(),
  ).toEqual(['stderr #1', 'stdout #1', 'stdout #1', 'stdout #2', 'stdout #3']);

  // A command without a target is for `default`, also if its name is empty.
  old.socket.send({ type: 'command', command: 'exit', args: ['bare-1', '0'] });
  old.socket.send({ type: 'command', command: 'exit', target: '', args: ['bare-2', '0'] });
  it.recorder.submitted('old', { target: 'default', commandId: 'bare-1' });
  it.recorder.submitted('old', { target: 'default', commandId: 'bare-2' });
  await until(
    'results of both',
    () => ofTypes(messages, 'result').filter(({ target }) => target === 'default').length === 2,
  );

  // A kill runs no script; the result is that of the command it ends.
  const held = old.submit('worker-2', 'hold');
  await it.started(held);
  old.socket.send({ type: 'command', command: 'kill', target: 'worker-2' });
  const killed = await old.socket.next('the result', ({ type, target }) => type === 'result' && target === 'worker-2');
  expect(killed['exit_code']).toBe(143);

  const running = old.submit('worker-3', 'hold', 5, 0.02);
  await it.started(running);
  it.redis.freeze();
  const watcher = await it.newClient('watcher', { gateway: it.gateway(0), targets: [] });
  await watcher.next('to be told', ({ type }) => type === 'degraded');
  old.socket.send({ type: 'command', command: 'exit', target: 'worker-4', args: ['x', '0'] });
  await old.socket.next('an error', ({ type, target }) => type === 'error' && target === 'worker-4');
  it.redis.thaw();
  await watcher.next('to be told', ({ type }) => type === 'restored');
  await it.release(running);
  await it.verdict('an old client, to the letter');
  await it.gateway(0).stop();
  expect((await old.socket.closed).code).toBe(1012);
  expectOld(messages);
});

test('a client that subscribes to a target gets that target alone, and one that subscribes to everything gets all', async () => {
  const it = await Installation.start({ gateways: 1, runners: 1 });
  const connect = async (target: string) => {
    const socket = new Socket(wsUrl(it.gateway(0).url), { keepsLines: true });
    await socket.opened();
    socket.send({ type: 'subscribe', target });
    return socket;
  };
  const one = await connect('worker-1');
  const everything = await connect('*');
  const empty = await connect('');
  const client = await it.oldClient('client', it.gateway(0), { keepsLines: true });
  // Answered in turn, so their subscriptions are in force.
  for (const socket of [one, everything, empty]) {
    socket.send({ type: 'command', command: 'kill', target: 'nothing' });
    await socket.next('an answer', ({ type }) => type === 'error');
  }
  client.submit('worker-2', 'write', 5);
  client.submit('worker-1', 'write', 5);
  await it.verdict('subscriptions of old clients');
  for (const socket of [one, everything, empty]) {
    await socket.next('the result', ({ type, target }) => type === 'result' && target === 'worker-1');
  }
  const targets = (socket: Socket) =>
    new Set(ofTypes(socket.messages, 'stdout', 'stderr', 'result').map(({ target }) => target as string));
  expect(targets(one)).toEqual(new Set(['worker-1']));
  await until('both targets', () => [everything, empty].every((socket) => targets(socket).size === 2));
  for (const socket of [one, everything, empty]) {
    expectOld(socket.messages);
    socket.terminate();
  }
});

test('a new client is sent one status message first if workers are known', async () => {
  const it = await Installation.start({ gateways: 1, runners: 0 });
  const connection = it.redis.client();
  defineScripts(connection);
  const monitor = new TestMonitor(connection, new Keys('carrierarr'));
  const before = await it.oldClient('before');
  expect(ofTypes(before.socket.messages, 'status')).toEqual([]);
  await monitor.publish({ upserts: [workerRecord('i-1', { name: 'worker-1' })] });
  await until('the workers to be known', async () => {
    const answer = await fetch(`${it.gateway(0).url}/api/status`);
    return ((await answer.json()) as { workers: unknown[] }).workers.length === 1;
  });
  const after = await it.oldClient('after');
  const status = await after.socket.next('the status', ({ type }) => type === 'status');
  expect(after.socket.messages[0]).toBe(status);
  const { workers, timestamp } = JSON.parse(status['data'] as string) as { workers: unknown[]; timestamp: string };
  expect(workers).toMatchObject([{ id: 'i-1', name: 'worker-1', provider: 'ec2', state: 'running' }]);
  expect(timestamp).toMatch(RFC_3339);
  expect(ofTypes(after.socket.messages, 'status')).toHaveLength(1);
});
