import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { connect } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  ERRORS,
  errorBodySchema,
  executionSchema,
  executionsBodySchema,
  statusDocumentSchema,
  targetsBodySchema,
} from '@carrierarr/protocol';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { startRedis, type TestRedis } from '../../support/redis.js';
import { TestMonitor, workerRecord } from '../status/monitor.js';
import { type HttpGateway, startHttpGateway } from './http-gateway.js';

let redis: TestRedis;
let gw: HttpGateway;

beforeAll(async () => {
  redis = await startRedis();
  gw = await startHttpGateway(redis);
});
afterAll(async () => {
  await gw.stop();
  await redis.stop();
});
beforeEach(async () => {
  await gw.connection.flushall();
  await gw.announceRunner();
});

interface Reply {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
  json: any;
}

/** Not fetch: that sets Host and Origin by itself, and normalises paths. */
function call(
  path: string,
  options: { method?: string; headers?: Record<string, string>; body?: string; port?: number } = {},
): Promise<Reply> {
  const { method = 'GET', headers = {}, body, port = gw.port } = options;
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path, method, headers, agent: false });
    sent.on('error', reject);
    sent.on('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        const isJson = response.headers['content-type'] === 'application/json' && text !== '';
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text,
          json: isJson ? JSON.parse(text) : undefined,
        });
      });
    });
    sent.end(body);
  });
}

function post(path: string, body: unknown, headers: Record<string, string> = {}): Promise<Reply> {
  return call(path, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
    headers: { 'content-type': 'application/json', ...headers },
  });
}

/** What a reply with this error looks like. */
function refusal(code: keyof typeof ERRORS, text = /./) {
  const { http: status, retryable } = ERRORS[code];
  return { status, json: { code, retryable, error: expect.stringMatching(text) } };
}

/** Raw bytes, for what no client library would send. */
async function raw(text: string, port = gw.port): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  socket.write(text);
  let seen = '';
  for await (const chunk of socket) {
    seen += chunk;
    if (seen.includes('\r\n\r\n')) break;
  }
  socket.destroy();
  return seen;
}

describe('operation', () => {
  it('/health answers whatever the Origin, with the number of clients', async () => {
    const reply = await call('/health', { headers: { host: 'evil.example', origin: 'https://evil.example' } });
    expect([reply.status, reply.json]).toEqual([200, { status: 'healthy', clients: 3 }]);
  });

  it('/ready tells each check', async () => {
    expect(await call('/ready')).toMatchObject({ status: 200, json: { ready: true, checks: { redis: { ok: true } } } });
    gw.readiness.set('output', false, 'quiet');
    expect(await call('/ready')).toMatchObject({
      status: 503,
      json: { ready: false, checks: { output: { detail: 'quiet' } } },
    });
    gw.readiness.set('output', true);
  });

  it('/metrics, /version, and errors of one shape', async () => {
    expect((await call('/metrics')).text).toContain('carrierarr_gateway_http_requests_total');
    expect(errorBodySchema.safeParse((await call('/nowhere')).json).success).toBe(true);
    expect((await call('/version')).json).toEqual({ version: expect.stringMatching(/^\d+\.\d+/) });
  });

  it('/api/status has a list of workers, also when there are none', async () => {
    const empty = (await call('/api/status')).json;
    expect(statusDocumentSchema.parse(empty).workers).toEqual([]);
    const monitor = new TestMonitor(gw.connection, gw.keys);
    await monitor.publish({
      upserts: [workerRecord('i-1'), workerRecord('i-2', { state: 'terminated', gone_at: new Date().toISOString() })],
    });
    await vi.waitFor(async () => expect((await call('/api/status')).json.workers).toHaveLength(1), { timeout: 5_000 });
    const { workers } = statusDocumentSchema.parse((await call('/api/status')).json);
    expect(workers).toMatchObject([{ id: 'i-1', provider: 'ec2', state: 'running', observed_at: expect.any(String) }]);
    expect(workers[0]).not.toHaveProperty('stale');
    // Who vanished is told to who asks for it: an old client would show it as alive.
    const all = (await call('/api/status?gone=true')).json.workers;
    expect(all.map(({ id }: { id: string }) => id)).toEqual(['i-1', 'i-2']);
    expect(await call('/api/status?gone=perhaps')).toMatchObject(refusal('bad_message', /`gone` in the query/));
  });

  it('HEAD is GET without the body, slashes at the end mean nothing', async () => {
    const head = await call('/version/', { method: 'HEAD' });
    expect([head.status, head.text]).toEqual([200, '']);
    expect(Number(head.headers['content-length'])).toBeGreaterThan(10);
    expect((await call('/api/v1/targets///')).status).toBe(200);
  });

  it('answers are not to be sniffed, kept or shown', async () => {
    for (const path of ['/api/v1/targets', '/nowhere']) {
      expect((await call(path)).headers).toMatchObject({
        'x-content-type-options': 'nosniff',
        'cache-control': 'no-store',
        'content-security-policy': expect.stringContaining("default-src 'none'"),
      });
    }
  });

  it('serves the page, with a policy that runs its own scripts only', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'carrierarr-page-'));
    await writeFile(join(folder, 'page.html'), '<html><script>run()</script></html>');
    const other = await startHttpGateway(redis, ['--page', join(folder, 'page.html')]);
    const page = await call('/', { port: other.port });
    expect(page.text).toContain('run()');
    expect(page.headers['content-type']).toBe('text/html; charset=utf-8');
    expect(page.headers['content-security-policy']).toMatch(/script-src 'self' 'sha256-[^']+'; /);
    expect(page.headers['x-content-type-options']).toBe('nosniff');
    expect(await call('/../../etc/passwd', { port: other.port })).toMatchObject(refusal('not_found'));
    await other.stop();
    await rm(folder, { recursive: true });
    expect(await call('/')).toMatchObject(refusal('not_found'));
  });
});

describe('commands', () => {
  it('are accepted, in the order they came', async () => {
    const first = await post('/api/v1/targets/w1/commands', { command: 'start', args: ['-x', '$(id)'] });
    expect(first).toMatchObject({ status: 202, json: { target: 'w1', position: 0, duplicate: false } });
    expect((await post('/api/v1/targets/w1/commands', { command: 'stop' })).json.position).toBe(1);
    const record = (await call(`/api/v1/executions/${first.json.execution_id}`)).json;
    expect(executionSchema.parse(record)).toMatchObject({
      command: 'start',
      args: ['-x', '$(id)'],
      subject: 'anonymous',
      address: '127.0.0.1',
      gateway: 'gw',
    });
    expect(await gw.connection.llen(`${gw.keys.bullPrefix}:commands:wait`)).toBe(1);
  });

  it('with an id are accepted once', async () => {
    const body = { command: 'start', id: 'x-1', timeout_seconds: 5, idempotent: true };
    const first = await post('/api/v1/targets/w1/commands', body);
    const again = await post('/api/v1/targets/w1/commands', body);
    expect(again).toMatchObject({ status: 202, json: { ...first.json, duplicate: true } });
    expect(await post('/api/v1/targets/w1/commands', { ...body, command: 'stop' })).toMatchObject(
      refusal('id_reused', /"x-1"/),
    );
    expect((await call(`/api/v1/executions/${first.json.execution_id}`)).json).toMatchObject({
      timeout_ms: 5000,
      idempotent: true,
    });
  });

  it('whose record only a newer version can read are refused by name, and hide no others', async () => {
    const [strange, ours] = [await gw.submit('w1'), await gw.submit('w1')];
    await gw.connection.hset(gw.keys.execution(strange), { v: '2', executor: 'rocket' });
    expect(await call(`/api/v1/executions/${strange}`)).toMatchObject(refusal('internal', /got one of version 2/));
    const { executions } = (await call('/api/v1/executions?target=w1')).json;
    expect(executions.map(({ id }: { id: string }) => id)).toEqual([ours]);
  });

  it('that are too many for a target are refused', async () => {
    const other = await startHttpGateway(redis, ['--queue-length-max', '2']);
    const send = () =>
      call('/api/v1/targets/w1/commands', {
        port: other.port,
        method: 'POST',
        body: '{"command":"a"}',
        headers: { 'content-type': 'application/json' },
      });
    await send();
    await send();
    expect(await send()).toMatchObject(refusal('queue_full', /2 commands waiting/));
    await other.stop();
  });

  it('without a runner are refused, and accepted soon after one came', async () => {
    await gw.connection.flushall();
    const other = await startHttpGateway(redis);
    const send = () =>
      call('/api/v1/targets/w1/commands', {
        port: other.port,
        method: 'POST',
        body: '{"command":"a"}',
        headers: { 'content-type': 'application/json' },
      });
    expect(await send()).toMatchObject(refusal('no_runner', /"a" for "w1" was not accepted.*carrierarr runner/));
    expect(await gw.store.queueLength('w1')).toBe(0);
    await other.announceRunner();
    await vi.waitFor(async () => expect((await send()).status).toBe(202));
    await other.stop();
  });

  it('without a control script are refused', async () => {
    const other = await startHttpGateway(redis, [], { commandsEnabled: false });
    const reply = await call('/api/v1/targets/w1/commands', {
      port: other.port,
      method: 'POST',
      body: '{"command":"start"}',
      headers: { 'content-type': 'application/json' },
    });
    expect(reply).toMatchObject(refusal('no_script', /-script FILE/));
    await other.stop();
  });

  it('end by the command kill or by DELETE', async () => {
    expect(await post('/api/v1/targets/w1/commands', { command: 'kill' })).toMatchObject(
      refusal('nothing_running', /"w1"/),
    );
    const id = await gw.submit('w1');
    const next = await gw.submit('w1');
    const run = await gw.claim('w1');
    const notices: string[] = [];
    const listener = redis.client();
    await listener.ssubscribe(gw.keys.killChannel());
    listener.on('smessage', (_, message: string) => notices.push(message));
    expect(await post('/api/v1/targets/w1/commands', { command: 'kill' })).toMatchObject({
      status: 202,
      json: { execution_id: id, target: 'w1' },
    });
    expect(await call(`/api/v1/executions/${id}`, { method: 'DELETE' })).toMatchObject({
      status: 202,
      json: { execution_id: id, state: 'killing' },
    });
    await vi.waitFor(() => expect(notices.map((text) => JSON.parse(text).execution)).toEqual([id, id]));
    expect((await call(`/api/v1/executions/${next}`, { method: 'DELETE' })).json).toMatchObject({
      execution_id: next,
      state: 'cancelled',
    });
    expect((await call(`/api/v1/executions/${next}`)).json).toMatchObject({
      outcome: 'killed',
      kill_requested_by: 'anonymous',
    });
    await gw.finish(run, { outcome: 'killed', exitCode: 143 });
    expect(await call(`/api/v1/executions/${id}`, { method: 'DELETE' })).toMatchObject(
      refusal('already_ended', new RegExp(id)),
    );
  });

  it('are limited in rate for each client', async () => {
    const other = await startHttpGateway(redis, ['--commands-per-second', '1', '--commands-burst', '2']);
    const send = () =>
      call('/api/v1/targets/w1/commands', {
        port: other.port,
        method: 'POST',
        body: '{"command":"a"}',
        headers: { 'content-type': 'application/json' },
      });
    expect([(await send()).status, (await send()).status]).toEqual([202, 202]);
    const refused = await send();
    expect(refused).toMatchObject(refusal('rate_limited', /More than 1 commands and writes a second/));
    expect(refused.headers['retry-after']).toBe('1');
    await other.stop();
  });

  it.each<[string, unknown, RegExp]>([
    ['no JSON', '{', /Expected a JSON body such as .*got "\{"/],
    ['nothing', '', /got nothing/],
    ['a list', [], /expected object/i],
    ['null', null, /expected object/i],
    ['no command', {}, /`command` in the body.*got nothing/],
    ['a command with a dash', { command: '-rf' }, /does not begin with a dash; got "-rf"/],
    ['a command with a path', { command: '../../bin/sh' }, /got "\.\.\/\.\.\/bin\/sh"/],
    ['a number as argument', { command: 'a', args: [1] }, /`args\.0` in the body.*got 1/],
    ['NUL in an argument', { command: 'a', args: ['x\0y'] }, /must not contain NUL/],
    ['too many arguments', { command: 'a', args: Array(65).fill('x') }, /at most 64/],
    ['an unknown field', { command: 'a', env: { LD_PRELOAD: 'x' } }, /"env"/],
    ['__proto__', '{"command":"a","__proto__":{"admin":true}}', /__proto__/],
    ['constructor', '{"command":"a","constructor":{"prototype":{}}}', /constructor/],
    ['an odd id', { command: 'a', id: 'a b' }, /printable ASCII/],
    ['a timeout of 0', { command: 'a', timeout_seconds: 0 }, /timeout_seconds/],
    ['a number as command', { command: 7 }, /got 7/],
  ])('are refused with %s', async (_, body, message) => {
    expect(await post('/api/v1/targets/w1/commands', body)).toMatchObject(refusal('bad_message', message));
    expect(({} as Record<string, unknown>)['admin']).toBeUndefined();
    expect(await gw.store.queueLength('w1')).toBe(0);
  });

  it.each([
    ['%00', 'bad_message'],
    ['%zz', 'bad_message'],
    ['%ff', 'bad_message'],
    ['%', 'bad_message'],
    ['a%7Bb%7D', 'bad_message'],
    ['gpu-*', 'bad_message'],
    ['%20a', 'bad_message'],
    ['a%1b[31m', 'bad_message'],
    ['a'.repeat(201), 'bad_message'],
    ['', 'bad_message'],
    ['../x', 'not_found'],
    ['a/b', 'not_found'],
  ] as const)('for the target %s are refused', async (target, code) => {
    expect(await post(`/api/v1/targets/${target}/commands`, { command: 'a' })).toMatchObject(refusal(code));
  });

  it.each(['..%2F..%2Fetc%2Fpasswd', '__proto__', 'constructor', 'gpu%20node%20%C3%A4', 'a:b', '%2e%2e'])(
    'for the target %s is only a name',
    async (target) => {
      const reply = await post(`/api/v1/targets/${target}/commands`, { command: 'a' });
      expect(reply).toMatchObject({ status: 202, json: { target: decodeURIComponent(target) } });
      const list = await call(`/api/v1/executions?target=${target}`);
      expect(list.json.executions.map((e: { id: string }) => e.id)).toEqual([reply.json.execution_id]);
    },
  );
});

describe('executions and targets', () => {
  it('are listed page by page, newest first', async () => {
    const ids: string[] = [];
    for (let i = 0; i < 5; i += 1) ids.push(await gw.submit(i % 2 ? 'w1' : 'w2'));
    const first = executionsBodySchema.parse((await call('/api/v1/executions?limit=3')).json);
    expect(first.executions.map(({ id }) => id)).toEqual(ids.toReversed().slice(0, 3));
    const rest = executionsBodySchema.parse((await call(`/api/v1/executions?limit=3&before=${first.next}`)).json);
    expect(rest.executions.map(({ id }) => id)).toEqual(ids.toReversed().slice(3));
    expect((await call('/api/v1/executions?target=w1')).json.executions).toHaveLength(2);
    await gw.claim('w1');
    expect((await call('/api/v1/executions?state=running')).json.executions).toHaveLength(1);
    const { targets } = targetsBodySchema.parse((await call('/api/v1/targets')).json);
    const one = async (query: string) => targetsBodySchema.parse((await call(`/api/v1/targets?${query}`)).json).targets;
    for (const target of targets) expect(await one(`target=${target.target}`)).toEqual([target]);
    expect(await one('target=nobody')).toEqual([]);
    expect(await call('/api/v1/targets?tarket=w1')).toMatchObject({ status: 400 });
    expect(Object.fromEntries(targets.map(({ target, queued }) => [target, queued]))).toEqual({ w1: 1, w2: 3 });
  });

  it.each([
    ['limit=0', /`limit`/],
    ['limit=501', /`limit`/],
    ['limit=ten', /`limit`/],
    ['state=dead', /`state`/],
    ['state=ended&state=queued', /"state" more than once/],
    ['statee=ended', /statee/],
    ['__proto__=x', /__proto__/],
    ['target=%7B', /`target`/],
  ])('with the query %s are refused', async (query, message) => {
    expect(await call(`/api/v1/executions?${query}`)).toMatchObject(refusal('bad_message', message));
  });

  it.each(['nonsense', '01j00000000000000000000000-ff', '01j00000000000000000000000-00', '..%2f', '__proto__', '%00'])(
    '%s is no execution',
    async (id) => {
      for (const [path, method] of [
        [`/api/v1/executions/${id}`, 'GET'],
        [`/api/v1/executions/${id}`, 'DELETE'],
        [`/api/v1/executions/${id}/output`, 'GET'],
      ] as const) {
        expect(await call(path, { method })).toMatchObject(refusal('not_found'));
      }
    },
  );
});

describe('requests that are not as they should be', () => {
  it('with another method are told which there are', async () => {
    const reply = await call('/api/v1/executions', { method: 'PUT' });
    expect(reply).toMatchObject(refusal('method_not_allowed', /Expected GET or HEAD .* got "PUT"/));
    expect(reply.headers['allow']).toBe('GET, HEAD');
    expect(await call('/api/v1/targets/w1/commands')).toMatchObject(refusal('method_not_allowed'));
  });

  it('for the WebSocket are told so', async () => {
    expect(await call('/ws')).toMatchObject(refusal('not_found', /ws:\/\//));
  });

  it('larger than the limit are refused, whether they say so or not', async () => {
    const large = JSON.stringify({ command: 'a', args: ['x'.repeat(70_000)] });
    expect(await post('/api/v1/targets/w1/commands', large)).toMatchObject(
      refusal('message_too_large', /at most 65536/),
    );
    const chunked = await call('/api/v1/targets/w1/commands', {
      method: 'POST',
      body: large,
      headers: { 'content-type': 'application/json', 'transfer-encoding': 'chunked' },
    }).catch((error: Error) => error);
    // The connection is closed while the client still sends, so that is all it may see.
    expect(chunked instanceof Error || chunked.json.code === 'message_too_large').toBe(true);
    const claims = await raw(
      'POST /api/v1/targets/w1/commands HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n',
    );
    expect(claims).toMatch(/^HTTP\/1\.1 413 /);
    expect(await gw.store.queueLength('w1')).toBe(0);
  });

  it('whose client goes away in the middle of the body leave nothing behind', async () => {
    const before = gw.logLines.length;
    for (let i = 0; i < 20; i += 1) {
      const socket = connect(gw.port, '127.0.0.1');
      await once(socket, 'connect');
      socket.write(
        'POST /api/v1/targets/w1/commands HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"comm',
      );
      socket.destroy();
    }
    await vi.waitFor(() =>
      expect(gw.logLines.slice(before).filter((line) => line.includes('"gone"'))).toHaveLength(20),
    );
    expect((await call('/health')).status).toBe(200);
    expect(await gw.store.queueLength('w1')).toBe(0);
  });

  it('of a form are refused: only JSON counts as JSON', async () => {
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      '',
      'text/json',
      'application/json5',
    ]) {
      const reply = await call('/api/v1/targets/w1/commands', {
        method: 'POST',
        body: '{"command":"a"}',
        headers: type === '' ? {} : { 'content-type': type },
      });
      expect(reply).toMatchObject(refusal('bad_message', /Content-Type: application\/json/));
    }
    expect(
      (
        await post(
          '/api/v1/targets/w1/commands',
          { command: 'a' },
          { 'content-type': 'application/json; charset=utf-8' },
        )
      ).status,
    ).toBe(202);
  });

  it('of other websites and names are refused on every route but /health', async () => {
    const paths: [string, string][] = [
      ['GET', '/ready'],
      ['GET', '/metrics'],
      ['GET', '/version'],
      ['GET', '/api/status'],
      ['GET', '/api/v1/targets'],
    ];
    paths.push(
      ['POST', '/api/v1/targets/w1/commands'],
      ['GET', '/api/v1/executions'],
      ['DELETE', '/api/v1/executions/x'],
      ['GET', '/'],
      ['OPTIONS', '/api/v1/targets'],
    );
    for (const [method, path] of paths) {
      expect(await call(path, { method, headers: { origin: 'https://evil.example' } })).toMatchObject(
        refusal('origin_refused'),
      );
      expect(await call(path, { method, headers: { origin: 'null' } })).toMatchObject(
        refusal('origin_refused', /opened as a file/),
      );
      expect(await call(path, { method, headers: { host: `evil.example:${gw.port}` } })).toMatchObject(
        refusal('host_refused'),
      );
      // After DNS rebinding the page and the gateway have the same name.
      expect(
        await call(path, { method, headers: { host: 'evil.example', origin: 'http://evil.example' } }),
      ).toMatchObject(refusal('host_refused'));
    }
  });

  it('of pages of this machine are answered so that those may read it', async () => {
    const origin = 'http://localhost:5173';
    const reply = await post('/api/v1/targets/w1/commands', { command: 'a' }, { origin });
    expect(reply).toMatchObject({ status: 202, headers: { 'access-control-allow-origin': origin, vary: 'Origin' } });
    const preflight = await call('/api/v1/targets/w1/commands', {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': 'POST' },
    });
    expect(preflight).toMatchObject({
      status: 204,
      headers: {
        'access-control-allow-methods': 'POST',
        'access-control-allow-headers': 'Authorization, Content-Type, If-Match, If-None-Match',
      },
    });
    expect((await call('/api/v1/targets')).headers['access-control-allow-origin']).toBeUndefined();
  });

  it('are logged with their access tokens hidden', async () => {
    await call('/api/v1/targets?access_token=very-secret&x=1');
    const line = gw.logLines.find((text) => text.includes('access_token='));
    expect(line).toContain('access_token=***&x=1');
    expect(gw.logLines.join('')).not.toContain('very-secret');
  });
});

describe('with tokens', () => {
  const TOKEN = 'alice-token-0123456789';
  let folder: string;
  let guarded: HttpGateway;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'carrierarr-http-'));
    await writeFile(join(folder, 'tokens'), `alice ${TOKEN}\n`, { mode: 0o600 });
    guarded = await startHttpGateway(redis, [
      '--tokens-file',
      join(folder, 'tokens'),
      '--trusted-proxies',
      '127.0.0.1',
    ]);
  });
  afterAll(async () => {
    await guarded.stop();
    await rm(folder, { recursive: true });
  });
  const ask = (path: string, headers: Record<string, string> = {}, method = 'GET') =>
    call(path, { port: guarded.port, headers, method });

  it('everything but health, readiness, metrics and version needs one', async () => {
    for (const path of ['/health', '/ready', '/metrics', '/version'])
      expect([path, (await ask(path)).status]).toEqual([path, 200]);
    for (const path of [
      '/api/status',
      '/api/v1/targets',
      '/api/v1/executions',
      '/api/v1/executions/x',
      '/api/v1/executions/x/output',
    ]) {
      const reply = await ask(path);
      expect(reply).toMatchObject(refusal('unauthenticated', /Authorization: Bearer TOKEN/));
      expect(reply.headers['www-authenticate']).toBe('Bearer');
    }
    expect(await ask('/api/v1/executions/x', {}, 'DELETE')).toMatchObject(refusal('unauthenticated'));
    expect(await ask('/api/v1/targets/w1/commands', {}, 'POST')).toMatchObject(refusal('unauthenticated'));
    expect(await ask('/api/v1/targets', { authorization: 'Bearer wrong-token-0123456' })).toMatchObject(
      refusal('unauthenticated', /not known/),
    );
    expect(await ask('/api/v1/targets', { authorization: 'Basic YTpi' })).toMatchObject(
      refusal('unauthenticated', /Bearer TOKEN/),
    );
  });

  it('the right one lets in, by header or query, under any Host', async () => {
    expect((await ask('/api/v1/targets', { authorization: `Bearer ${TOKEN}`, host: 'gw.example' })).status).toBe(200);
    expect((await ask(`/api/v1/executions?limit=1&access_token=${TOKEN}`)).status).toBe(200);
  });

  it('what is done is recorded under its subject, with the address that the trusted proxy saw', async () => {
    const headers = { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' };
    const body = '{"command":"a"}';
    const send = (lines: string) =>
      raw(
        `POST /api/v1/targets/w1/commands HTTP/1.1\r\nHost: gw.example\r\n${lines}Authorization: ${headers.authorization}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
        guarded.port,
      );
    // A proxy that adds a line of its own, below the one that the client made up.
    expect(await send('X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.9\r\n')).toMatch(/^HTTP\/1\.1 202/);
    const { executions } = (await ask('/api/v1/executions', { authorization: headers.authorization })).json;
    expect(executions[0]).toMatchObject({ subject: 'alice', address: '203.0.113.9' });
  });

  it('a page that reached us by TLS must have come by TLS itself', async () => {
    const seen = (origin: string) => ask('/version', { host: 'gw.example', origin, 'x-forwarded-proto': 'https' });
    expect((await seen('https://gw.example')).status).toBe(200);
    expect(await seen('http://gw.example')).toMatchObject(refusal('origin_refused'));
  });
});
