/**
 * `node test/bench/reconcile.mjs`: how fast a leading monitor goes over a fleet. Prints Markdown.
 *
 *   --workers N    default 10000
 *   --drifts N     single workers that stop, one poll after the other; default 200
 *   --burst N      workers that one poll shows stopped; default 500
 *
 * A term as a monitor has it (plans, work queue, writes with fences), in a process of its own, over a real Redis. Polls are
 * made up: what clouds answer is another matter. No runner is there, so what is given stays in the queue.
 */
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import {
  createLogger,
  createMetrics,
  createRedis,
  redisSettings,
  systemClock,
  waitForRedis,
} from '@carrierarr/platform';
import { Keys, manifestSchema } from '@carrierarr/protocol';
import {
  CommandStore,
  createResource,
  defineScripts,
  DrainQueue,
  ExecutionHistory,
  Leadership,
  NodeFollow,
  NodeRegistry,
  OrphanStore,
  ResourceEvents,
  ResourceFollow,
  ResourceStore,
  WorkerStatusStore,
} from '@carrierarr/store';
import { createNodesMetrics } from '../../apps/monitor/dist/agents/nodes/metrics.js';
import { Fleet } from '../../apps/monitor/dist/reconciler/fleet.js';
import { createQueueMetrics, createReconcileMetrics } from '../../apps/monitor/dist/reconciler/metrics.js';
import { Others } from '../../apps/monitor/dist/reconciler/others.js';
import { Leading } from '../../apps/monitor/dist/term.js';
import { rssKiB, startRedis } from './processes.mjs';

const { values: flags } = parseArgs({
  options: {
    workers: { type: 'string', default: '10000' },
    drifts: { type: 'string', default: '200' },
    burst: { type: 'string', default: '500' },
    redis: { type: 'string' },
  },
});
const [workers, drifts, burst] = [flags.workers, flags.drifts, flags.burst].map(Number);
const SOURCE = 'ec2/eu-central-1';
const MiB = 1024 * 1024;

const nameOf = (n) => `worker-${String(n).padStart(5, '0')}`;
const recordOf = (n, state = 'running') => ({
  ...{ id: `i-${String(n).padStart(17, '0')}`, name: nameOf(n), provider: 'ec2', state, target: nameOf(n) },
  ...{ mapped_by: 'tag:carrierarr:target', source: SOURCE, instance_type: 'g5.xlarge', private_ip: '10.0.0.1' },
  launch_time: '2025-01-01T00:00:00.000Z',
  tags: { 'carrierarr:managed': 'true', 'carrierarr:target': nameOf(n), Name: nameOf(n), fleet: 'bench', team: 'llm' },
});
const settingsOf = (url) =>
  redisSettings({
    ...{ redisUrl: url, redisMode: 'single', redisNodes: [], redisSentinelName: 'mymaster', redisUsername: null },
    ...{ redisPassword: null, redisSentinelPassword: null, redisTls: false, redisTlsCa: null, redisTlsCert: null },
    ...{ redisTlsKey: null, redisTlsServername: null, redisKeyPrefix: 'bench' },
  });
/** The fleet: resources that nobody has looked at yet. */
async function seed(url) {
  const settings = settingsOf(url);
  const connection = createRedis(settings, { name: 'bench-seed', role: 'commands' });
  defineScripts(connection);
  await waitForRedis(connection, { settings });
  const resources = new ResourceStore({ connection, keys: new Keys('bench') });
  const nowIso = new Date().toISOString();
  for (let n = 0; n < workers; n++) {
    const manifest = manifestSchema.parse({
      ...{ apiVersion: 'carrierarr.io/v1', kind: 'Worker' },
      metadata: { name: nameOf(n), labels: { fleet: 'bench' } },
      spec: { desired: 'running' },
    });
    await resources.put(createResource(manifest, { uid: `uid-${n}`, nowIso }), '0');
  }
  connection.disconnect();
}

/** Redis and the fleet are the parent's affair, the monitor the child's, so that its memory is its own. */
if (flags.redis === undefined) {
  const redis = await startRedis();
  await seed(redis.url);
  const argv = [...process.execArgv, import.meta.filename, ...process.argv.slice(2), '--redis', redis.url];
  const { status } = spawnSync(process.execPath, argv, { stdio: 'inherit' });
  await redis.child.stop();
  process.exit(status ?? 1);
}

const settings = settingsOf(flags.redis);
const [connection, subscriber, lease] = ['commands', 'subscriber', 'commands'].map((role) =>
  createRedis(settings, { name: `bench-${role}`, role }),
);
for (const each of [connection, lease]) defineScripts(each);
await Promise.all([connection, subscriber, lease].map((each) => waitForRedis(each, { settings })));
const keys = new Keys('bench');
const resources = new ResourceStore({ connection, keys });

const numbers = Array.from({ length: workers }, (_, n) => n);

// --- a term ------------------------------------------------------------------------------------------------------------

const history = new ExecutionHistory(connection, keys);
const commands = new CommandStore({
  ...{ connection, keys, queueLengthMax: 100, pendingTargetsMax: 1_000_000, idempotencyMs: 86_400_000 },
  history: { entriesMax: 1_000, bytesMax: MiB, ageMaxMs: 3_600_000, executionsMs: 3_600_000 },
});
const submittedMs = new Map();
const timed = {
  async submit(submission) {
    const answer = await commands.submit(submission);
    submittedMs.set(submission.target, performance.now());
    return answer;
  },
};
const status = new WorkerStatusStore({ connection, keys });
const orphans = new OrphanStore({ connection, keys });
const leadership = new Leadership({ connection: lease, keys });
const logger = createLogger({ program: 'bench', level: 'warn', format: 'json' });
const registry = createMetrics({ program: 'bench', version: 'bench', hasProcessMetrics: false });
const metrics = {
  queue: createQueueMetrics(registry, 'bench', () => performance.now()),
  reconcile: createReconcileMetrics(registry, 16),
};
const nodes = new NodeRegistry({ connection, keys });
const nodesMetrics = createNodesMetrics(registry);
const follow = new ResourceFollow({ subscriber, keys, store: resources, clock: systemClock, onError: console.error });
const fleet = new Fleet(follow);
const listBegan = performance.now();
await follow.start();
const listMs = performance.now() - listBegan;

const looks = async () => {
  const { values } = await registry.getSingleMetric('controller_runtime_reconcile_total').get();
  return values.reduce((sum, { labels, value }) => sum + (labels.controller === 'worker' ? value : 0), 0);
};
const until = async (what, reached, timeoutMs = 300_000) => {
  const end = performance.now() + timeoutMs;
  while (!(await reached())) {
    if (performance.now() > end) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
};
const ok = () => ({
  ...{ source: SOURCE, ok: true, polled_at: new Date().toISOString(), interval_ms: 30_000, calls: 10, workers },
});

/** Leads until `end` is called. */
async function lead() {
  const hold = await leadership.hold(`bench-${performance.now()}`);
  if (!hold.leads) throw new Error('another leads');
  await leadership.raise(hold.fence);
  const controller = new AbortController();
  const term = { fence: hold.fence, signal: controller.signal, deposed: (error) => controller.abort(error) };
  const leading = new Leading(
    {
      ...{ fleet, status, orphans, logger, metrics, monitor: 'bench', clock: systemClock, onReport() {} },
      observer: { start: async () => {}, stop: async () => {}, nudge() {}, expectChange() {}, sources: [SOURCE] },
      others: new Others({ connection, keys }),
      nodes: {
        ...{ connection, keys, registry: nodes, follow: new NodeFollow({ connection, keys }), isEndingDead: false },
        ...{ limits: { staleMs: 120_000, deadMs: 300_000 }, metrics: nodesMetrics },
      },
      stores: {
        ...{ resources, commands: timed, drain: new DrainQueue(connection, keys), store: commands, history },
        events: new ResourceEvents({ connection, keys }),
      },
      ...{ isReconciling: true, isCollectingOrphans: false, concurrency: 16, resyncMs: 300_000 },
    },
    term,
  );
  const ended = leading.run();
  return {
    leading,
    async end() {
      controller.abort(new Error('the term is over'));
      await ended;
      await connection.del(keys.leader());
    },
  };
}
// The lease is held by hand: nobody else wants it.
const holding = setInterval(() => void connection.hset(keys.leader(), 'until', Date.now() + 60_000), 500);

// First what nobody has seen: every status is written.
let term = await lead();
const firstBegan = performance.now();
await term.leading.publish(ok(), { upserts: numbers.map((n) => recordOf(n)), removed: [] });
const isReady = (worker) => worker.status?.phase === 'Running';
await until('all workers to be ready', () => [...fleet.workers()].every(isReady));
const firstMs = performance.now() - firstBegan;
await term.end();

// Then what is as it was.
const resyncs = [];
for (let round = 0; round < 5; round++) {
  const before = await looks();
  const began = performance.now();
  term = await lead();
  await until('all workers to be looked at', async () => (await looks()) - before >= workers);
  resyncs.push(performance.now() - began);
  if (round < 4) await term.end();
}
await term.leading.publish(ok(), { upserts: [], removed: [] });
const rssMiB = rssKiB(process.pid) / 1024;
resyncs.sort((a, b) => a - b);
// Without what a term costs to begin: the same keys again.
const rates = [];
for (let round = 0; round < 5; round++) {
  const before = await looks();
  const began = performance.now();
  // A source that stops answering and then answers again has everything looked at.
  await term.leading.publish({ ...ok(), ok: round % 2 === 1 }, { upserts: [], removed: [] });
  await until('all workers to be looked at', async () => (await looks()) - before >= workers);
  rates.push(((await looks()) - before) / ((performance.now() - began) / 1000));
}
rates.sort((a, b) => a - b);
await term.leading.publish(ok(), { upserts: [], removed: [] });
const idle = await looks();
await until('rest', async () => (await looks()) >= idle);

// And what changes: a poll that shows a worker stopped, until its start is in the queue.
const measureDrift = async (some) => {
  submittedMs.clear();
  const began = performance.now();
  await term.leading.publish(ok(), { upserts: some.map((n) => recordOf(n, 'stopped')), removed: [] });
  await until('the starts', () => some.every((n) => submittedMs.has(nameOf(n))), 60_000);
  return some.map((n) => submittedMs.get(nameOf(n)) - began);
};
const single = [];
for (let n = 0; n < drifts; n++) single.push(...(await measureDrift([n])));
const many = await measureDrift(numbers.slice(drifts, drifts + burst));
const quantile = (values, q) =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(q * values.length))];
const ms = (value) => `${value.toFixed(value < 10 ? 1 : 0)} ms`;
const rows = [
  ['resync of an unchanged fleet, a new term (median of 5)', ms(resyncs[2]), 'at most 10 s', resyncs[2] <= 10_000],
  ['memory (RSS) after these resyncs', `${rssMiB.toFixed(0)} MiB`, 'at most 307 MiB', rssMiB <= 307.2],
  ['looks that change nothing, a second (median of 5)', rates[2].toFixed(0), 'at least 5000', rates[2] >= 5_000],
  ['drift seen by a poll until the command is in the queue: p50', ms(quantile(single, 0.5)), '', true],
  ['the same: p99', ms(quantile(single, 0.99)), 'at most 1 s', quantile(single, 0.99) <= 1_000],
  [`the same, ${burst} in one poll: p99`, ms(quantile(many, 0.99)), '', true],
  ['first look at a fleet nobody has seen, each status written', ms(firstMs), '', true],
  ['listing all resources', ms(listMs), '', true],
];
console.log(`| ${workers} workers | measured | goal | |\n| --- | --- | --- | --- |`);
for (const [what, value, goal, met] of rows)
  console.log(`| ${what} | ${value} | ${goal} | ${goal === '' ? '' : met ? 'met' : 'MISSED'} |`);
clearInterval(holding);
await term.end();
follow.stop();
for (const each of [connection, subscriber, lease]) each.disconnect();
process.exitCode = rows.every(([, , , met]) => met) ? 0 : 1;
