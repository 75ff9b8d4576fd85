/** Whole monitors in this process: who leads, what they say of themselves, and what becomes of a term. */
import { randomBytes } from 'node:crypto';
import { createLogger, createMetrics, loadConfig, Readiness, redisSettings } from '@carrierarr/platform';
import { createMonitor, monitorSchema } from '@carrierarr/monitor';
import { Keys } from '@carrierarr/protocol';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { fleetOf } from '../support/fleet.js';
import { startRedis, type TestRedis } from '../support/redis.js';
import { until } from '../support/until.js';

let redis: TestRedis;
const started: { stop(): Promise<void> }[] = [];
beforeAll(async () => {
  redis = await startRedis();
});
afterEach(async () => {
  for (const monitor of started.splice(0)) await monitor.stop();
});
afterAll(() => redis.stop());

async function start(prefix: string, name: string, flags: string[] = []) {
  const argv = ['--redis-url', redis.url, '--redis-key-prefix', prefix, '--monitor-id', name, '--poll', '1s'];
  argv.push('--grpc-addr', 'off', ...flags);
  const loaded = loadConfig({ program: 'monitor', summary: '', schema: monitorSchema, argv, env: {} });
  if (loaded.kind !== 'config') throw new Error('help');
  const metrics = createMetrics({ program: 'monitor', version: 'test', hasProcessMetrics: false });
  const readiness = new Readiness();
  const monitor = createMonitor({
    config: loaded.values,
    redisSettings: redisSettings(loaded.values),
    logger: createLogger({ program: 'monitor', level: process.env['TEST_LOG'] ?? 'silent' }),
    ...{ metrics, readiness },
  });
  await monitor.start();
  started.push(monitor);
  const detail = (check: string) => readiness.ready().checks[check]?.detail;
  return { monitor, metrics, readiness, detail };
}

const newPrefix = () => `t${randomBytes(4).toString('hex')}`;

it('a leader and a standby are both ready, and each says which it is', async () => {
  const prefix = newPrefix();
  const first = await start(prefix, 'first');
  await until('the first to lead', () => first.monitor.fence !== undefined);
  const second = await start(prefix, 'second');
  await until('the second to know', () => second.readiness.ready().ready);
  expect(first.readiness.ready()).toMatchObject({
    ready: true,
    checks: { redis: { ok: true }, sources: { ok: true } },
  });
  expect(first.detail('leader')).toBe('this monitor leads');
  expect(second.detail('leader')).toBe('first leads; this monitor stands by');
  expect(await first.metrics.metrics()).toContain('carrierarr_monitor_leader 1');
  expect(await second.metrics.metrics()).toContain('carrierarr_monitor_leader 0');

  await first.monitor.stop();
  await until('the second to lead', () => second.monitor.fence !== undefined);
  expect(second.detail('leader')).toBe('this monitor leads');
});

it('two monitors of one name are two, of which one leads', async () => {
  const prefix = newPrefix();
  const both = [await start(prefix, 'same'), await start(prefix, 'same')];
  await until('one to lead', () => both.some(({ monitor }) => monitor.fence !== undefined));
  await until('both to be ready', () => both.every(({ readiness }) => readiness.ready().ready));
  expect(both.filter(({ monitor }) => monitor.fence !== undefined)).toHaveLength(1);
});

it('a monitor that only watches asks scripts, and neither writes statuses nor gives commands', async () => {
  const prefix = newPrefix();
  const fleet = fleetOf(redis, prefix);
  await fleet.worker('w1');
  const { monitor } = await start(prefix, 'watcher', ['--reconcile=false']);
  await until('it to lead', () => monitor.fence !== undefined);
  const asked = await until('the script to be asked', async () => {
    const [id] = await redis.client().lrange(new Keys(prefix).queue('w1'), 0, 0);
    return id === undefined ? undefined : fleet.history.get(id);
  });
  expect(asked).toMatchObject({
    target: 'w1',
    command: 'status',
    subject: 'system:monitor',
    probe: true,
    gateway: 'watcher',
  });
  expect((await fleet.resources.get('Worker', 'w1'))?.status).toBeUndefined();
  expect(await fleet.executions()).toEqual([]);
});

it('metrics have the names that dashboards of controllers look for', async () => {
  const { metrics } = await start(newPrefix(), 'm');
  const text = await metrics.metrics();
  for (const name of [
    ...[
      'workqueue_depth',
      'workqueue_adds_total',
      'workqueue_queue_duration_seconds',
      'workqueue_work_duration_seconds',
    ],
    ...['workqueue_retries_total', 'workqueue_unfinished_work_seconds', 'workqueue_longest_running_processor_seconds'],
    ...['controller_runtime_reconcile_total', 'controller_runtime_reconcile_errors_total'],
    ...['controller_runtime_reconcile_time_seconds', 'controller_runtime_active_workers'],
    'controller_runtime_max_concurrent_reconciles',
  ])
    expect(text).toContain(`# TYPE ${name} `);
  expect(text).toContain('controller_runtime_reconcile_total{controller="worker",result="success"} 0');
});
