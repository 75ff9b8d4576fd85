import { AgentMail, defineScripts } from '@carrierarr/store';
import { type AgentRequest, Keys } from '@carrierarr/protocol';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { startRedis, type TestRedis } from '../support/redis.js';

let redis: TestRedis;
let connection: Redis;
const keys = new Keys('t');

beforeAll(async () => {
  redis = await startRedis();
  connection = redis.client();
  defineScripts(connection);
});
afterAll(() => redis.stop());
beforeEach(() => connection.flushall());

const mail = (openMax?: number) => new AgentMail({ connection, keys, ...(openMax !== undefined && { openMax }) });
const request: AgentRequest = {
  ...{ execution: 'x1', target: 'w1', fence: 7, type: 'EXEC', args: { cmd: 'true' }, argv: ['true'] },
  ...{ timeout_seconds: 0, kill_grace_ms: 1, outage_grace_ms: 1, output_bytes_max: 1 },
};
const result = { end: 'exited', exit_code: 3, sequence: 2, lines: 5, truncated_lines: 0 } as const;

it('leads a command to its result', async () => {
  const m = mail();
  await m.put('n1', request);
  expect(await m.look('x1')).toMatchObject({ kind: 'under-way', state: 'waiting' });
  expect(await m.send('x1', 1, false)).toEqual({ kind: 'send', request, isKilled: false, isFirst: true });
  expect(await m.look('x1')).toMatchObject({ state: 'sent' });
  expect(await m.accepted('x1', 7)).toBe(true);
  expect(await m.look('x1')).toMatchObject({ state: 'accepted' });
  expect(await m.answer('x1', 7, result)).toBe('ok');
  expect(await m.look('x1')).toEqual({ kind: 'ended', result });
  expect(await m.answer('x1', 7, result)).toBe('repeated');
  expect(await m.remove('x1', 7)).toBe(true);
  expect(await m.remove('x1', 7)).toBe(false);
  expect(await m.look('x1')).toEqual({ kind: 'gone' });
  expect(await m.answer('x1', 7, result)).toBe('gone');
  expect(await connection.keys('*mail*')).toEqual([]);
});

it('sends a command once to an agent that would run it twice, and again to one that would not', async () => {
  const m = mail();
  await m.put('n1', request);
  expect((await m.send('x1', 1, false)).kind).toBe('send');
  expect((await m.send('x1', 2, false)).kind).toBe('already');
  expect(await m.send('x1', 2, true)).toMatchObject({ kind: 'send', isFirst: false });
  // Begun anew, for another start.
  await m.put('n1', { ...request, fence: 8 });
  expect(await m.send('x1', 2, true)).toMatchObject({ kind: 'send', isFirst: true });
});

it('sends nothing of a command that nobody waits for, or that has ended', async () => {
  const m = mail();
  await m.put('n1', request);
  await m.answer('x1', undefined, result);
  expect((await m.send('x1', 1, true)).kind).toBe('gone');
  await m.remove('x1', 7);
  expect((await m.send('x1', 1, true)).kind).toBe('gone');
});

it('takes no answer with another fence, and removes nothing of another fence', async () => {
  const m = mail();
  await m.put('n1', request);
  expect(await m.answer('x1', 6, result)).toBe('gone');
  expect(await m.accepted('x1', 6)).toBe(false);
  expect(await m.remove('x1', 6)).toBe(false);
  expect(await m.look('x1')).toMatchObject({ kind: 'under-way' });
});

it('tells of a kill with the command, and on the channel', async () => {
  const m = mail();
  const heard: string[] = [];
  const subscriber = connection.duplicate();
  subscriber.on('smessage', (_channel: string, message: string) => heard.push(message));
  await subscriber.ssubscribe(keys.agentMailChannel());
  await m.put('n1', request);
  await m.kill('x1');
  expect(await m.openExecutions()).toEqual(['x1']);
  expect(await m.read(['x1', 'gone'])).toEqual([
    { execution: 'x1', node: 'n1', request, state: 'waiting', isKilled: true },
  ]);
  await expect.poll(() => heard).toEqual(['x1 n1', 'x1 n1']);
  subscriber.disconnect();
});

it('tells on the channel that a command was taken away, unless it had ended', async () => {
  const m = mail();
  const subscriber = connection.duplicate();
  const heard: string[] = [];
  subscriber.on('smessage', (_channel: string, message: string) => heard.push(message));
  for (const execution of ['ended', 'runs']) await m.put('n1', { ...request, execution });
  await m.answer('ended', 7, result);
  await subscriber.ssubscribe(keys.agentMailChannel());
  for (const execution of ['ended', 'runs']) await m.remove(execution, 7);
  await expect.poll(() => heard).toEqual(['runs n1']);
  subscriber.disconnect();
});

it('never sends a command that was killed before, and sends one again whose kill came later', async () => {
  const m = mail();
  await m.put('n1', request);
  await m.put('n1', { ...request, execution: 'x2' });
  await m.kill('x1');
  expect(await m.send('x1', 1, true)).toEqual({ kind: 'never-sent' });
  await m.send('x2', 1, true);
  await m.kill('x2');
  expect(await m.send('x2', 2, true)).toMatchObject({ kind: 'send', isKilled: true });
});

it('knows since when an agent has been out of reach', async () => {
  const m = mail();
  await m.put('n1', request);
  await connection.hincrby(keys.agentMail('x1'), 'contact', -60_000);
  const look = await m.look('x1');
  expect(look.kind === 'under-way' && look.outOfTouchMs).toBeGreaterThanOrEqual(60_000);
  await m.contact(['x1', 'gone']);
  expect(await m.look('x1')).toMatchObject({ kind: 'under-way' });
  const after = await m.look('x1');
  expect(after.kind === 'under-way' && after.outOfTouchMs).toBeLessThan(60_000);
  expect(await m.look('gone')).toEqual({ kind: 'gone' });
});

it('takes no more commands than are allowed to be under way', async () => {
  const m = mail(1);
  await m.put('n1', request);
  expect(await m.put('n1', { ...request, execution: 'x2' })).toEqual({ kind: 'full', open: 1 });
});

it('does not begin anew when it is put again, because the answer to the first was lost', async () => {
  const m = mail();
  await m.put('n1', request);
  await m.send('x1', 1, false);
  await m.put('n1', request);
  expect(await m.look('x1')).toMatchObject({ state: 'sent' });
  expect((await m.send('x1', 2, false)).kind).toBe('already');
});

it('begins anew, with nothing of the start before, when an execution is started again', async () => {
  const m = mail(1);
  await m.put('n1', request);
  await m.send('x1', 1, true);
  await m.kill('x1');
  await m.answer('x1', 7, result);
  expect(await m.put('n2', { ...request, fence: 8 })).toEqual({ kind: 'ok' });
  expect(await m.look('x1')).toMatchObject({ kind: 'under-way', state: 'waiting', isCancellable: false });
  expect(await m.open()).toMatchObject([{ node: 'n2', isKilled: false }]);
});

it('takes back what was not sent, and only that', async () => {
  const m = mail();
  await m.put('n1', request);
  expect(await m.withdraw('x1', 6)).toBe('gone');
  expect(await m.withdraw('x1', 7)).toBe('withdrawn');
  expect((await m.send('x1', 1, true)).kind).toBe('gone');
  expect(await connection.keys('*mail*')).toEqual([]);
  await m.put('n1', request);
  await m.send('x1', 1, true);
  expect(await m.withdraw('x1', 7)).toBe('sent');
});

it('knows whether the agent that has it can be told to end it', async () => {
  const m = mail();
  await m.put('n1', request);
  await m.send('x1', 1, false);
  expect(await m.look('x1')).toMatchObject({ isCancellable: false });
  await m.send('x1', 1, true);
  expect(await m.look('x1')).toMatchObject({ isCancellable: true });
});
