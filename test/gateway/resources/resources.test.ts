/** Resources over HTTP, at a real gateway on a real Redis. */
import { request } from 'node:http';
import {
  dryRunBodySchema,
  ERRORS,
  observedBodySchema,
  orphansBodySchema,
  planBodySchema,
  type Resource,
  resourceEventsBodySchema,
  resourceSchema,
  TERMINATE_FINALIZER,
  workerListSchema,
  type WorkerResource,
} from '@carrierarr/protocol';
import { DeposedError, Leadership } from '@carrierarr/store';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { parse } from 'yaml';
import { startRedis, type TestRedis } from '../../support/redis.js';
import { type HttpGateway, startHttpGateway } from '../http/http-gateway.js';
import { TestMonitor, workerRecord } from '../status/monitor.js';

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
  await gw.connection.spublish(gw.keys.resourceChannel(), '');
  await vi.waitFor(() => expect(gw.follow.resources.resourceVersion).toBe('0'), { timeout: 5_000 });
  gw.logLines.length = 0;
});

interface Reply {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
  json: any;
}

function call(
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
  port = gw.port,
): Promise<Reply> {
  const text = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body);
  const type: Record<string, string> = text === undefined ? {} : { 'content-type': 'application/json' };
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, path, method, headers: { ...type, ...headers }, agent: false };
    const sent = request(options);
    sent.on('error', reject);
    sent.on('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        const answer = Buffer.concat(chunks).toString();
        const isJson = response.headers['content-type'] === 'application/json' && answer !== '';
        const json = isJson ? JSON.parse(answer) : undefined;
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text: answer, json });
      });
    });
    sent.end(text);
  });
}

/** What a reply with this error looks like. */
function refusal(code: keyof typeof ERRORS, text = /./) {
  const { http: status, retryable } = ERRORS[code];
  return { status, json: { code, retryable, error: expect.stringMatching(text) } };
}

function worker(name: string, spec: object = {}, metadata: object = {}): object {
  return { apiVersion: 'carrierarr.io/v1', kind: 'Worker', metadata: { name, ...metadata }, spec };
}
function pool(name: string, spec: object = {}): object {
  const template = { spec: {} };
  return {
    apiVersion: 'carrierarr.io/v1',
    kind: 'WorkerPool',
    metadata: { name },
    spec: { replicas: 2, template, ...spec },
  };
}
const put = (name: string, spec: object = {}, headers = {}) =>
  call('PUT', `/api/v1/workers/${name}`, worker(name, spec), headers);
/** The gateway's memory of resources has this one. */
const isFollowed = (kind: Resource['kind'], name: string) =>
  vi.waitFor(() => expect(gw.follow.resources.get(kind, name)).toBeDefined(), { timeout: 5_000 });
/** A Worker as a pool makes it, past the gateway. */
async function ownedWorker(name: string, owner: { name: string; uid: string }): Promise<WorkerResource> {
  const made = (await put(name)).json as WorkerResource;
  const metadata = { ...made.metadata, owner: { kind: 'WorkerPool' as const, ...owner } };
  const answer = await gw.resourceStore.put({ ...made, metadata }, undefined);
  if (answer.kind !== 'ok') throw new Error(answer.kind);
  return answer.resource;
}
const audit = () => gw.logLines.map((line) => JSON.parse(line)).filter(({ event }) => event === 'resource.changed');

describe('a resource', () => {
  it('is created, read, replaced, patched and let go', async () => {
    const created = await put('w1', { desired: 'stopped' });
    expect(created.status).toBe(201);
    const { metadata, spec } = resourceSchema.parse(created.json);
    expect(metadata).toMatchObject({
      name: 'w1',
      generation: 1,
      finalizers: [TERMINATE_FINALIZER],
    });
    expect(spec).toMatchObject({ desired: 'stopped', maxRetries: 10, paused: false });
    const etag = `"${metadata.resourceVersion}"`;
    expect(created.headers['etag']).toBe(etag);
    expect(await call('GET', '/api/v1/workers/w1')).toMatchObject({
      status: 200,
      json: created.json,
      headers: { etag },
    });

    const replaced = await put('w1', { desired: 'running' });
    expect(replaced).toMatchObject({ status: 200, json: { metadata: { generation: 2, uid: metadata.uid } } });
    const patched = await call(
      'PATCH',
      '/api/v1/workers/w1',
      { spec: { idleStopAfter: '15m' }, metadata: { labels: { a: 'b' } } },
      {
        'content-type': 'application/merge-patch+json',
      },
    );
    expect(patched).toMatchObject({
      status: 200,
      json: { metadata: { generation: 3, labels: { a: 'b' } }, spec: { desired: 'running', idleStopAfter: '15m' } },
    });
    const removed = await call('PATCH', '/api/v1/workers/w1', {
      spec: { idleStopAfter: null },
      metadata: { labels: { a: null } },
    });
    expect(removed.json.spec).not.toHaveProperty('idleStopAfter');
    expect(removed.json.metadata.labels).toEqual({});

    const marked = await call('DELETE', '/api/v1/workers/w1');
    expect(marked).toMatchObject({ status: 202, json: { metadata: { deletionTimestamp: expect.any(String) } } });
    const again = await call('DELETE', '/api/v1/workers/w1');
    expect(again).toMatchObject({ status: 202, json: marked.json });
    expect(await call('DELETE', '/api/v1/workers/w1?orphan=true')).toMatchObject({ status: 200 });
    expect(await call('GET', '/api/v1/workers/w1')).toMatchObject(refusal('not_found', /There is no Worker "w1"/));
    expect(await call('DELETE', '/api/v1/workers/w1')).toMatchObject(refusal('not_found'));
    expect(await call('PATCH', '/api/v1/workers/w1', {})).toMatchObject(refusal('not_found'));
  });

  it('that is written as it is already stays as it is, and nobody hears of it', async () => {
    const first = await put('w1', { desired: 'running' });
    const again = await put('w1', { desired: 'running' });
    expect([again.status, again.json]).toEqual([200, first.json]);
    expect(audit()).toHaveLength(1);
  });

  it('is printed as YAML, and that is accepted back, with its version', async () => {
    await put('w1', { desired: 'stopped', args: { start: ['--x', 'yes', '1e3'] } });
    const printed = await call('GET', '/api/v1/workers/w1', undefined, { accept: 'application/yaml' });
    expect(printed.headers['content-type']).toContain('application/yaml');
    expect(parse(printed.text).spec.args.start).toEqual(['--x', 'yes', '1e3']);
    const headers = { 'content-type': 'application/yaml' };
    const changed = printed.text.replace('desired: stopped', 'desired: running');
    expect(await call('PUT', '/api/v1/workers/w1', changed, headers)).toMatchObject({
      status: 200,
      json: { spec: { desired: 'running' } },
    });
    // The same text once more is about a version that is gone.
    const late = await call('PUT', '/api/v1/workers/w1', printed.text, headers);
    expect(late).toMatchObject(
      refusal('conflict', /Expected Worker "w1" to be at version \d+, but it is at version \d+/),
    );
    // JSON is what all get who do not name YAML before it.
    for (const accept of ['*/*', 'application/json, application/yaml']) {
      expect((await call('GET', '/api/v1/workers/w1', undefined, { accept })).json).toBeDefined();
    }
  });

  it('is written only at the version that the client has seen, if it names one', async () => {
    const { resourceVersion } = (await put('w1')).json.metadata;
    const seen = { 'if-match': `"${resourceVersion}"` };
    const second = await put('w1', { paused: true }, seen);
    expect(second.status).toBe(200);
    expect(await put('w1', { paused: false }, seen)).toMatchObject(
      refusal('conflict', new RegExp(`it is at version ${second.json.metadata.resourceVersion}`)),
    );
    expect(await put('w2', {}, { 'if-match': '*' })).toMatchObject(refusal('conflict', /to exist, but there is none/));
    expect(await put('w1', {}, { 'if-none-match': '*' })).toMatchObject(refusal('conflict', /not to exist/));
    const patch = { metadata: { resourceVersion }, spec: { paused: false } };
    expect(await call('PATCH', '/api/v1/workers/w1', patch)).toMatchObject(refusal('conflict'));
    const stale = call('DELETE', '/api/v1/workers/w1', undefined, seen);
    expect(await stale).toMatchObject(refusal('conflict'));
    expect((await call('GET', '/api/v1/workers/w1')).json.spec.paused).toBe(true);
  });

  it('patched by many at once keeps every patch', async () => {
    await put('w1');
    const replies = await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        call('PATCH', '/api/v1/workers/w1', { metadata: { labels: { [`l${i}`]: 'x' } } }),
      ),
    );
    expect(replies.map(({ status }) => status)).toEqual(Array(8).fill(200));
    const { labels } = (await call('GET', '/api/v1/workers/w1')).json.metadata;
    expect(Object.keys(labels).toSorted()).toEqual(Array.from({ length: 8 }, (_, i) => `l${i}`));
  });

  it('has its target alone, though two gateways are asked for two Workers of it in the same moment', async () => {
    const other = await startHttpGateway(redis);
    try {
      const races = Array.from({ length: 30 }, (_, n) => `gpu-${n}`);
      const statuses = await Promise.all(
        races.map(async (target, n) => {
          const spec = { target };
          const one = call('PUT', `/api/v1/workers/a${n}`, worker(`a${n}`, spec));
          const two = call('PUT', `/api/v1/workers/b${n}`, worker(`b${n}`, spec), {}, other.port);
          return (await Promise.all([one, two])).map(({ status }) => status).toSorted((a, b) => a - b);
        }),
      );
      expect(statuses).toEqual(races.map(() => [201, 409]));
      expect((await gw.resourceStore.list('Worker')).items).toHaveLength(races.length);
    } finally {
      await other.stop();
    }
  });

  it('leaves a line in the audit log and an event at each change', async () => {
    await put('w1', { desired: 'stopped' });
    await put('w1', { desired: 'running' });
    await call('DELETE', '/api/v1/workers/w1');
    expect(audit()).toMatchObject([
      {
        action: 'created',
        kind: 'Worker',
        name: 'w1',
        subject: 'anonymous',
        address: '127.0.0.1',
        resourceVersion: expect.any(String),
      },
      { action: 'changed', paths: ['spec.desired'], generation: 2 },
      { action: 'deleted' },
    ]);
    const { items } = resourceEventsBodySchema.parse((await call('GET', '/api/v1/workers/w1/events')).json);
    expect(items.map(({ reason, message }) => [reason, message])).toEqual([
      ['Created', 'By anonymous.'],
      ['SpecChanged', 'By anonymous: spec.desired.'],
      ['DeletionRequested', 'By anonymous.'],
    ]);
    expect(await call('GET', '/api/v1/workers/nobody/events')).toMatchObject(refusal('not_found'));
  });
});

describe('what is refused', () => {
  it('a manifest with problems, naming each', async () => {
    const reply = await put('w1', { desired: 'up', replica: 1 });
    expect(reply).toMatchObject(refusal('bad_resource'));
    expect(reply.json.issues.map(({ path }: { path: string }) => path)).toEqual(['spec.desired', 'spec.replica']);
    expect(await call('PUT', '/api/v1/workers/w1', worker('w2'))).toMatchObject(
      refusal('bad_resource', /must be "w1"/),
    );
    expect(await call('PUT', '/api/v1/workers/w1', pool('w1'))).toMatchObject(
      refusal('bad_resource', /must be Worker/),
    );
    expect(await call('PATCH', '/api/v1/workers/w1', worker('w1'))).toMatchObject(refusal('not_found'));
    await put('w1');
    expect(await call('PATCH', '/api/v1/workers/w1', { spec: null })).toMatchObject(refusal('bad_resource', /`spec`/));
    expect(await call('PATCH', '/api/v1/workers/w1', 'null')).toMatchObject(refusal('bad_resource'));
    expect(await call('PATCH', '/api/v1/workers/w1', { metadata: { name: 'w2' } })).toMatchObject(
      refusal('bad_resource'),
    );
    expect((await call('GET', '/api/v1/workers/w1')).json.metadata.generation).toBe(1);
  });

  it('a schedule that no calendar has', async () => {
    const windows = [{ start: '0 8 * *', duration: '9h' }];
    expect(await put('w1', { schedule: { windows } })).toMatchObject({
      ...refusal('bad_resource', /cron expression of five fields/),
      json: { issues: [{ path: 'spec.schedule' }] },
    });
    const schedule = { timeZone: 'Mars/Olympus', windows: [{ start: '0 8 * * *', duration: '9h' }] };
    expect(await call('PUT', '/api/v1/workerpools/p', pool('p', { template: { spec: { schedule } } }))).toMatchObject(
      refusal('bad_resource', /IANA name/),
    );
  });

  it('a second Worker for a target, naming the first', async () => {
    await put('w1', { target: 'gpu' });
    await isFollowed('Worker', 'w1');
    expect(await put('w2', { target: 'gpu' })).toMatchObject(refusal('conflict', /"gpu" is that of the Worker "w1"/));
    expect(await put('gpu')).toMatchObject(refusal('conflict'));
    expect(await put('w1', { target: 'gpu', paused: true })).toMatchObject({ status: 200 });
    const both = await Promise.all([put('x1', { target: 'tpu' }), put('x2', { target: 'tpu' })]);
    expect(both.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([201, 409]);
  });

  it('another target for a Worker, however it is asked for, as the machine of the old one would run on', async () => {
    const made = (await put('w1', { target: 'gpu' })).json as WorkerResource;
    await put('w2');
    const version = made.metadata.resourceVersion;
    const refused = refusal('bad_resource', /`spec\.target`: cannot be changed.*"gpu".*delete.*--orphan.*got "tpu"/);
    expect(await put('w1', { target: 'tpu' })).toMatchObject(refused);
    expect(await put('w1', { target: 'tpu' }, { 'if-match': `"${version}"` })).toMatchObject(refused);
    const patch = (name: string, spec: object) => call('PATCH', `/api/v1/workers/${name}`, { spec });
    expect(await patch('w1', { target: 'tpu' })).toMatchObject(refused);
    expect(await patch('w1', { target: null })).toMatchObject(refusal('bad_resource', /cannot be changed/));
    expect(await patch('w2', { target: 'tpu' })).toMatchObject(refusal('bad_resource', /"w2" would run on/));
    // What `diff`, `plan -f` and `apply --dry-run` ask.
    expect(await call('POST', '/api/v1/plan', worker('w1', { target: 'tpu' }))).toMatchObject(refused);
    // The name is what it is anyway.
    expect(await patch('w2', { target: 'w2' })).toMatchObject({ status: 200 });
    expect((await call('GET', '/api/v1/workers/w1')).json.spec.target).toBe('gpu');
    // Deleted and applied anew, it has the other one.
    expect(await call('DELETE', '/api/v1/workers/w1?orphan=true')).toMatchObject({ status: 200 });
    expect(await put('w1', { target: 'tpu' })).toMatchObject({ status: 201 });
  });

  it('another selector for a Worker that would lose its machine by that, which would run on', async () => {
    const monitor = new TestMonitor(gw.connection, gw.keys);
    const tags = { role: 'llm', stage: 'live' };
    await monitor.publish({
      upserts: [
        workerRecord('i-1', { tags }),
        workerRecord('i-terminated', { tags: { role: 'terminated' }, state: 'terminated' }),
        workerRecord('host-1', { tags: { role: 'labelled' }, source: 'agents' }),
        workerRecord('script/w3', { target: 'w3', source: 'script', state: 'absent' }),
        workerRecord('script/w4', { target: 'w4', source: 'script' }),
        workerRecord('i-gone', { tags: { role: 'old' }, gone_at: '2025-01-01T00:00:00.000Z' }),
      ],
    });
    await vi.waitFor(() => expect(gw.status.workersWhere(() => true)).toHaveLength(5));
    const selecting = (wanted: Record<string, string>) => ({ selector: { tags: wanted } });
    await put('w1', selecting({ role: 'llm' }));
    const refused = refusal('bad_resource', /`spec\.selector`: cannot be changed so, as "i-1" would run on.*--orphan/);
    expect(await put('w1', selecting({ role: 'web' }))).toMatchObject(refused);
    expect(await put('w1')).toMatchObject(refused);
    expect(await call('POST', '/api/v1/plan', worker('w1', selecting({ role: 'web' })))).toMatchObject(refused);
    // The same machine by another of its tags, or by fewer.
    expect(await put('w1', selecting({ stage: 'live' }))).toMatchObject({ status: 200 });
    expect(await put('w1', selecting(tags))).toMatchObject({ status: 200 });
    // One that fits no machine is put right without ado, as is one whose machine has vanished.
    expect(await put('w2', selecting({ role: 'lmm' }))).toMatchObject({ status: 201 });
    for (const role of ['old', 'terminated', 'labelled'])
      expect(await put('w2', selecting({ role }))).toMatchObject({ status: 200 });
    expect(await put('w2', selecting({ stage: 'live' }))).toMatchObject({ status: 200 });
    // A script's machine has no tags, so it is lost by any selector, if there is one.
    await put('w3');
    expect(await put('w3', selecting(tags))).toMatchObject({ status: 200 });
    await put('w4');
    expect(await put('w4', selecting(tags))).toMatchObject(refusal('bad_resource', /"script\/w4" would run on/));
  });

  it("changes by hand of a pool's Worker, but for `paused`", async () => {
    await ownedWorker('p-0', { name: 'p', uid: 'u' });
    const refused = await call('PATCH', '/api/v1/workers/p-0', {
      spec: { desired: 'stopped' },
      metadata: { labels: { a: 'b' } },
    });
    expect(refused).toMatchObject(refusal('bad_resource', /belongs to the pool "p".*change the pool/));
    expect(refused.json.issues).toHaveLength(2);
    expect(await call('PATCH', '/api/v1/workers/p-0', { spec: { paused: true } })).toMatchObject({ status: 200 });
    expect((await call('GET', '/api/v1/workers/p-0')).json.metadata.owner.name).toBe('p');
  });

  it('bodies of other types, too large, or made to explode', async () => {
    const path = '/api/v1/workers/w1';
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', '']) {
      expect(await call('PUT', path, '{}', { 'content-type': type })).toMatchObject(
        refusal('bad_message', /Content-Type/),
      );
    }
    expect(await call('PATCH', path, '{}', { 'content-type': 'application/yaml' })).toMatchObject(
      refusal('bad_message'),
    );
    const yaml = { 'content-type': 'application/yaml' };
    let bomb = 'a0: &a0 [x, x, x, x, x, x, x, x, x]\n';
    for (let i = 1; i <= 20; i += 1)
      bomb += `a${i}: &a${i} [${Array(9)
        .fill(`*a${i - 1}`)
        .join(', ')}]\n`;
    expect(await call('PUT', path, bomb, yaml)).toMatchObject(refusal('bad_message', /alias/i));
    expect(await call('PUT', path, '['.repeat(60_000), yaml)).toMatchObject(refusal('bad_message'));
    expect(await call('PUT', path, `x: ${'y'.repeat(70_000)}`, yaml)).toMatchObject(refusal('message_too_large'));
    expect((await call('GET', '/health')).status).toBe(200);
  });

  it('hostile names in paths, without a trace', async () => {
    const names = [
      '..%2f..%2fetc',
      '%00',
      '%0d%0aX:%20y',
      '*',
      '{control}',
      '__proto__',
      'a'.repeat(3_000),
      '%E2%80%AE',
      'constructor',
      '%F0',
    ];
    for (const name of names) {
      for (const part of ['', '/status', '/plan', '/events']) {
        const { status, json } = await call('GET', `/api/v1/workers/${name}${part}`);
        expect([name, part, [404, 400].includes(status), json?.code !== 'internal']).toEqual([name, part, true, true]);
      }
      const { status } = await call('PUT', `/api/v1/workers/${name}`, worker('w1'));
      expect([name, [400, 422].includes(status)]).toEqual([name, true]);
      expect([404, 400]).toContain((await call('DELETE', `/api/v1/workers/${name}`)).status);
    }
    expect(await call('GET', '/api/v1/workers')).toMatchObject({ json: { items: [] } });
    expect(await gw.connection.keys('*')).toEqual([]);
    // Names that are allowed are, however odd.
    const odd = 'Größe 7 "x" %';
    const made = await call('PUT', `/api/v1/workers/${encodeURIComponent(odd)}`, worker(odd));
    expect(made).toMatchObject({ status: 201, json: { metadata: { name: odd } } });
    expect((await call('GET', `/api/v1/workers/${encodeURIComponent(odd)}`)).status).toBe(200);
  });

  it('more writes in a second than commands', async () => {
    const other = await startHttpGateway(redis, ['--commands-per-second', '1', '--commands-burst', '2']);
    try {
      const statuses = [];
      for (let i = 0; i < 3; i += 1) {
        const response = await fetch(`${other.url}/api/v1/workers/w${i}`, {
          ...{ method: 'PUT', body: JSON.stringify(worker(`w${i}`)), headers: { 'content-type': 'application/json' } },
        });
        statuses.push(response.status);
      }
      expect(statuses).toEqual([201, 201, 429]);
    } finally {
      await other.stop();
    }
  });
});

describe('a list', () => {
  it('is sorted by name, and picked from by labels', async () => {
    for (const [name, env] of [
      ['b', 'prod'],
      ['a', 'test'],
      ['c', 'prod'],
    ] as const) {
      await call('PUT', `/api/v1/workers/${name}`, worker(name, {}, { labels: { env } }));
    }
    const names = async (query: string) => {
      const { json } = await call('GET', `/api/v1/workers${query}`);
      return workerListSchema.parse(json).items.map(({ metadata }) => metadata.name);
    };
    expect(await names('')).toEqual(['a', 'b', 'c']);
    expect(await names('?labelSelector=env%3Dprod')).toEqual(['b', 'c']);
    expect(await names('?labelSelector=env!=prod')).toEqual(['a']);
    expect((await call('GET', '/api/v1/workers')).json.metadata.resourceVersion).toBe(
      await gw.resourceStore.revision(),
    );
    expect(await call('GET', '/api/v1/workerpools')).toMatchObject({ json: { kind: 'WorkerPoolList', items: [] } });
    expect(await call('GET', '/api/v1/workers?labelSelector==')).toMatchObject(refusal('bad_message'));
    expect(await call('GET', '/api/v1/workers?limit=3')).toMatchObject(refusal('bad_message'));
    expect(
      parse((await call('GET', '/api/v1/workers', undefined, { accept: 'application/yaml' })).text).items,
    ).toHaveLength(3);
  });
});

describe('a pool', () => {
  it('is marked, and stays until the reconciler has let its Workers go', async () => {
    expect(await call('PUT', '/api/v1/workerpools/p', pool('p'))).toMatchObject({
      status: 201,
      json: { metadata: { finalizers: [] } },
    });
    expect(await call('DELETE', '/api/v1/workerpools/p')).toMatchObject({ status: 202 });
    expect(await call('GET', '/api/v1/workerpools/p')).toMatchObject({
      json: { metadata: { deletionTimestamp: expect.any(String) } },
    });
  });

  it('that is let go as an orphan leaves its Workers, and theirs their machines', async () => {
    const { uid } = (await call('PUT', '/api/v1/workerpools/p', pool('p'))).json.metadata;
    await ownedWorker('p-0', { name: 'p', uid });
    await ownedWorker('p-1', { name: 'p', uid });
    await put('mine');
    expect(await call('DELETE', '/api/v1/workerpools/p?orphan=true')).toMatchObject({
      status: 202,
      json: { spec: { paused: true } },
    });
    const { items } = (await call('GET', '/api/v1/workers')).json;
    expect(items.map(({ metadata }: Resource) => metadata.name)).toEqual(['mine']);
    const { json } = await call('GET', '/api/v1/workerpools/p/plan');
    await vi.waitFor(async () =>
      expect(planBodySchema.parse((await call('GET', '/api/v1/workerpools/p/plan')).json).delete).toEqual([]),
    );
    expect(json.kind).toBe('WorkerPool');
  });
});

describe('orphans', () => {
  it('are listed by any gateway while their machine is there, with how fresh that is, and marked among what is observed', async () => {
    const monitor = new TestMonitor(gw.connection, gw.keys);
    const orphan = (id: string) => ({
      ...{ id, target: id, mapped_by: 'id', source: 'ec2/eu-central-1', state: 'pending' },
      ...{
        since: '2025-01-01T00:00:00.000Z',
        reason: 'It is tagged.',
        termination: 'off' as const,
        message: 'It stays.',
      },
    });
    await monitor.publish({
      upserts: [workerRecord('i-1'), workerRecord('i-2', { gone_at: '2025-01-01T00:00:00.000Z' }), workerRecord('i-3')],
    });
    expect(await call('GET', '/api/v1/orphans')).toMatchObject({ status: 200, json: { items: [] } });
    const held = await new Leadership({ connection: gw.connection, keys: gw.keys }).hold('test-monitor');
    await gw.orphanStore.write(held.leads ? held.fence : 0, ['i-1', 'i-2', 'i-4'].map(orphan), []);
    const { items } = orphansBodySchema.parse((await call('GET', '/api/v1/orphans')).json);
    expect(items).toEqual([{ ...orphan('i-1'), state: 'running', observed_at: expect.any(String) }]);
    const { workers } = observedBodySchema.parse((await call('GET', '/api/v1/observed')).json);
    expect(workers.map(({ id, orphaned_since }) => [id, orphaned_since])).toEqual([
      ['i-1', '2025-01-01T00:00:00.000Z'],
      ['i-2', undefined],
      ['i-3', undefined],
    ]);
    await expect(gw.orphanStore.write(1, [orphan('i-1')], [])).rejects.toThrow(DeposedError);
  });
});

describe('a plan', () => {
  const seen = async (state: string, more: object = {}) => {
    const monitor = new TestMonitor(gw.connection, gw.keys);
    await monitor.publish({ upserts: [workerRecord('i-1', { target: 'w1', state, ...more })] });
    await vi.waitFor(
      async () => {
        const { workers } = (await call('GET', '/api/v1/observed')).json;
        expect(workers).toMatchObject([{ id: 'i-1', state }]);
      },
      { timeout: 5_000 },
    );
  };
  const planOf = async (name: string) => planBodySchema.parse((await call('GET', `/api/v1/workers/${name}/plan`)).json);

  it('does nothing while nothing is known, and says so', async () => {
    await put('w1', { desired: 'running' });
    const plan = await planOf('w1');
    expect(plan.command).toBeUndefined();
    expect(plan.summary).not.toBe('');
    expect(plan.status?.conditions.find(({ type }) => type === 'Observed')).toMatchObject({ status: 'False' });
  });

  it('says which command would be given, and gives none', async () => {
    await put('w1', { desired: 'running', args: { start: ['--fast'] } });
    await seen('stopped');
    expect(await planOf('w1')).toMatchObject({
      kind: 'Worker',
      command: { verb: 'start', args: ['--fast'], target: 'w1' },
    });
    expect((await call('GET', '/api/v1/workers/w1/status')).json).toEqual({});
    expect((await gw.history.list({ limit: 5 })).executions).toEqual([]);
    await seen('running');
    expect((await planOf('w1')).command).toBeUndefined();
  });

  it('knows what became of the last command', async () => {
    await gw.announceRunner();
    const made = (await put('w1', { desired: 'running' })).json as WorkerResource;
    await seen('stopped');
    const token = `cr:${made.metadata.uid}:1:1:start`;
    const submission = {
      target: 'w1',
      command: 'start',
      args: [],
      subject: 'system:reconciler',
      address: '',
      gateway: 'm',
    };
    // First written down, then submitted: before that, it would be another's.
    const status = (await planOf('w1')).status as NonNullable<WorkerResource['status']>;
    await gw.store.submit({ ...submission, clientId: token, idempotent: false });
    const stored = await gw.resourceStore.put(
      { ...made, status: { ...status, lastCommand: { ...status.lastCommand!, token } } },
      undefined,
    );
    expect(stored.kind).toBe('ok');
    // It waits in the queue: nothing is given twice.
    expect((await planOf('w1')).command).toBeUndefined();
    expect((await planOf('w1')).summary).toMatch(/start/);
  });

  it('says that the queue is closed after its runner was lost, until when, and what opens it', async () => {
    await gw.announceRunner();
    await put('w1', { desired: 'running' });
    await seen('stopped');
    const submission = { target: 'w1', command: 'logs', args: [], subject: 'alice', address: '', gateway: 'g' };
    await gw.store.submit({ ...submission, idempotent: false });
    await gw.store.claim('w1', { id: 'r', incarnation: 'i' });
    await gw.store.reap((await gw.store.lease('w1'))!, 60_000);
    const until = new Date((await gw.store.lease('w1'))!.closedUntilMs).toISOString();
    const { command, summary, status } = await planOf('w1');
    expect(command).toBeUndefined();
    expect(summary).toContain(`closed until ${until}`);
    expect(summary).toContain('--runner-id');
    expect(status?.conditions).toContainEqual(expect.objectContaining({ type: 'Synced', reason: 'QueueClosed' }));
    // As soon as it is open, what was seen before that does not count yet.
    await gw.connection.hset(gw.keys.lease('w1'), 'until', Date.parse(until) - 60_000);
    expect((await planOf('w1')).summary).not.toContain('closed');
  });

  it('of manifests tells what would change, and then be done, and writes nothing', async () => {
    await put('w1', { desired: 'running' });
    const revision = await gw.resourceStore.revision();
    await seen('running');
    const body = [worker('w1', { desired: 'stopped' }), worker('w2'), pool('p', { replicas: 3 })];
    const reply = await call('POST', '/api/v1/plan', body);
    expect(reply.status).toBe(200);
    const { items } = dryRunBodySchema.parse(reply.json);
    expect(items).toMatchObject([
      {
        name: 'w1',
        change: 'changed',
        paths: [{ path: 'spec.desired', from: 'running', to: 'stopped' }],
        plan: { command: { verb: 'stop' } },
      },
      { name: 'w2', change: 'created' },
      { name: 'p', kind: 'WorkerPool', change: 'created', plan: { create: ['p-0', 'p-1', 'p-2'] } },
    ]);
    const same = dryRunBodySchema.parse(
      (await call('POST', '/api/v1/plan', worker('w1', { desired: 'running' }))).json,
    );
    expect(same.items).toMatchObject([{ change: 'unchanged', paths: [] }]);
    expect((await call('GET', '/api/v1/workers')).json.metadata.resourceVersion).toBe(revision);
    expect(await call('POST', '/api/v1/plan', [worker('w1', { desired: 'up' })])).toMatchObject(
      refusal('bad_resource'),
    );
    expect(audit()).toHaveLength(1);
  });
});
