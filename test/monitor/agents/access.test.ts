/** Who may be an agent, and what anybody may ask: tokens, certificates and their renewal, health, reflection, flags. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { credentials, loadPackageDefinition, Metadata, status as codes } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { monitorSchema, validateAgentsConfig } from '@carrierarr/monitor';
import { type ConfigError, FakeClock, loadConfig } from '@carrierarr/platform';
import { protoPath as healthProto } from 'grpc-health-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CertificateFiles } from '../../../apps/monitor/src/agents/certificates.js';
import { startRedis, type TestRedis } from '../../support/redis.js';
import { until } from '../../support/until.js';
import { called, installationOf } from './support.js';

const run = promisify(execFile);
let redis: TestRedis;
let folder: string;
let home: ReturnType<typeof installationOf>;
beforeAll(async () => {
  redis = await startRedis();
  folder = await mkdtemp(join(tmpdir(), 'carrierarr-tls-'));
  await authority('ca');
  await authority('other');
  for (const [name, ca] of [
    ['server', 'ca'],
    ['renewed', 'ca'],
    ['agent', 'ca'],
    ['stranger', 'other'],
  ] as const)
    await certificate(name, ca);
}, 60_000);
beforeEach(() => {
  home = installationOf(redis);
});
afterEach(() => home.stop());
afterAll(async () => {
  await redis.stop();
  await rm(folder, { recursive: true, force: true });
});

const file = (name: string) => join(folder, name);
const EC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

async function authority(name: string) {
  const args = ['req', '-x509', ...EC, '-days', '2', '-subj', `/CN=${name}`];
  await run('openssl', [...args, '-keyout', file(`${name}.key`), '-out', file(`${name}.pem`)]);
}

async function certificate(name: string, ca: string) {
  const request = ['req', ...EC, '-subj', `/CN=${name}`, '-keyout', file(`${name}.key`), '-out', file(`${name}.csr`)];
  await run('openssl', request);
  await writeFile(file('san'), 'subjectAltName=DNS:localhost,IP:127.0.0.1');
  const signing = ['x509', '-req', '-in', file(`${name}.csr`), '-CA', file(`${ca}.pem`), '-CAkey', file(`${ca}.key`)];
  await run('openssl', [
    ...signing,
    '-CAcreateserial',
    '-days',
    '2',
    '-extfile',
    file('san'),
    '-out',
    file(`${name}.pem`),
  ]);
}

const bearer = (text: string) => {
  const metadata = new Metadata();
  metadata.set('authorization', text);
  return metadata;
};

describe('with a tokens file', () => {
  const TOKEN = 'agent-token-0123456789';

  it('lets in who shows a token, and says to others what is missing, never what the token is', async () => {
    await writeFile(file('tokens'), `fleet ${TOKEN}\n`, { mode: 0o600 });
    const { agent, metric } = await home.monitor('m1', ['--agent-tokens-file', file('tokens')]);
    const known = agent(undefined, {}, bearer(`Bearer ${TOKEN}`));
    await known.register({ nodeId: 'n1' });
    known.stream().status('n1');
    await home.streaming('n1');
    for (const [metadata, why] of [
      [new Metadata(), /got none/],
      [bearer(`Basic ${TOKEN}`), /got something else/],
      [bearer('Bearer wrong-token-0123456789'), /not one of those/],
    ] as const) {
      const stranger = agent(undefined, {}, metadata);
      const refused = await stranger.register({ nodeId: 'n2' }).catch((error: unknown) => error);
      expect(refused).toMatchObject({ code: codes.UNAUTHENTICATED, details: expect.stringMatching(why) as unknown });
      const end = await stranger.stream().status('n2').ended;
      expect(end).toMatchObject({ code: codes.UNAUTHENTICATED });
      expect(end.details).not.toContain('0123456789');
    }
    expect(await home.node('n2')).toBeUndefined();
    expect(await metric('refused_total{reason="token"}')).toBe(6);
  });

  it('lets nobody read the fleet without one', async () => {
    await writeFile(file('tokens'), `fleet ${TOKEN}\n`, { mode: 0o600 });
    const { agent } = await home.monitor('m1', ['--agent-tokens-file', file('tokens')]);
    await expect(agent().fleet()).rejects.toMatchObject({ code: codes.UNAUTHENTICATED });
  });
});

describe('with TLS', () => {
  const tls = async (name?: string) => {
    const ca = await readFile(file('ca.pem'));
    if (name === undefined) return credentials.createSsl(ca);
    return credentials.createSsl(ca, await readFile(file(`${name}.key`)), await readFile(file(`${name}.pem`)));
  };
  const server = () => ['--grpc-tls-cert', file('server.pem'), '--grpc-tls-key', file('server.key')];

  it('serves agents that trust its authority, and no plain text', async () => {
    const { agent } = await home.monitor('m1', server());
    await agent(await tls()).register({ nodeId: 'n1' });
    await expect(agent().register({ nodeId: 'n2' })).rejects.toMatchObject({ code: codes.UNAVAILABLE });
  });

  it('and an authority for agents, serves those alone that have a certificate of it', async () => {
    const { agent } = await home.monitor('m1', [...server(), '--grpc-tls-client-ca', file('ca.pem')]);
    await agent(await tls('agent')).register({ nodeId: 'n1' });
    for (const name of [undefined, 'stranger']) {
      await expect(agent(await tls(name)).register({ nodeId: 'n2' })).rejects.toMatchObject({
        code: codes.UNAVAILABLE,
      });
    }
    expect(await home.node('n2')).toBeUndefined();
  });

  it('uses a renewed certificate for new connections, and streams stay', async () => {
    for (const part of ['pem', 'key']) await writeFile(file(`live.${part}`), await readFile(file(`server.${part}`)));
    const { agent, address, metric } = await home.monitor('m1', [
      ...['--grpc-tls-cert', file('live.pem'), '--grpc-tls-key', file('live.key')],
    ]);
    const shown = async () => {
      const { stdout } = await run('bash', [
        '-c',
        `openssl s_client -connect ${address} -alpn h2 </dev/null 2>/dev/null | openssl x509 -noout -subject`,
      ]);
      return stdout.trim();
    };
    const stream = agent(await tls())
      .stream()
      .status('n1');
    const { stream: before } = await home.streaming('n1');
    expect(await shown()).toMatch(/server$/);
    for (const part of ['pem', 'key']) {
      await writeFile(file(`next.${part}`), await readFile(file(`renewed.${part}`)));
      await rename(file(`next.${part}`), file(`live.${part}`));
    }
    await until('the renewal to be seen', async () => (await metric('tls_reloads_total')) === 1, 15_000);
    expect(await shown()).toMatch(/renewed$/);
    await agent(await tls()).register({ nodeId: 'n2' });
    stream.status('n1', { uptimeSeconds: 9 });
    await until('the old stream to be heard', async () => (await home.node('n1'))?.status?.uptime_seconds === 9);
    expect((await home.streaming('n1')).stream?.fence).toBe(before?.fence);
  }, 30_000);
});

describe('certificate files', () => {
  const logger = { info() {}, error() {} };
  const load = async () => {
    for (const part of ['pem', 'key']) await writeFile(file(`own.${part}`), await readFile(file(`server.${part}`)));
    const errors: unknown[] = [];
    const files = new CertificateFiles({
      ...{ cert: file('own.pem'), key: file('own.key'), clientCa: null, clock: new FakeClock() },
      logger: { ...logger, error: (...args: unknown[]) => void errors.push(args[0]) },
    });
    await files.start();
    const given: (string | undefined)[] = [];
    files.addIdentityCertificateListener((update) => given.push(update?.certificate.toString()));
    return { files, given, errors };
  };

  it('stay as they were while what lies there is half a renewal, and that is said once', async () => {
    const { files, given, errors } = await load();
    await writeFile(file('own.pem'), await readFile(file('renewed.pem')));
    await files.refresh();
    await files.refresh();
    expect(given).toHaveLength(1);
    expect(errors).toHaveLength(1);
    await writeFile(file('own.key'), await readFile(file('renewed.key')));
    await files.refresh();
    expect(given.at(-1)).toBe(await readFile(file('renewed.pem'), 'utf8'));
    files.stop();
  });

  it('are not told again when they have not changed', async () => {
    const { files, given } = await load();
    await files.refresh();
    expect(given).toHaveLength(1);
    files.stop();
  });

  it.each([
    ['nothing', () => '', /own\.ca.*got 0 bytes without any/],
    ['no certificate', () => 'not a certificate\n', /got 18 bytes without any/],
    ['half a certificate', (ca: string) => ca + ca.slice(0, ca.length / 2), /got one that is cut off/],
    ['a certificate that is none', (ca: string) => ca + ca.replaceAll('M', 'N'), /certificate 2 of 2 cannot be read/],
  ])('are not taken over with an authority of agents that is %s', async (_, textOf, why) => {
    const ca = await readFile(file('ca.pem'), 'utf8');
    const errors: { problem?: string }[] = [];
    const filesOf = () =>
      new CertificateFiles({
        ...{ cert: file('server.pem'), key: file('server.key'), clientCa: file('own.ca'), clock: new FakeClock() },
        logger: { ...logger, error: (about: unknown) => void errors.push(about as object) },
      });
    await writeFile(file('own.ca'), textOf(ca));
    await expect(filesOf().start()).rejects.toThrow(why);

    await writeFile(file('own.ca'), ca + (await readFile(file('other.pem'), 'utf8')));
    const files = filesOf();
    await files.start();
    const given: unknown[] = [];
    files.addCaCertificateListener((update) => given.push(update?.caCertificate));
    await writeFile(file('own.ca'), textOf(ca));
    await files.refresh();
    expect([given.length, errors]).toEqual([
      1,
      [{ cert: file('server.pem'), problem: expect.stringMatching(why) as string }],
    ]);
    files.stop();
  });

  it('that are missing at the start are named', async () => {
    const files = new CertificateFiles({
      ...{ cert: file('no.pem'), key: file('no.key'), clientCa: null, clock: new FakeClock(), logger },
    });
    await expect(files.start()).rejects.toThrow(/no\.pem.*cannot be used/);
  });
});

describe('anybody', () => {
  it('may ask whether it serves', async () => {
    const { address, monitor } = await home.monitor('m1');
    const { Health } = (
      loadPackageDefinition(loadSync(healthProto)) as unknown as {
        grpc: { health: { v1: { Health: new (...args: unknown[]) => Record<string, never> } } };
      }
    ).grpc.health.v1;
    const client = new Health(address, credentials.createInsecure()) as unknown as {
      check(
        request: { service: string },
        done: (error: Error | null, value: { status: number | string }) => void,
      ): void;
      watch(request: { service: string }): {
        on(event: 'data', take: (value: { status: number }) => void): void;
        cancel(): void;
      };
      close(): void;
    };
    const check = (service: string) => called<{ status: unknown }>((done) => client.check({ service }, done as never));
    expect(await check('')).toMatchObject({ status: 1 });
    expect(await check('ec2agent.v1.AgentControl')).toMatchObject({ status: 1 });
    const seen: number[] = [];
    const watch = client.watch({ service: 'ec2agent.v1.AgentControl' });
    watch.on('data', ({ status }) => seen.push(status));
    (watch as unknown as { on(event: 'error', take: () => void): void }).on('error', () => undefined);
    await until('its state', () => seen.length === 1);
    const stopping = monitor.stop();
    await until('it to serve no more', () => seen.at(-1) === 2);
    watch.cancel();
    client.close();
    await stopping;
  });

  it('may ask which services there are', async () => {
    const { address } = await home.monitor('m1');
    const proto = join(
      import.meta.dirname,
      '../../../node_modules/@grpc/reflection/build/proto/grpc/reflection/v1/reflection.proto',
    );
    const { ServerReflection } = (
      loadPackageDefinition(loadSync(proto, { keepCase: true })) as unknown as {
        grpc: { reflection: { v1: { ServerReflection: new (...args: unknown[]) => Record<string, never> } } };
      }
    ).grpc.reflection.v1;
    const client = new ServerReflection(address, credentials.createInsecure()) as unknown as {
      ServerReflectionInfo(): {
        write(request: unknown): void;
        on(event: 'data', take: (answer: Answer) => void): void;
        end(): void;
      };
      close(): void;
    };
    interface Answer {
      list_services_response?: { service: { name: string }[] };
      file_descriptor_response?: { file_descriptor_proto: Buffer[] };
    }
    const answers: Answer[] = [];
    const asking = client.ServerReflectionInfo();
    asking.on('data', (answer) => answers.push(answer));
    asking.write({ list_services: '' });
    asking.write({ file_containing_symbol: 'ec2agent.v1.AgentControl' });
    await until('both answers', () => answers.length === 2);
    expect(answers[0]?.list_services_response?.service.map(({ name }) => name)).toContain('ec2agent.v1.AgentControl');
    const files = answers[1]?.file_descriptor_response?.file_descriptor_proto ?? [];
    expect(Buffer.concat(files).includes('outage_grace_ms')).toBe(true);
    asking.end();
    client.close();
  });
});

describe('the flags', () => {
  const problem = (...argv: string[]): string => {
    const loaded = loadConfig({ program: 'p', summary: '', schema: monitorSchema, argv, env: {} });
    if (loaded.kind !== 'config') throw new Error('help');
    try {
      validateAgentsConfig(loaded.values);
      return '';
    } catch (error) {
      return (error as ConfigError).problems.map(({ message }) => message).join('\n');
    }
  };
  const TLS = ['--grpc-tls-cert', 'c', '--grpc-tls-key', 'k'];

  it.each([
    ['loopback, whatever is missing', []],
    ['another loopback address', ['-grpc-addr', '[::1]:50051']],
    ['nowhere', ['-grpc-addr', 'off']],
    ['nowhere, said by nothing', ['-grpc-addr=']],
    ['everywhere, in so many words', ['-grpc-addr', ':50051', '--grpc-insecure']],
    ['everywhere with certificates', ['-grpc-addr', ':50051', ...TLS, '--grpc-tls-client-ca', 'a']],
    ['everywhere with TLS and tokens', ['-grpc-addr', ':50051', ...TLS, '--agent-tokens-file', 't']],
    [
      'everywhere with tokens in plain text, in so many words',
      ['-grpc-addr', ':50051', '--agent-tokens-file', 't', '--grpc-insecure'],
    ],
    ['nowhere, however often agents would report', ['-grpc-addr', 'off', '--agent-status-interval', '1h']],
    ['loopback, with a stale timeout that is shorter than the usual interval', ['--stale-timeout', '10s']],
    ['loopback, with reports at the longest interval', ['--agent-status-interval', '1m']],
  ])('allow to listen on %s', (_, argv) => {
    expect(problem(...argv)).toBe('');
  });

  it.each([
    [
      'everywhere',
      ['-grpc-addr', ':50051'],
      /`-grpc-addr :50051` \(which means every address.*without TLS.*--grpc-insecure/,
    ],
    ['an address of the network', ['-grpc-addr', '10.0.0.1:1'], /`-grpc-addr 10\.0\.0\.1:1` can be reached/],
    ['everywhere with TLS alone', ['-grpc-addr', ':50051', ...TLS], /without a way to tell agents from others/],
    ['everywhere with tokens in plain text', ['-grpc-addr', ':50051', '--agent-tokens-file', 't'], /without TLS/],
    ['a certificate without its key', ['--grpc-tls-cert', 'c'], /not `--grpc-tls-key`: TLS needs both/],
    ['a key without its certificate', ['--grpc-tls-key', 'k'], /not `--grpc-tls-cert`: TLS needs both/],
    ['an authority without TLS', ['--grpc-tls-client-ca', 'a'], /served without TLS/],
    [
      'heartbeats further apart than half of what makes a node stale',
      ['--agent-heartbeat-interval', '61s'],
      /`--agent-heartbeat-interval` to be at most half of `--stale-timeout` \(2m\), got `1m1s`.*Set it to 1m or less/,
    ],
    [
      'statuses further apart than half of what makes a node stale',
      ['--agent-status-interval', '5s', '--stale-timeout', '9s'],
      /`--agent-status-interval` to be at most half .*\(9s\), got `5s`.*Set it to 4s500ms or less/,
    ],
    ['both safety and none', [...TLS, '--agent-tokens-file', 't', '--grpc-insecure'], /Keep one of them/],
  ])('refuse %s', (_, argv, why) => {
    expect(problem(...argv)).toMatch(why);
  });
});
