/** How compose.yaml looks after its services: the very probes, against what answers, refuses, is not ready or says nothing. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { symlinkSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { agentSchema } from '@carrierarr/agent';
import { type Address, type ConfigSchema, loadConfig } from '@carrierarr/platform';
import { describe, expect, onTestFinished, test } from 'vitest';
import { gatewaySchema } from '../../apps/gateway/src/config.js';
import { monitorSchema } from '../../apps/monitor/src/monitor-config.js';
import { runnerSchema } from '../../apps/runner/src/config.js';
import { readRepository } from '../support/deploy-tools.js';
import { freePort, startRedis } from '../support/redis.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { compose, services } from './compose.js';

/** Within which compose.yaml wants an answer. */
const TIMEOUT_MS = 5_000;
const PROGRAMS = ['gateway', 'runner', 'monitor', 'agent'] as const;

/** The words of a service's probe, as the container gets them. */
function probeOf(name: string): string[] {
  const words = compose.services[name]?.healthcheck?.test.map((word) => word.replaceAll('$$', '$')) ?? [];
  return words[0] === 'CMD-SHELL' ? ['sh', '-c', ...words.slice(1)] : words.slice(1);
}
/** The port that the probe of one of our programs asks. */
const askedPort = (name: string) => Number(probeOf(name).at(-1));

const pathOf = (name: string): string =>
  execFileSync('/bin/sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim();

/** Whether the probe is content. Rejects if it is not through in time. It finds no programs but those in `path`. */
async function look([file = '', ...args]: readonly string[], path = '/nonexistent'): Promise<boolean> {
  const child = spawn(pathOf(file), args, {
    ...{ env: { PATH: path }, timeout: TIMEOUT_MS, killSignal: 'SIGKILL' },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (bytes) => (stderr += String(bytes)));
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  if (code === null) throw new Error(`${file} was not through within ${TIMEOUT_MS} ms: ${signal}`);
  // Such as of a program that is not there.
  if (code === 0 && stderr !== '') throw new Error(`${file} is content and complains: ${stderr}`);
  return code === 0;
}

/** Where it listens, until the test has ended. */
async function listening(server: Server): Promise<number> {
  const open = new Set<Socket>();
  server.on('connection', (socket: Socket) => open.add(socket.on('error', () => undefined)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.close();
    for (const socket of open) socket.destroy();
  });
  return (server.address() as AddressInfo).port;
}
/** Answers as our programs do, and says at which path it was asked. */
const answering = (status: number, asked: (path?: string) => void = () => undefined) =>
  listening(
    createHttpServer((request, response) => {
      asked(request.url);
      response.writeHead(status).end('{}\n');
    }),
  );
/** Takes connections and says nothing. */
const silent = () => listening(createServer());

test('who is looked after, within a time', () => {
  const looked = services.flatMap(([name, { healthcheck }]) => (healthcheck ? [[name, healthcheck.timeout]] : []));
  expect(looked).toEqual(
    ['redis', 'rabbitmq', 'gateway', 'runner', 'monitor', 'agent'].map((name) => [name, `${TIMEOUT_MS / 1_000}s`]),
  );
});

describe('the probes of programs', () => {
  /** What each of them says of who listens at this port. */
  const at = async (port: number) =>
    Promise.all(
      PROGRAMS.map(async (name) => [name, await look([...probeOf(name).slice(0, -1), String(port)])] as const),
    );
  const all = (isWell: boolean) => PROGRAMS.map((name) => [name, isWell]);

  test('are content with who is ready, and need bash alone', async () => {
    const asked: (string | undefined)[] = [];
    expect(await at(await answering(200, (path) => asked.push(path)))).toEqual(all(true));
    expect(asked).toEqual(PROGRAMS.map(() => '/ready'));
  });

  test('are not with who is not ready, nor where nobody is', async () => {
    expect(await at(await answering(503))).toEqual(all(false));
    expect(await at(await freePort())).toEqual(all(false));
  });

  test('do not wait for who says nothing', async () => {
    expect(await at(await silent())).toEqual(all(false));
  });
});

test('the probe of RabbitMQ is content where somebody listens, and needs bash alone', async () => {
  const at = (port: number) => look(probeOf('rabbitmq').map((word) => word.replace(/\b5672$/, String(port))));
  expect(await at(await silent())).toBe(true);
  expect(await at(await freePort())).toBe(false);
});

const hasCli = ['redis-cli', 'timeout'].every((name) => spawnSync(name, ['--version']).status === 0);
test.skipIf(!hasCli)('the probe of Redis wants an answer, of one that lets it in', async () => {
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  const bin = temporaryFolder('probe-');
  for (const name of ['grep', 'redis-cli', 'timeout']) symlinkSync(pathOf(name), join(bin, name));
  writeFileSync(join(bin, 'valkey-cli'), `#!/bin/sh\nexec redis-cli -p ${redis.port} "$@"\n`, { mode: 0o755 });
  const well = () => look(probeOf('redis'), bin);
  expect(await well()).toBe(true);

  redis.freeze();
  expect(await well()).toBe(false);
  redis.thaw();
  expect(await well()).toBe(true);

  // redis-cli succeeds whatever the answer is.
  await redis.client().config('SET', 'requirepass', 'secret');
  expect(await well()).toBe(false);
  await redis.kill();
  expect(await well()).toBe(false);
});

describe('ports', () => {
  /** What a program makes of the environment that its image and compose.yaml give it. */
  function configOf<S extends ConfigSchema>(program: string, schema: S) {
    const image = readRepository('Dockerfile')
      .split(/^FROM .+ AS /m)
      .find((part) => part.startsWith(`${program}\n`));
    const ofImage = [...(image ?? '').matchAll(/(?<=^ENV .*)\b(CARRIERARR_\w+)=(\S+)/gm)].map((match) => [
      match[1],
      match[2],
    ]);
    const set = Object.entries(compose.services[program]?.environment ?? {}).filter(([key]) => !key.endsWith('_FILE'));
    const env = { ...(Object.fromEntries(ofImage) as Record<string, string>), ...Object.fromEntries(set) };
    const loaded = loadConfig({ program, summary: '', schema, argv: [], env });
    if (loaded.kind !== 'config') throw new Error(`Expected a configuration of ${program}.`);
    return loaded.values;
  }
  const gateway = configOf('gateway', gatewaySchema);
  const monitor = configOf('monitor', monitorSchema);
  const portOf = ({ port }: Address) => port;

  test('that probes ask are those that programs open, to more than themselves', () => {
    const runner = configOf('runner', runnerSchema);
    const agent = configOf('agent', agentSchema);
    expect(PROGRAMS.map(askedPort)).toEqual([
      ...[gateway.addr, runner.opsAddr, monitor.opsAddr].map(portOf),
      agent.healthPort,
    ]);
  });

  test('to which the proxy, agents and programs go are those that are open', () => {
    const proxy = readRepository('deploy/compose/haproxy.cfg');
    expect(/server-template gateway \d+ gateway:(\d+)$/m.exec(proxy)?.[1]).toBe(String(gateway.addr.port));
    const bound = /^ +bind :(\d+)$/m.exec(proxy)?.[1];
    expect(compose.services['proxy']?.ports?.map((port) => port.split(':').at(-1))).toEqual([bound]);
    const agent = compose.services['agent']?.environment ?? {};
    expect(agent['CONTROL_PLANE_ADDR']).toBe(`monitor:${portOf(monitor.grpcAddr as Address)}`);
    expect(new URL(agent['RABBITMQ_URL'] ?? '').port).toBe('5672');
    expect(probeOf('rabbitmq').at(-1)).toMatch(/127\.0\.0\.1\/5672$/);
  });
});
