import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import {
  createLogger,
  createMetrics,
  FakeClock,
  OpsServer,
  printAddress,
  Readiness,
  version,
} from '@carrierarr/platform';
import { afterEach, describe, expect, it } from 'vitest';

describe('Readiness', () => {
  it('begins not ready and is ready once every check holds', () => {
    const readiness = new Readiness({ checks: ['redis', 'queue'] });
    expect(readiness.ready()).toMatchObject({
      ready: false,
      checks: { redis: { ok: false, detail: 'not started yet' } },
    });
    readiness.set('redis', true, 'connected');
    expect(readiness.ready().ready).toBe(false);
    readiness.set('queue', true);
    expect(readiness.ready()).toMatchObject({
      ready: true,
      draining: false,
      checks: { redis: { detail: 'connected' } },
    });
    readiness.set('redis', false, 'connection lost');
    expect(readiness.ready().ready).toBe(false);
  });

  it('is not ready without any check', () => {
    expect(new Readiness().ready().ready).toBe(false);
  });

  it('tells since when a check is as it is, whatever its detail', () => {
    const clock = new FakeClock(0);
    const readiness = new Readiness({ clock });
    readiness.set('redis', false, 'one');
    clock.advance(1_000);
    readiness.set('redis', false, 'two');
    expect(readiness.ready().checks['redis']).toEqual({ ok: false, detail: 'two', since: '1970-01-01T00:00:00.000Z' });
    readiness.set('redis', true);
    expect(readiness.ready().checks['redis']?.since).toBe('1970-01-01T00:00:01.000Z');
  });

  it('never is ready again once it drains', () => {
    const readiness = new Readiness({ checks: ['redis'] });
    readiness.drain();
    readiness.set('redis', true);
    readiness.set('draining', true);
    expect(readiness.ready()).toMatchObject({ ready: false, draining: true });
  });
});

describe('OpsServer', () => {
  const servers: OpsServer[] = [];
  afterEach(async () => {
    for (const server of servers.splice(0)) await server.stop();
  });

  async function started(port = 0, problems?: () => readonly string[]) {
    const readiness = new Readiness({ checks: ['redis'] });
    const metrics = createMetrics({ program: 'runner', version: '1.2.3' });
    const logger = createLogger({ program: 'test', level: 'silent' });
    const addr = { host: '127.0.0.1', port };
    const more = { version: '1.2.3', logger, ...(problems && { problems }) };
    const server = new OpsServer({ addr, readiness, metrics, ...more });
    servers.push(server);
    await server.start();
    return {
      readiness,
      server,
      get: (path: string, init?: RequestInit) => fetch(`http://${printAddress(server.address)}${path}`, init),
    };
  }

  it('serves health, version and metrics', async () => {
    const { get } = await started();
    expect(await (await get('/health')).json()).toEqual({ status: 'healthy' });
    expect(await (await get('/version?x')).json()).toEqual({ version: '1.2.3' });
    const metrics = await get('/metrics');
    expect(metrics.headers.get('content-type')).toContain('text/plain');
    const text = await metrics.text();
    expect(text).toContain(`carrierarr_build_info{program="runner",version="1.2.3",node="${process.versions.node}"} 1`);
    expect(text).toContain('process_cpu_seconds_total');
  });

  it('names in /health what is wrong though the program lives', async () => {
    const found = ['the disk is full'];
    const { get } = await started(0, () => found);
    const answer = await get('/health');
    expect(answer.status).toBe(200);
    expect(await answer.json()).toEqual({ status: 'healthy', problems: ['the disk is full'] });
    found.length = 0;
    expect(await (await get('/health')).json()).toEqual({ status: 'healthy' });
  });

  it('answers /ready with 503 and the reason until it is ready', async () => {
    const { get, readiness } = await started();
    const before = await get('/ready');
    expect(before.status).toBe(503);
    expect(await before.json()).toMatchObject({ ready: false, checks: { redis: { ok: false } } });
    readiness.set('redis', true);
    expect((await get('/ready')).status).toBe(200);
  });

  it('refuses other paths and methods', async () => {
    const { get } = await started();
    expect((await get('/secrets')).status).toBe(404);
    expect((await get('/health', { method: 'POST' })).status).toBe(405);
    expect((await get('/health', { method: 'HEAD' })).status).toBe(200);
  });

  it('says which flag moves it when its address is taken', async () => {
    const { server } = await started();
    await expect(started(server.address.port)).rejects.toThrow(
      `Cannot listen on 127.0.0.1:${server.address.port} for health and metrics: another program listens there. ` +
        'Choose another address with --ops-addr (CARRIERARR_OPS_ADDR).',
    );
  });

  it('stops although a client is in the middle of its request', async () => {
    const { get, server } = await started();
    const socket = connect(server.address);
    const closed = new Promise((resolve) => void socket.once('close', resolve));
    await new Promise((resolve) => void socket.write('GET /health HTTP/1.1\r\n', resolve));
    await get('/health');
    const url = `http://${printAddress(server.address)}/health`;
    await server.stop();
    await server.stop();
    await closed;
    await expect(fetch(url)).rejects.toThrow('fetch failed');
  });
});

describe('createMetrics', () => {
  it('can leave the process metrics to another program of the process', async () => {
    const text = await createMetrics({ program: 'runner', version: '1', hasProcessMetrics: false }).metrics();
    expect(text).toContain('carrierarr_build_info');
    expect(text).not.toContain('process_cpu');
  });
});

describe('version', () => {
  it("is the workspace's", () => {
    const workspace = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
      version: string;
    };
    expect(version()).toBe(workspace.version);
  });
});
