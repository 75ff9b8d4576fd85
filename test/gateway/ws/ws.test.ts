import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createGateway, gatewaySchema } from '@carrierarr/gateway';
import { createLogger, createMetrics, loadConfig, Readiness, redisSettings, systemClock } from '@carrierarr/platform';
import { encodeEntry, Keys, SERVER_MESSAGES } from '@carrierarr/protocol';
import { CommandStore, defineScripts, RunnerRegistry } from '@carrierarr/store';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { WebSocket } from 'ws';
import { startRedis, type TestRedis } from '../../support/redis.js';
import { TestMonitor, workerRecord } from '../status/monitor.js';

let redis: TestRedis;
let connection: Redis;
let dir: string;
const keys = new Keys('carrierarr');
const history = { entriesMax: 100_000, bytesMax: 1 << 26, ageMaxMs: 3_600_000, executionsMs: 60_000 };
const cleanups: (() => unknown)[] = [];

beforeAll(async () => {
  redis = await startRedis({ appendOnly: true });
  connection = redis.client();
  defineScripts(connection);
  dir = await mkdtemp(join(tmpdir(), 'carrierarr-ws-'));
});
afterAll(async () => {
  await redis.stop();
  await rm(dir, { recursive: true });
});
beforeEach(async () => {
  await connection.flushall();
  const now = new Date().toISOString();
  await new RunnerRegistry(connection, keys).announce({
    ...{ id: 'r1', incarnation: 'i1', version: '0', host: 'h', pid: 1, concurrency: 1, running: 0 },
    ...{ started_at: now, seen_at: now },
  });
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

async function gateway(...flags: string[]) {
  const argv = [
    '-addr',
    '127.0.0.1:0',
    '--redis-url',
    redis.url,
    '--drain-delay',
    '0s',
    '--drain-spread',
    '1s',
    ...flags,
  ];
  const loaded = loadConfig({ program: 'carrierarr gateway', summary: '', schema: gatewaySchema, argv, env: {} });
  if (loaded.kind !== 'config') throw new Error(loaded.kind);
  const readiness = new Readiness();
  const started = createGateway({
    config: loaded.values,
    redisSettings: redisSettings(loaded.values),
    logger: createLogger({ program: 'test', level: 'silent', format: 'json' }),
    metrics: createMetrics({ program: 'test', version: '0', hasProcessMetrics: false }),
    readiness,
    clock: systemClock,
  });
  await started.start();
  let stopping: Promise<void> | undefined;
  const stop = () => (stopping ??= started.stop());
  cleanups.push(stop);
  // Until Redis has answered for the first time it counts as away.
  await vi.waitFor(() => expect(readiness.ready().checks['redis']).toMatchObject({ ok: true }));
  return { url: `ws://127.0.0.1:${started.address.port}/ws`, port: started.address.port, stop, readiness };
}

type Message = Record<string, unknown> & { type: string };

class TestClient {
  readonly messages: Message[] = [];
  closed: { code: number } | undefined;
  private constructor(readonly socket: WebSocket) {
    socket.on('message', (data: Buffer) => {
      for (const text of data.toString().split('\n')) this.messages.push(JSON.parse(text) as Message);
    });
    socket.on('close', (code) => {
      this.closed = { code };
    });
    socket.on('error', () => undefined);
    cleanups.push(() => socket.terminate());
  }
  static async open(url: string, options: { protocols?: string[]; headers?: Record<string, string> } = {}) {
    const socket = new WebSocket(url, options.protocols ?? [], { headers: options.headers ?? {} });
    const client = new TestClient(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('open', resolve);
      socket.once('unexpected-response', (_, response) => reject(new Error(`HTTP ${response.statusCode}`)));
      socket.once('error', reject);
    });
    return client;
  }
  send(message: unknown): void {
    this.socket.send(typeof message === 'string' ? message : JSON.stringify(message));
  }
  of(type: string): Message[] {
    return this.messages.filter((message) => message.type === type);
  }
  async next(type: string): Promise<Message> {
    // What came instead is in the error.
    await vi.waitFor(() => expect(this.messages.map((message) => message.type)).toContain(type), { timeout: 5_000 });
    return this.of(type).at(-1) as Message;
  }
}

const store = () =>
  new CommandStore({
    ...{ connection, keys, history, queueLengthMax: 5, pendingTargetsMax: 6400, idempotencyMs: 60_000 },
  });

/** Plays the runner for the next command of a target. */
async function run(target: string, lines: string[], exitCode = 0) {
  const s = store();
  const claim = await s.claim(target, { id: 'r1', incarnation: 'i1' });
  if (claim.kind !== 'claimed') throw new Error(claim.kind);
  const { execution, fence } = claim;
  for (const [i, line] of lines.entries()) {
    const entry = encodeEntry({
      ...{ kind: 'lines', execution: execution.id, sequence: i + 1, timeMs: Date.now() },
      ...{ runs: [{ stream: 'o', lines: 1 }], body: Buffer.from(line) },
    });
    await s.append(target, fence, i + 1, 1, entry);
  }
  const outcome = exitCode === 0 ? 'succeeded' : 'failed';
  await s.finish(target, execution.id, fence, {
    outcome,
    exitCode,
    lines: lines.length,
    truncatedLines: 0,
    sequence: lines.length,
  });
  return execution;
}

/** Has a command run that none of the test's clients sent. */
async function execute(target: string, lines: string[], exitCode = 0) {
  const from = { subject: 's', address: '', gateway: '' };
  await store().submit({ target, command: 'x', args: [], ...from, idempotent: false });
  return run(target, lines, exitCode);
}

describe('an old client', () => {
  it('sees everything until it subscribes, in exactly the old messages', async () => {
    const { url } = await gateway();
    const client = await TestClient.open(url);
    client.send({ type: 'command', command: 'start', target: 'w1', args: ['a b'] });
    await vi.waitFor(async () => expect(await store().queueLength('w1')).toBe(1));
    expect(await run('w1', ['one', 'two'])).toMatchObject({ command: 'start', args: ['a b'], subject: 'anonymous' });
    await client.next('result');
    expect(
      client.messages.map(
        ({ timestamp, ...rest }) => (expect(Date.parse(timestamp as string)).toBeGreaterThan(0), rest),
      ),
    ).toEqual([
      { type: 'stdout', target: 'w1', data: 'one' },
      { type: 'stdout', target: 'w1', data: 'two' },
      { type: 'result', target: 'w1', exit_code: 0 },
    ]);
    client.send({ type: 'subscribe', target: 'w2' });
    client.send({ type: 'ping' });
    await client.next('pong');
    await execute('w1', ['unseen']);
    await execute('w2', ['seen'], 3);
    await vi.waitFor(() => expect(client.of('result')).toHaveLength(2));
    expect(client.messages.filter((m) => m['target'] === 'w1' && m['data'] === 'unseen')).toEqual([]);
    expect(client.of('result').at(-1)).toMatchObject({ target: 'w2', exit_code: 3 });
  });

  it('means the target default when it names none', async () => {
    const { url } = await gateway();
    const client = await TestClient.open(url);
    client.send({ type: 'command', command: 'start', target: '' });
    client.send({ type: 'command', command: 'start' });
    await vi.waitFor(async () => expect(await store().queueLength('default')).toBe(2));
  });

  it('gets the status of all workers right after connecting, as a string in a string', async () => {
    await new TestMonitor(connection, keys).publish({ upserts: [workerRecord('i-1')] });
    const { url } = await gateway();
    const client = await TestClient.open(url);
    const status = await client.next('status');
    expect(JSON.parse(status['data'] as string)).toMatchObject({
      workers: [{ id: 'i-1', provider: 'ec2', state: 'running' }],
    });
  });

  it('is told alone what was wrong with its message', async () => {
    const { url } = await gateway();
    const client = await TestClient.open(url);
    const other = await TestClient.open(url);
    for (const text of [
      '{',
      '[]',
      '{"type":"dance"}',
      '{"type":"command","command":"-rf"}',
      '{"type":"command","command":"x","args":["\\u0000"]}',
    ]) {
      client.send(text);
    }
    await vi.waitFor(() => expect(client.of('error')).toHaveLength(5));
    const texts = client.of('error').map((m) => m['error'] as string);
    expect(texts[0]).toContain('Expected a JSON object, got "{"');
    expect(texts[2]).toContain('got {"type":"dance"}');
    expect(texts[3]).toContain('does not begin with a dash');
    expect(texts[4]).toContain('NUL');
    client.send({ type: 'command', command: 'kill', target: 'w1' });
    await vi.waitFor(() => expect(client.of('error').at(-1)).toMatchObject({ target: 'w1' }));
    expect(other.messages).toEqual([]);
  });
});

describe('a new client', () => {
  it('is greeted, resumes where it was, and gets messages that fit the schemas', async () => {
    const { url } = await gateway();
    const first = await TestClient.open(url, { protocols: ['carrierarr.v1'] });
    expect(first.socket.protocol).toBe('carrierarr.v1');
    expect(await first.next('hello')).toMatchObject({ limits: { message_bytes: 65536 } });
    first.send({ type: 'subscribe', target: 'w1' });
    await first.next('subscribed');
    first.send({ type: 'command', command: 'start', target: 'w1', id: 'c1' });
    const accepted = await first.next('accepted');
    expect(accepted).toMatchObject({ id: 'c1', position: 0, duplicate: false });
    first.send({ type: 'command', command: 'start', target: 'w1', id: 'c1' });
    await vi.waitFor(() => expect(first.of('accepted')).toHaveLength(2));
    expect(first.of('accepted')[1]).toMatchObject({ execution_id: accepted['execution_id'], duplicate: true });
    await run('w1', ['one', 'two', 'three']);
    const result = await first.next('result');
    expect(result).toMatchObject({ outcome: 'succeeded', offset: 5, execution_id: accepted['execution_id'] });
    const second = await TestClient.open(url);
    second.send({ type: 'subscribe', target: 'w1', since: { epoch: result['epoch'], offset: 2 }, batch: true });
    await second.next('result');
    expect(second.of('lines').flatMap((m) => m['lines'])).toEqual(['two', 'three']);
    expect(second.of('lines')[0]).toMatchObject({ offset: 3 });
    for (const message of [...first.messages, ...second.messages]) {
      const { schema } = SERVER_MESSAGES[message.type as keyof typeof SERVER_MESSAGES];
      expect(schema.strict().safeParse(message).error).toBeUndefined();
    }
  });

  it('gets a tail, of one target and of a pattern', async () => {
    const { url } = await gateway();
    for (const target of ['gpu-1', 'gpu-2', 'cpu-1']) {
      await execute(
        target,
        [1, 2, 3, 4].map((n) => `${target} ${n}`),
      );
    }
    const client = await TestClient.open(url, { protocols: ['carrierarr.v1'] });
    client.send({ type: 'subscribe', target: 'gpu-*', tail: 2 });
    await vi.waitFor(() => expect(client.of('result')).toHaveLength(2));
    expect(
      client
        .of('stdout')
        .map((m) => m['data'] as string)
        .toSorted(),
    ).toEqual(['gpu-1 3', 'gpu-1 4', 'gpu-2 3', 'gpu-2 4']);
    client.send({ type: 'subscribe', target: 'cpu-1', tail: 1 });
    await vi.waitFor(() => expect(client.of('result')).toHaveLength(3));
    expect(client.of('stdout').at(-1)).toMatchObject({ data: 'cpu-1 4' });
  });

  it('resumes a subscription to everything by positions and time, without loss or double', async () => {
    const { url } = await gateway();
    const client = await TestClient.open(url, { protocols: ['carrierarr.v1'] });
    client.send({ type: 'subscribe', target: '*' });
    const { timestamp } = await client.next('subscribed');
    await execute('a', ['a1', 'a2']);
    const last = await client.next('result');
    client.socket.close();
    await execute('a', ['a3']);
    await execute('b', ['b1']);
    const again = await TestClient.open(url, { protocols: ['carrierarr.v1'] });
    again.send({
      ...{ type: 'subscribe', target: '*', since: { time: timestamp } },
      positions: { a: { epoch: last['epoch'], offset: last['offset'] } },
    });
    await vi.waitFor(() => expect(again.of('result')).toHaveLength(2));
    expect(
      again
        .of('stdout')
        .map((m) => m['data'] as string)
        .toSorted(),
    ).toEqual(['a3', 'b1']);
  });

  it('is told of a log that is another than the one it knew', async () => {
    const { url } = await gateway();
    await execute('w1', ['one']);
    const client = await TestClient.open(url, { protocols: ['carrierarr.v1'] });
    client.send({ type: 'subscribe', target: 'w1', since: { epoch: 'other', offset: 2 } });
    await client.next('result');
    expect(client.of('gap')).toMatchObject([{ reason: 'epoch', from: 0 }]);
    expect(client.of('stdout')).toMatchObject([{ data: 'one' }]);
  });

  it('stops getting what it unsubscribes from', async () => {
    const { url } = await gateway();
    const client = await TestClient.open(url, { protocols: ['carrierarr.v1'] });
    client.send({ type: 'subscribe', target: 'w1' });
    client.send({ type: 'subscribe', target: 'w2' });
    client.send({ type: 'unsubscribe', target: 'w1' });
    await client.next('unsubscribed');
    for (const target of ['w1', 'w2']) {
      await execute(target, [target]);
    }
    await client.next('result');
    expect(client.of('stdout').map((m) => m['data'])).toEqual(['w2']);
  });
});

describe('limits', () => {
  it('refuse a message that is too large, with a reason, and leave others alone', async () => {
    const { url } = await gateway();
    const client = await TestClient.open(url);
    const other = await TestClient.open(url);
    client.send({ type: 'command', command: 'x', args: ['y'.repeat(70_000)] });
    expect(await client.next('error')).toMatchObject({ code: 'message_too_large' });
    await vi.waitFor(() => expect(client.closed).toEqual({ code: 1009 }));
    other.send({ type: 'ping' });
    await other.next('pong');
  });

  it('refuse commands that come too fast, and accept the others', async () => {
    const { url } = await gateway('--commands-burst', '2', '--commands-per-second', '1');
    const client = await TestClient.open(url);
    for (let i = 0; i < 4; i++) client.send({ type: 'command', command: 'x', target: 'w1', id: `c${i}` });
    await vi.waitFor(() => expect(client.of('accepted')).toHaveLength(2));
    await vi.waitFor(() =>
      expect(client.of('error').map(({ code }) => code)).toEqual(['rate_limited', 'rate_limited']),
    );
    expect(client.of('error')[0]).toMatchObject({ code: 'rate_limited', id: 'c2' });
  });

  it('end a flood of messages', async () => {
    const { url } = await gateway('--messages-per-second', '5');
    const client = await TestClient.open(url);
    for (let i = 0; i < 1000; i++) client.send({ type: 'ping' });
    await vi.waitFor(() => expect(client.closed).toEqual({ code: 4429 }));
  });

  it('bound subscriptions and connections', async () => {
    const { url } = await gateway('--subscriptions-max', '1', '--connections-max', '2');
    const client = await TestClient.open(url);
    client.send({ type: 'subscribe', target: 'a' });
    client.send({ type: 'subscribe', target: 'b' });
    expect(await client.next('error')).toMatchObject({ code: 'too_many_subscriptions' });
    await TestClient.open(url);
    await expect(TestClient.open(url)).rejects.toThrow('HTTP 503');
  });
});

describe('access', () => {
  it('needs a token where tokens are configured, however it is shown', async () => {
    const file = join(dir, 'tokens');
    await writeFile(file, 'alice 0123456789abcdef0123456789abcdef\n', { mode: 0o600 });
    const { url } = await gateway('--tokens-file', file, '--unauthenticated-timeout', '1s');
    const token = '0123456789abcdef0123456789abcdef';
    await expect(TestClient.open(url)).rejects.toThrow('HTTP 401');
    await expect(TestClient.open(url, { headers: { authorization: 'Bearer wrong' } })).rejects.toThrow('HTTP 401');
    await TestClient.open(url, { headers: { authorization: `Bearer ${token}` } });
    await TestClient.open(`${url}?access_token=${token}`);
    const browser = await TestClient.open(url, {
      protocols: [`carrierarr.bearer.${Buffer.from(token).toString('base64url')}`],
    });
    browser.send({ type: 'command', command: 'x', target: 'w1', id: 'c' });
    await browser.next('accepted');
    expect(await run('w1', [])).toMatchObject({ subject: 'alice' });
    const late = await TestClient.open(url, { protocols: ['carrierarr.v1'] });
    late.send({ type: 'authenticate', token });
    await late.next('hello');
    const silent = await TestClient.open(url, { protocols: ['carrierarr.v1'] });
    const eager = await TestClient.open(url, { protocols: ['carrierarr.v1'] });
    eager.send({ type: 'command', command: 'x', target: 'w2' });
    await vi.waitFor(() => expect(eager.closed).toEqual({ code: 4401 }));
    await vi.waitFor(() => expect(silent.closed).toEqual({ code: 4401 }), { timeout: 3_000 });
    expect(await store().queueLength('w2')).toBe(0);
  });

  it('is not shown a second token by a connection, which would begin it anew', async () => {
    const { url } = await gateway();
    const client = await TestClient.open(url);
    client.send({ type: 'subscribe', target: 'w1', offsets: true });
    await client.next('subscribed');
    client.send({ type: 'authenticate', token: 'x' });
    const refusal = await client.next('error');
    expect(refusal).toMatchObject({ code: 'bad_message' });
    expect(refusal['error']).toContain('authenticated already, as "anonymous"');
    for (const target of ['w2', 'w1']) {
      client.send({ type: 'command', command: 'start', target, id: target });
      await vi.waitFor(() => expect(client.of('accepted').map(({ id }) => id)).toContain(target));
      await run(target, [`of ${target}`]);
    }
    await client.next('result');
    expect(client.of('stdout').map(({ data }) => data)).toEqual(['of w1']);
  });

  it('refuses pages of other sites, and names that point here from outside', async () => {
    const { url, port } = await gateway();
    await expect(TestClient.open(url, { headers: { origin: 'https://evil.example' } })).rejects.toThrow('HTTP 403');
    await expect(TestClient.open(url, { headers: { origin: 'null' } })).rejects.toThrow('HTTP 403');
    await expect(TestClient.open(url, { headers: { host: `evil.example:${port}` } })).rejects.toThrow('HTTP 421');
    await TestClient.open(url, { headers: { origin: `http://localhost:${port}` } });
  });
});

describe('stopping', () => {
  it('asks new clients to move, closes old ones with 1012, and is not ready meanwhile', async () => {
    const { url, stop, readiness } = await gateway();
    const old = await TestClient.open(url);
    const modern = await TestClient.open(url, { protocols: ['carrierarr.v1'] });
    await modern.next('hello');
    const stopped = stop();
    expect(readiness.ready().ready).toBe(false);
    await modern.next('migrate');
    await vi.waitFor(() => expect(old.closed).toEqual({ code: 1012 }));
    modern.socket.close();
    await stopped;
    expect(old.messages).toEqual([]);
    await expect(TestClient.open(url)).rejects.toThrow();
  });
});

describe('while Redis is away', () => {
  it('keeps sockets, tells new clients, and answers commands at once', async () => {
    const { url, readiness } = await gateway();
    const old = await TestClient.open(url);
    const modern = await TestClient.open(url, { protocols: ['carrierarr.v1'] });
    await modern.next('hello');
    redis.freeze();
    try {
      await modern.next('degraded');
      old.send({ type: 'command', command: 'x', target: 'w1' });
      expect((await old.next('error'))['error']).toMatch(/Redis is not available/);
      expect(readiness.ready().ready).toBe(false);
    } finally {
      redis.thaw();
    }
    await modern.next('restored');
    await vi.waitFor(() => expect(readiness.ready().ready).toBe(true), { timeout: 5_000 });
    old.send({ type: 'command', command: 'x', target: 'w1', id: 'c' });
    await old.next('accepted');
    expect(old.of('degraded')).toEqual([]);
  });

  it('answers commands and pings of a connection whose subscription waits for Redis', async () => {
    const { url } = await gateway();
    const modern = await TestClient.open(url, { protocols: ['carrierarr.v1'] });
    await modern.next('hello');
    redis.freeze();
    try {
      await modern.next('degraded');
      modern.send({ type: 'subscribe', target: 'new' });
      modern.send({ type: 'command', command: 'start', target: 'new', id: 'c1' });
      modern.send({ type: 'ping' });
      await modern.next('pong');
      expect(await modern.next('error')).toMatchObject({ id: 'c1', code: 'unavailable' });
      expect(modern.of('subscribed')).toEqual([]);
    } finally {
      redis.thaw();
    }
    await modern.next('subscribed');
  });
});

it('survives messages that are nested deeper than can be written back', async () => {
  const { url } = await gateway();
  const client = await TestClient.open(url);
  const deep = `${'['.repeat(20_000)}${']'.repeat(20_000)}`;
  client.send(`{"type":"command","command":"x","args":${deep}}`);
  client.send(deep);
  await vi.waitFor(() => expect(client.of('error')).toHaveLength(2));
  expect(client.of('error')[0]).toMatchObject({ code: 'bad_message' });
});
