import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { connect, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer as createTlsServer } from 'node:tls';
import { promisify } from 'node:util';
import { FakeClock } from '@carrierarr/platform';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { judgeSkew, measureSkew } from '../../apps/cli/src/doctor/clock.js';
import { judgeHost } from '../../apps/cli/src/doctor/dns.js';
import { judgeAccess } from '../../apps/cli/src/doctor/gateway/access.js';
import { judgeCertificate } from '../../apps/cli/src/doctor/gateway/certificate.js';
import { judgeHealth, judgeReady, judgeVersion } from '../../apps/cli/src/doctor/gateway/health.js';
import { judgeIdle } from '../../apps/cli/src/doctor/gateway/idle.js';
import { judgeWebSocket } from '../../apps/cli/src/doctor/gateway/websocket.js';
import { freePort, startRedis, type TestRedis } from '../support/redis.js';
import { examine, startGateway } from './support.js';

const TOKEN = 'sekret-token-0123456789';
let redis: TestRedis;
let folder: string;

beforeAll(async () => {
  redis = await startRedis();
  folder = await mkdtemp(join(tmpdir(), 'carrierarr-doctor-'));
  await writeFile(join(folder, 'tokens'), `alice ${TOKEN}\n`, { mode: 0o600 });
});
afterAll(async () => {
  await redis.stop();
  await rm(folder, { recursive: true });
});

async function listening(server: ReturnType<typeof createTcpServer>): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return (server.address() as { port: number }).port;
}

/** A proxy that cuts what says nothing for so long, as proxies do. */
async function proxyWithIdleTimeout(target: string, idleMs: number): Promise<string> {
  const server = createTcpServer((client) => {
    const upstream = connect(Number(new URL(target).port), '127.0.0.1');
    for (const socket of [client, upstream]) socket.on('error', () => undefined);
    client.setTimeout(idleMs, () => client.destroy());
    client.pipe(upstream).pipe(client);
    client.once('close', () => upstream.destroy());
  });
  return `http://127.0.0.1:${await listening(server)}`;
}

async function httpServer(answer: RequestListener): Promise<string> {
  return `http://127.0.0.1:${await listening(createHttpServer(answer))}`;
}

describe('doctor and a real gateway', () => {
  it('find nothing wrong with one that is well, through its URL', async () => {
    const url = await startGateway(redis, '--tokens-file', join(folder, 'tokens'));
    await writeFile(join(folder, 'token'), TOKEN, { mode: 0o600 });
    const found = await examine([
      '--url',
      url.replace('127.0.0.1', 'localhost'),
      '--token-file',
      join(folder, 'token'),
    ]);
    expect(found.of('dns')).toEqual([expect.stringMatching(/^ok: localhost \(--url\) is .*127\.0\.0\.1/)]);
    expect(found.of('gateway')).toEqual([
      expect.stringMatching(/^ok: A gateway answers at .*, with 0 clients\.$/),
      'ok: The gateway is ready: output, redis.',
      expect.stringMatching(/^ok: The gateway is of version \d/),
    ]);
    expect(found.of('gateway-access')).toEqual(['ok: The token is taken.']);
    expect(found.of('gateway-websocket')).toEqual([
      expect.stringMatching(/^ok: .*\/ws opened, and a ping was answered/),
    ]);
    expect(found.of('gateway-certificate')).toEqual(['skip: Not looked at: the URL is not https.']);
    expect(found.of('gateway-idle')).toEqual(['skip: Not looked at: it was not wanted (--idle-seconds 0).']);
    expect(found.of('clock')).toEqual([expect.stringMatching(/^ok: The clock of the gateway agrees/)]);
    expect(found.exitCode).toBe(0);
  });

  it('tell of a token that is missing or wrong, without showing it', async () => {
    const url = await startGateway(redis, '--tokens-file', join(folder, 'tokens'));
    const none = await examine(['--url', url]);
    expect(none.of('gateway-access')).toEqual(['fail: The gateway wants a token, and none was given.']);
    expect(none.of('gateway-websocket')).toEqual([expect.stringMatching(/^fail: .* was refused with 401/)]);
    const wrong = await examine(['--url', url, '--token', 'wrong-sekret'], {});
    expect(wrong.of('gateway-access')).toEqual(['fail: The token is refused.']);
    expect(wrong.of('gateway-websocket')).toEqual([expect.stringMatching(/^fail: .* was refused with 401/)]);
    expect(wrong.text).not.toContain('wrong-sekret');
    expect(wrong.exitCode).toBe(1);
  });

  it('notice a proxy that cuts idle WebSockets, and one that does not', async () => {
    const url = await startGateway(redis);
    const cutting = await proxyWithIdleTimeout(url, 700);
    const cut = await examine(['--url', cutting, '--idle-seconds', '15']);
    expect(cut.of('gateway-idle')).toEqual([
      expect.stringMatching(/^fail: A WebSocket without traffic was closed with 1006 after (0\.[6-9]|[1-9]\.\d) s; /),
    ]);
    expect(cut.advice('gateway-idle')).toMatch(/proxy-read-timeout.*--idle-timeout/);
    const held = await examine(['--url', await proxyWithIdleTimeout(url, 60_000), '--idle-seconds', '1']);
    expect(held.of('gateway-idle')).toEqual([
      expect.stringMatching(/^ok: .* stayed open for 1\.\d s; .*--idle-seconds 90/),
    ]);
  });

  it('count the pings of the gateway as traffic, which is what keeps a proxy from cutting', async () => {
    // A gateway with the shortest idle timeout pings after some seconds.
    const url = await startGateway(redis, '--idle-timeout', '8s', '--unauthenticated-timeout', '5s');
    const found = await examine(['--url', await proxyWithIdleTimeout(url, 9_000), '--idle-seconds', '12']);
    expect(found.of('gateway-idle')).toEqual([
      expect.stringMatching(/^ok: .* for 12\.\d s; nothing came for [4-9]\.\d s/),
    ]);
  }, 40_000);

  it('tell of a proxy that reaches no gateway, that lets no WebSocket through, or that is none of ours', async () => {
    const unavailable = await examine([
      '--url',
      await httpServer((_, response) => response.writeHead(503).end('<html>')),
    ]);
    expect(unavailable.of('gateway')[0]).toMatch(/^fail: The proxy at .* reaches no gateway \(503\)\.$/);
    expect(unavailable.advice('gateway-websocket')).toBe('The proxy reaches no gateway that is ready.');
    const other = await examine(['--url', await httpServer((_, response) => response.writeHead(200).end('hello'))]);
    expect(other.of('gateway')[0]).toMatch(/^fail: .*\/health answers 200, which is no gateway's answer/);
    expect(other.of('gateway-websocket')).toEqual([expect.stringMatching(/^fail: .*\/ws was refused with 200/)]);
    expect(other.advice('gateway-websocket')).toMatch(/pass upgrades on/);
    const redirected = await examine([
      '--url',
      await httpServer((_, response) => response.writeHead(301, { location: 'https://x' }).end()),
    ]);
    expect(redirected.of('gateway')[0]).toMatch(/^fail: .* redirects \(301\)/);
  });

  it('look at nothing else when nothing listens there, nor wait for one that never answers', async () => {
    const nothing = await examine(['--url', `http://127.0.0.1:${await freePort()}`]);
    expect(nothing.of('gateway')).toEqual([expect.stringMatching(/^fail: .*nothing listens there/)]);
    expect(nothing.of('gateway-access')).toEqual(['skip: Not looked at: the gateway cannot be reached.']);
    const silent = await examine(['--url', await httpServer(() => undefined), '--timeout', '300ms']);
    expect(silent.of('gateway')).toEqual(['fail: It was not done after 0.3 s.']);
    expect(silent.exitCode).toBe(1);
  });

  it('look at the usual address when nothing is named, and at what is named in the file of a pod', async () => {
    const file = join(folder, 'config.yaml');
    // As the chart writes it for a runner: most of it is not the doctor's business.
    const runners = `script: /scripts/control.sh\nopsAddr: ':9091'\nconcurrency: 4\nshutdownGrace: 86400s\n`;
    await writeFile(file, `redisUrl: ${redis.url}\n${runners}`);
    const pod = await examine([], { CARRIERARR_CONFIG: file });
    expect(pod.of('redis')).toEqual([`ok: Reached ${redis.url}: one server.`]);
    expect(pod.of('gateway')).toEqual(['skip: Not looked at: no gateway is named (--url).']);
    const laptop = await examine(['--timeout', '300ms']);
    expect(laptop.of('gateway')[0]).toContain('127.0.0.1:8090');
    expect(laptop.of('redis')).toEqual(['skip: Not looked at: no Redis is named (--redis-url).']);
  });

  it('do not find a host that does not exist', async () => {
    const found = await examine([
      '--url',
      'http://gateway.invalid',
      '--redis-url',
      'redis://redis.invalid',
      '--timeout',
      '3s',
    ]);
    expect(found.of('dns')).toEqual([
      expect.stringMatching(/^fail: gateway\.invalid \(--url\) /),
      expect.stringMatching(/^fail: redis\.invalid \(--redis-url\) /),
    ]);
  });

  it('see how long a certificate is good for, and that nobody trusts it', async () => {
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-days', '30', '-nodes'];
    await promisify(execFile)('openssl', [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      ...subject,
      '-keyout',
      key,
      '-out',
      cert,
    ]);
    const server = createTlsServer({ key: await readFile(key), cert: await readFile(cert) });
    server.on('tlsClientError', () => undefined);
    const found = await examine(['--url', `https://localhost:${await listening(server)}`, '--timeout', '3s']);
    expect(found.of('gateway-certificate')).toEqual([
      'fail: The certificate of localhost is not trusted (DEPTH_ZERO_SELF_SIGNED_CERT).',
    ]);
    expect(found.advice('gateway-certificate')).toContain('NODE_EXTRA_CA_CERTS');
  });
});

describe('what doctor thinks of a gateway', () => {
  const DAY_MS = 86_400_000;

  it('warns two weeks before a certificate expires', () => {
    const level = (days: number) => judgeCertificate({ host: 'h', validToMs: days * DAY_MS }, 0).level;
    expect([level(15), level(13), level(-1)]).toEqual(['ok', 'warn', 'fail']);
    expect(judgeCertificate({ host: 'h', validToMs: DAY_MS, mistrust: 'X' }, 0).level).toBe('fail');
  });

  it('warns where everybody is let in from outside, or a token goes in clear text, but not on loopback', () => {
    const facts = { hasToken: false, withOurs: 200, withNone: 200 };
    expect(judgeAccess({ ...facts, url: 'https://fleet.example' })[0]).toMatchObject({
      level: 'warn',
      seen: expect.stringContaining('everybody'),
    });
    expect(judgeAccess({ ...facts, url: 'http://localhost:8090' })).toMatchObject([{ level: 'ok' }]);
    expect(
      judgeAccess({ url: 'http://fleet.example', hasToken: true, withOurs: 200, withNone: 401 })[0]?.seen,
    ).toContain('clear text');
    expect(
      judgeAccess({ ...facts, url: 'https://fleet.example', withOurs: 403, withNone: 401, code: 'origin_refused' }),
    ).toMatchObject([{ level: 'fail', seen: 'The API answers 403 (origin_refused).' }]);
  });

  it('takes probes that are kept inside for no fault', () => {
    for (const judged of [
      judgeHealth('u', { status: 404, json: undefined }),
      judgeReady({ status: 404, json: undefined }),
      judgeVersion('1.0.0', { status: 404, json: undefined }),
    ]) {
      expect(judged.level).toBe('skip');
    }
  });

  it('names the checks of a gateway that is not ready, and a version that is another', () => {
    const json = { ready: false, checks: { redis: { ok: false, detail: 'away' }, output: { ok: true, detail: 'ok' } } };
    expect(judgeReady({ status: 503, json })).toMatchObject({
      level: 'fail',
      seen: 'The gateway is not ready: redis: away.',
    });
    expect(judgeVersion('1.2.9', { status: 200, json: { version: '1.2.0' } }).level).toBe('ok');
    expect(judgeVersion('1.3.0', { status: 200, json: { version: '1.2.0' } }).level).toBe('warn');
  });

  it('knows what stands behind the status of a refused WebSocket', () => {
    const advice = (status: number) => judgeWebSocket('u', { kind: 'refused', status }, 0).advice;
    expect([401, 403, 404, 502, 505].map(advice)).toEqual([
      expect.stringContaining('--token-file'),
      expect.stringContaining('--allow-origin'),
      expect.stringContaining('/ws'),
      expect.stringContaining('no gateway'),
      expect.stringContaining('proxy_http_version'),
    ]);
    expect(judgeIdle({ askedSeconds: 90, heldMs: 90_000, silenceMs: 44_000 })).toEqual({
      level: 'ok',
      seen: 'A WebSocket without traffic of ours stayed open for 90.0 s; nothing came for 44.0 s at the longest.',
    });
  });

  it('tells clocks apart, but no finer than it can see', async () => {
    const level = (skewMs: number, uncertainMs = 0) => judgeSkew('Redis', { skewMs, uncertainMs }).level;
    expect([level(900), level(-1_500), level(31_000), level(1_500, 600)]).toEqual(['ok', 'warn', 'fail', 'ok']);
    expect(judgeSkew('Redis', { skewMs: -5_000, uncertainMs: 0 }).seen).toBe(
      "The clock of Redis is 5.0 s behind this machine's.",
    );
    const clock = new FakeClock();
    const theirs = [100, 40, 100].map((tookMs) => () => {
      clock.advance(tookMs);
      return clock.now() - tookMs / 2 + 7_000;
    });
    const skew = await measureSkew(clock, async () => (theirs.shift() ?? (() => 0))());
    expect(skew).toEqual({ skewMs: 7_000, uncertainMs: 20 });
  });

  it('says of a host that cannot be looked up what failed', () => {
    expect(judgeHost({ host: 'h', flag: '--url' }, { code: 'EAI_AGAIN' })).toMatchObject({
      level: 'fail',
      seen: 'h (--url) could not be looked up (EAI_AGAIN).',
    });
  });
});
