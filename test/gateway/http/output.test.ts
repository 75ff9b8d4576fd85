import { once } from 'node:events';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { startRedis, type TestRedis } from '../../support/redis.js';
import { type HttpGateway, startHttpGateway } from './http-gateway.js';

let redis: TestRedis;
let gw: HttpGateway;
const open: ClientRequest[] = [];

beforeAll(async () => {
  redis = await startRedis();
  gw = await startHttpGateway(redis, ['--history-bytes', '64KiB']);
});
afterAll(async () => {
  await gw.stop();
  await redis.stop();
});
beforeEach(() => gw.connection.flushall());
afterEach(() => open.splice(0).forEach((sent) => sent.destroy()));

async function get(path: string, port = gw.port, headers: Record<string, string> = {}): Promise<IncomingMessage> {
  const sent = request({ host: '127.0.0.1', port, path, agent: false, headers });
  sent.on('error', () => undefined);
  open.push(sent);
  sent.end();
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  return response;
}

async function text(response: IncomingMessage): Promise<string> {
  let all = '';
  for await (const chunk of response) all += chunk;
  return all;
}

/** Gathers what has come so far. */
function gather(response: IncomingMessage) {
  const seen = { text: '', ended: false, error: undefined as Error | undefined };
  response.on('data', (chunk: Buffer) => (seen.text += chunk.toString()));
  response.on('end', () => (seen.ended = true));
  response.on('error', (error) => (seen.error = error));
  return seen;
}

const jsonLines = (body: string) =>
  body
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));

async function ran(target: string, ...batches: string[][]): Promise<string> {
  await gw.submit(target);
  const run = await gw.claim(target);
  for (const lines of batches) await gw.append(run, lines);
  await gw.finish(run, { exitCode: 3, outcome: 'failed' });
  return run.id;
}

describe('the output of an execution', () => {
  it('is the text the script wrote, both streams in order, without that of others', async () => {
    await ran('w1', ['before']);
    await gw.submit('w1');
    const run = await gw.claim('w1');
    await gw.append(run, ['one', 'two']);
    await gw.append(run, ['<script>alert(1)</script> é'], 'e');
    await gw.append(run, ['from the runner'], 'l');
    await gw.finish(run);
    await ran('w1', ['after']);
    const response = await get(`/api/v1/executions/${run.id}/output`);
    expect(response.headers).toMatchObject({
      'content-type': 'text/plain; charset=utf-8',
      'x-content-type-options': 'nosniff',
    });
    expect(response.headers['x-carrierarr-gap']).toBeUndefined();
    expect(await text(response)).toBe('one\ntwo\n<script>alert(1)</script> é\n');
  });

  it('as JSON lines is messages with offsets, and ends with the result', async () => {
    await ran('w1', ['before']);
    const id = await ran('w1', ['one', 'two']);
    const response = await get(`/api/v1/executions/${id}/output?format=json`);
    expect(response.headers['content-type']).toBe('application/x-ndjson; charset=utf-8');
    const messages = jsonLines(await text(response));
    expect(messages.map(({ type, data, offset }) => [type, data, offset])).toEqual([
      ['started', undefined, 4],
      ['stdout', 'one', 5],
      ['stdout', 'two', 6],
      ['result', undefined, 7],
    ]);
    expect(messages.at(-1)).toMatchObject({ exit_code: 3, outcome: 'failed', execution_id: id });
  });

  it('of one that runs or waits is what there is, and says that it stops there', async () => {
    await gw.submit('w1');
    const waiting = await gw.submit('w1');
    const run = await gw.claim('w1');
    await gw.append(run, ['one']);
    expect(await text(await get(`/api/v1/executions/${run.id}/output`))).toBe('one\n');
    const messages = jsonLines(await text(await get(`/api/v1/executions/${run.id}/output?format=json`)));
    expect(messages.at(-1)).toMatchObject({ type: 'end', reason: 'not_followed', offset: 2, execution_id: run.id });
    expect(jsonLines(await text(await get(`/api/v1/executions/${waiting}/output?format=json`)))).toMatchObject([
      { type: 'end' },
    ]);
  });

  it('of one that was killed before it started is its result alone', async () => {
    await gw.submit('w1');
    const id = await gw.submit('w1');
    await gw.store.kill('w1', id, 's');
    expect(jsonLines(await text(await get(`/api/v1/executions/${id}/output?format=json&follow=true`)))).toMatchObject([
      { type: 'result', outcome: 'killed' },
    ]);
  });

  it.each([0, 1, 3, 4, 5, 50, 250, 10_000])('has a tail of %i lines', async (tail) => {
    const lines = Array.from({ length: 60 }, (_, i) => `line ${i}`);
    await ran('w1', ['before', 'before', 'before']);
    await gw.submit('w1');
    const run = await gw.claim('w1');
    for (let i = 0; i < lines.length; i += 4) {
      await gw.append(run, lines.slice(i, i + 4));
      // Events of other executions lie between.
      for (let k = 0; k < 3; k += 1) await gw.store.kill('w1', await gw.submit('w1'), 's');
    }
    const expected = lines.slice(Math.max(0, lines.length - tail)).map((line) => `${line}\n`);
    expect(await text(await get(`/api/v1/executions/${run.id}/output?tail=${tail}`))).toBe(
      tail === 0 ? '' : expected.join(''),
    );
    await gw.finish(run);
    await ran('w1', ['after', 'after']);
    expect(await text(await get(`/api/v1/executions/${run.id}/output?tail=${tail}`))).toBe(
      tail === 0 ? '' : expected.join(''),
    );
  });

  it('whose beginning is no longer kept says so', async () => {
    await gw.submit('w1');
    const run = await gw.claim('w1');
    for (let i = 0; i < 100; i += 1) await gw.append(run, [`${i} ${'x'.repeat(2_000)}`]);
    await gw.finish(run);
    const { first } = await gw.log.bounds('w1');
    const response = await get(`/api/v1/executions/${run.id}/output`);
    expect(response.headers['x-carrierarr-gap']).toBe(`1-${first - 1} trimmed`);
    expect(await text(response)).toMatch(new RegExp(`^${first - 2} x`));
    const [gap, next] = jsonLines(await text(await get(`/api/v1/executions/${run.id}/output?format=json`)));
    expect(gap).toMatchObject({ type: 'gap', from: 1, to: first - 1, reason: 'trimmed', target: 'w1' });
    expect(next).toMatchObject({ type: 'stdout', offset: first });
  });

  it('of which nothing is kept is 410', async () => {
    const id = await ran('w1', ['old']);
    await gw.submit('w1');
    const run = await gw.claim('w1');
    for (let i = 0; i < 100; i += 1) await gw.append(run, ['x'.repeat(2_000)]);
    const response = await get(`/api/v1/executions/${id}/output`);
    expect([response.statusCode, JSON.parse(await text(response)).code]).toEqual([410, 'history_trimmed']);
  });

  it('of a probe is 410, and says where its answer is', async () => {
    const answer = await gw.store.submit({
      ...{ target: 'w1', command: 'status', args: [], subject: 'system:monitor', address: '', gateway: 'm' },
      ...{ idempotent: false, probe: true },
    });
    const id = answer.kind === 'accepted' ? answer.execution : '';
    const response = await get(`/api/v1/executions/${id}/output`);
    const { code, error } = JSON.parse(await text(response)) as { code: string; error: string };
    expect([response.statusCode, code]).toEqual([410, 'history_trimmed']);
    expect(error).toContain(`/api/v1/executions/${id}`);
  });

  it('that was lost with its log is a gap of an epoch', async () => {
    const id = await ran('w1', ['old']);
    await gw.connection.del(gw.keys.log('w1'), gw.keys.logMeta('w1'), gw.keys.logSegments('w1'));
    // An epoch is named after the millisecond in which it began; on a fast machine all this takes none.
    const lostMs = Date.now();
    await vi.waitFor(() => expect(Date.now()).toBeGreaterThan(lostMs), { interval: 1 });
    await ran('w1', ['new']);
    const messages = jsonLines(await text(await get(`/api/v1/executions/${id}/output?format=json&follow=true`)));
    expect(messages).toMatchObject([
      { type: 'gap', reason: 'epoch' },
      { type: 'end', reason: 'ended' },
    ]);
  });

  it.each(['format=xml', 'follow=yes', 'tail=-1', 'tail=10001', 'tail=1.5', 'since=1'])(
    'with %s is refused',
    async (query) => {
      const id = await ran('w1', ['x']);
      const response = await get(`/api/v1/executions/${id}/output?${query}`);
      expect([response.statusCode, JSON.parse(await text(response)).code]).toEqual([400, 'bad_message']);
    },
  );
});

describe('a followed output', () => {
  it('comes as it is written, from before the start to the result', async () => {
    const id = await gw.submit('w1');
    const seen = gather(await get(`/api/v1/executions/${id}/output?follow=true&format=json`));
    const run = await gw.claim('w1');
    await vi.waitFor(() => expect(seen.text).toContain('"started"'));
    await gw.append(run, ['one']);
    await vi.waitFor(() => expect(seen.text).toContain('"one"'));
    await gw.append(run, ['two'], 'e');
    await vi.waitFor(() => expect(seen.text).toContain('"two"'));
    expect(seen.ended).toBe(false);
    await gw.finish(run);
    await vi.waitFor(() => expect(seen.ended).toBe(true));
    expect(jsonLines(seen.text).map(({ type, offset }) => [type, offset])).toEqual([
      ['started', 1],
      ['stdout', 2],
      ['stderr', 3],
      ['result', 4],
    ]);
    expect([gw.watching('w1'), gw.limits.total]).toEqual([0, 0]);
  });

  it('ends by itself when the execution had ended', async () => {
    const id = await ran('w1', ['one']);
    expect(await text(await get(`/api/v1/executions/${id}/output?follow=true&tail=5`))).toBe('one\n');
  });

  it('is let go when its client goes', async () => {
    const id = await gw.submit('w1');
    await get(`/api/v1/executions/${id}/output?follow=true&format=json`);
    await vi.waitFor(() => expect([gw.watching('w1'), gw.limits.total]).toEqual([1, 1]));
    open.splice(0).forEach((sent) => sent.destroy());
    await vi.waitFor(() => expect([gw.watching('w1'), gw.limits.total]).toEqual([0, 0]));
  });

  it('says so and stops when the gateway ends; text is broken off', async () => {
    const other = await startHttpGateway(redis);
    await gw.submit('w1');
    const run = await gw.claim('w1');
    await gw.append(run, ['one']);
    const json = gather(await get(`/api/v1/executions/${run.id}/output?follow=true&format=json`, other.port));
    const plain = gather(await get(`/api/v1/executions/${run.id}/output?follow=true`, other.port));
    await vi.waitFor(() => expect(other.watching('w1')).toBe(2));
    other.http.stop();
    await vi.waitFor(() => expect([json.ended, plain.error?.message]).toEqual([true, 'aborted']));
    expect(jsonLines(json.text).at(-1)).toMatchObject({ type: 'end', reason: 'draining', offset: 2 });
    expect(plain.text).toBe('one\n');
    await other.stop();
  });

  it('of more clients than are allowed is refused', async () => {
    const other = await startHttpGateway(redis, ['--connections-max', '1']);
    const id = await gw.submit('w1');
    const path = `/api/v1/executions/${id}/output?follow=true&format=json`;
    expect((await get(path, other.port)).statusCode).toBe(200);
    expect((await get(path, other.port)).statusCode).toBe(503);
    await other.stop();
  });

  it('waits for a client that stalls instead of filling memory, and loses nothing when it reads again', async () => {
    const other = await startHttpGateway(redis, ['--redis-key-prefix', 'big', '--history-bytes', '256MiB']);
    await other.submit('w1');
    const run = await other.claim('w1');
    await other.append(run, ['0']);
    const response = await get(`/api/v1/executions/${run.id}/output?follow=true`, other.port);
    response.pause();
    const batch = (from: number) => Array.from({ length: 1000 }, (_, i) => `${from + i} ${'x'.repeat(50)}`);
    const read = vi.spyOn(other.log, 'read');
    const askedFor = () => Math.max(0, ...read.mock.calls.map(([, after]) => after));
    let total = 1;
    // More than the kernel's buffers on both sides hold.
    while (total < 700_000) {
      await Promise.all(Array.from({ length: 10 }, (_, i) => other.append(run, batch(total + i * 1000))));
      total += 10_000;
    }
    // What is not read from the log lies nowhere in memory.
    expect(askedFor()).toBeGreaterThan(1_000);
    expect(askedFor()).toBeLessThan(total * 0.6);
    await other.finish(run);
    let next = 0;
    let rest = '';
    for await (const chunk of response) {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        if (Number.parseInt(line, 10) !== next) throw new Error(`expected ${next}, got ${line}`);
        next += 1;
      }
    }
    expect([next, rest]).toEqual([total, '']);
    await other.stop();
  });
});

it('a token that is taken back ends what it follows', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'carrierarr-follow-'));
  const file = join(folder, 'tokens');
  await writeFile(file, 'alice alice-token-0123456789', { mode: 0o600 });
  const other = await startHttpGateway(redis, ['--tokens-file', file]);
  const id = await gw.submit('w1');
  const seen = gather(
    await get(`/api/v1/executions/${id}/output?follow=true&format=json`, other.port, {
      authorization: 'Bearer alice-token-0123456789',
    }),
  );
  await vi.waitFor(() => expect(other.watching('w1')).toBe(1));
  await writeFile(file, 'bob bob-token-0123456789ab');
  // The file is read within 5 s, and the follower is looked at within 5 s more, or at the next line.
  await vi.waitFor(
    () => {
      other.wake('w1');
      expect(seen.ended).toBe(true);
    },
    { timeout: 12_000, interval: 200 },
  );
  expect(jsonLines(seen.text)).toMatchObject([{ type: 'end', reason: 'unauthenticated' }]);
  await other.stop();
  await rm(folder, { recursive: true });
});

describe('while Redis is away', () => {
  let own: TestRedis;
  let other: HttpGateway;
  beforeAll(async () => {
    own = await startRedis({ appendOnly: true });
    other = await startHttpGateway(own);
    await other.announceRunner();
  });
  afterAll(async () => {
    own.thaw();
    await other.stop();
    await own.stop();
  });

  it('requests fail within a second or so, with what is known of a command', async () => {
    await other.submit('w1');
    const run = await other.claim('w1');
    await other.append(run, ['one']);
    const followed = gather(await get(`/api/v1/executions/${run.id}/output?follow=true`, other.port));
    await vi.waitFor(() => expect(followed.text).toBe('one\n'));
    const submit = async (body: object) => {
      const response = await fetch(`${other.url}/api/v1/targets/w2/commands`, {
        ...{ method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' } },
      });
      return { status: response.status, body: (await response.json()) as { code: string; error: string } };
    };
    expect((await submit({ command: 'warm' })).status).toBe(202);

    own.freeze();
    const beganMs = performance.now();
    const [anonymous, named, listed] = await Promise.all([
      submit({ command: 'a' }),
      submit({ command: 'a', id: 'x' }),
      fetch(`${other.url}/api/v1/executions`),
    ]);
    expect(performance.now() - beganMs).toBeLessThan(1_500);
    expect(anonymous).toMatchObject({
      status: 503,
      body: { code: 'unavailable', error: expect.stringMatching(/is unknown: look at GET/) },
    });
    expect(named.body.error).toMatch(/is unknown: send it again with the same id/);
    expect(listed.status).toBe(503);
    await vi.waitFor(() => expect(other.health.state.kind).toBe('degraded'));
    expect((await fetch(`${other.url}/ready`)).status).toBe(503);
    expect((await fetch(`${other.url}/health`)).status).toBe(200);
    // At once, where the first ones had to wait for a second to find out. The quickest of three: this machine may be busy.
    const tookMs: number[] = [];
    for (let i = 0; i < 3; i += 1) {
      const againMs = performance.now();
      expect((await submit({ command: 'a' })).body.error).toMatch(/was not accepted\. Try again/);
      tookMs.push(performance.now() - againMs);
    }
    expect(Math.min(...tookMs)).toBeLessThan(200);

    own.thaw();
    await vi.waitFor(() => expect(other.health.state.kind).toBe('available'), 5_000);
    // It was carried out after all: the repeat says so.
    expect((await submit({ command: 'a', id: 'x' })).body).toMatchObject({ duplicate: true });

    await own.kill();
    await vi.waitFor(() => expect(other.health.state.kind).toBe('degraded'));
    expect((await submit({ command: 'a' })).body.error).toMatch(/was not accepted/);
    await own.start();
    await vi.waitFor(() => expect(other.health.state.kind).toBe('available'), 5_000);
    await other.append(run, ['two']);
    await vi.waitFor(() => expect(followed.text).toBe('one\ntwo\n'));
    expect(followed.ended).toBe(false);
  });
});
