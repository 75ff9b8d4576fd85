/** `carrierarr get observed -w` at real gateways on one Redis, which it changes as a load balancer would have it. */
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import { createGateway, gatewaySchema } from '@carrierarr/gateway';
import { createLogger, createMetrics, loadConfig, Readiness, redisSettings, systemClock } from '@carrierarr/platform';
import { Keys } from '@carrierarr/protocol';
import { defineScripts } from '@carrierarr/store';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { TestMonitor, workerRecord } from '../gateway/status/monitor.js';
import { startRedis, type TestRedis } from '../support/redis.js';
import { FakeHost } from './fake-host.js';

let redis: TestRedis;
let monitor: TestMonitor;
/** Leads to whichever gateway is behind it. */
let front: Server;
let behind: number;
const through = new Set<Socket>();
const cleanups: (() => unknown)[] = [];

beforeEach(async () => {
  redis = await startRedis();
  const connection = redis.client();
  defineScripts(connection);
  monitor = new TestMonitor(connection, new Keys('carrierarr'));
  front = createServer((socket) => {
    const next = connect(behind, '127.0.0.1');
    for (const [one, other] of [
      [socket, next],
      [next, socket],
    ] as const) {
      through.add(one);
      one.pipe(other);
      one.on('error', () => other.destroy());
      one.on('close', () => through.delete(one) && other.destroy());
    }
  });
  await new Promise<void>((resolve) => void front.listen(0, '127.0.0.1', resolve));
});
afterEach(async () => {
  for (const socket of through) socket.destroy();
  await new Promise((resolve) => front.close(resolve));
  for (const cleanup of cleanups.splice(0)) await cleanup();
  await redis.stop();
});

/** The port of a new gateway. */
async function gateway(): Promise<number> {
  const argv = ['-addr', '127.0.0.1:0', '--redis-url', redis.url, '--drain-delay', '0s', '--drain-spread', '0s'];
  const loaded = loadConfig({ program: 'carrierarr gateway', summary: '', schema: gatewaySchema, argv, env: {} });
  if (loaded.kind !== 'config') throw new Error(loaded.kind);
  const started = createGateway({
    config: loaded.values,
    redisSettings: redisSettings(loaded.values),
    logger: createLogger({ program: 'test', level: 'silent', format: 'json' }),
    metrics: createMetrics({ program: 'test', version: '0', hasProcessMetrics: false }),
    ...{ readiness: new Readiness(), clock: systemClock },
  });
  await started.start();
  cleanups.push(() => started.stop());
  return started.address.port;
}

function watch(...argv: string[]) {
  const host = new FakeHost({ CARRIERARR_URL: `http://127.0.0.1:${(front.address() as AddressInfo).port}` });
  const exitCode = host.run('get', 'observed', '-w', ...argv);
  return {
    host,
    rows: () =>
      host.stdout.text.split('\n').map((line) =>
        line
          .split(/\s{2,}/)
          .slice(0, 4)
          .join(' '),
      ),
    end: async () => {
      host.signal('SIGINT');
      expect(await exitCode).toBe(130);
    },
  };
}

it('shows all workers and then each change, over a change of the gateway, and nothing that only time changes', async () => {
  behind = await gateway();
  const next = await gateway();
  await monitor.publish({ upserts: [workerRecord('i-1'), workerRecord('i-2', { state: 'stopped' })] });
  const { host, rows, end } = watch();
  const all = ['TARGET ID PROVIDER STATE', 'i-1 i-1 ec2 running', 'i-2 i-2 ec2 stopped', ''];
  await vi.waitFor(() => expect(rows()).toEqual(all));
  await monitor.publish({ upserts: [workerRecord('i-2', { state: 'pending' })] });
  const started = [...all.slice(0, -1), 'i-2 i-2 ec2 pending', ''];
  await vi.waitFor(() => expect(rows()).toEqual(started));

  behind = next;
  for (const socket of through) socket.destroy();
  await monitor.publish({
    upserts: [workerRecord('i-1', { tags: { a: 'b' } }), workerRecord('i-3')],
    removed: ['i-2'],
  });
  const changed = [...started.slice(0, -1), 'i-2 i-2 ec2 forgotten', 'i-3 i-3 ec2 running', ''];
  await vi.waitFor(() => expect(rows()).toEqual(changed), { timeout: 15_000 });
  expect(host.stderr.text).toMatch(/Connecting again/);
  await end();
});

it('hands programs each change as a document, of the workers that were named only', async () => {
  behind = await gateway();
  await monitor.publish({ upserts: [workerRecord('i-1', { target: 'gpu' }), workerRecord('i-2')] });
  const { host, end } = watch('gpu', '-o', 'json', '--output-watch-events');
  const documents = () =>
    host.stdout.text
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as { type: string; object: { id: string; state: string } });
  await vi.waitFor(() => expect(documents()).toHaveLength(1));
  await monitor.publish({ upserts: [workerRecord('i-2', { state: 'stopped' })] });
  await monitor.publish({ upserts: [workerRecord('i-1', { target: 'gpu', state: 'stopped' })] });
  await vi.waitFor(() => expect(documents()).toHaveLength(2));
  await monitor.publish({ removed: ['i-1'] });
  await vi.waitFor(() =>
    expect(documents().map(({ type, object }) => `${type} ${object.id} ${object.state}`)).toEqual([
      'ADDED i-1 running',
      'MODIFIED i-1 stopped',
      'DELETED i-1 stopped',
    ]),
  );
  await end();
});

it('waits for the first worker where there is none yet, and ends when nothing listens there', async () => {
  behind = await gateway();
  const { rows, end } = watch('-o', 'name');
  await vi.waitFor(() => expect(through.size).toBeGreaterThan(0));
  await monitor.publish({ upserts: [workerRecord('i-1')] });
  await vi.waitFor(() => expect(rows()).toEqual(['i-1', '']), { timeout: 5_000 });
  await end();
  const port = behind;
  for (const cleanup of cleanups.splice(0)) await cleanup();
  const host = new FakeHost({ CARRIERARR_URL: `http://127.0.0.1:${port}` });
  expect(await host.run('get', 'observed', '-w')).toBe(125);
});
