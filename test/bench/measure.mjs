/**
 * One run of one scenario on one system: start the server, connect the clients, feed, mark, measure, drain.
 *
 * Only the span between two marks of the load client counts, after a warm-up, and CPU is read at the same
 * moments. What is missing is judged over the whole run, after everything had time to arrive.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { join } from 'node:path';
import { buildDir, Child, cpuSeconds, rssKiB } from './processes.mjs';
import { writeScript } from './systems.mjs';

const SETTLE_MS = 500;
const WARM_UP_SECONDS = 1.5;
const DRAIN_QUIET_MS = 3000;
const DRAIN_MAX_MS = 40_000;
// uws-tick reaches its best with this, at 20 ms of latency: 256 lines give 0.88 of it, 2,048 no more, 4,096 less.
const WINDOW_LINES_MAX = 512;
const LINE_BYTES = 48;
const STALLED_RECEIVE_BUFFER_BYTES = 128 * 1024; // so that the backlog is the server's and not the kernel's

/**
 * @typedef {Record<string, number>} Metrics by name, unit last:
 *   deliveredPerSecond (lines over all clients), cpuMicrosPerLine (server, per delivered line),
 *   redisCpuMicrosPerLine, latencyP50Ms, latencyP99Ms, latencyMaxMs, missingLines, missingPercent,
 *   duplicateLines, reorderedLines, closedConnections, serverCpuShare, redisCpuShare, feedCpuShare, loadCpuShare
 *   (1 = one core), rssMiB, rssGrowthMiB; stall: rssGrowthPerStalledMiB, rssDriftMiB, healthyP99Ratio,
 *   stalledMissingPercent; idle: rssPerConnectionKiB, connectCpuMicros, connectsPerSecond
 */

const round = (value, digits = 3) => Number(value.toFixed(digits));
const significant = (value) => Number(value.toPrecision(4));
const sum = (values) => values.reduce((total, value) => total + value, 0);

/** What a process costs between two readings. */
const reader = (pids, redisPid, feed) => () => ({
  atMs: performance.now(),
  server: sum(Object.values(pids).map(cpuSeconds)),
  redis: cpuSeconds(redisPid),
  feed: feed && feed.process.exitCode === null ? cpuSeconds(feed.pid) : Number.NaN,
  rssKiB: sum(Object.values(pids).map(rssKiB)),
});

const cpuMetrics = (from, to, lines, load) => {
  const seconds = (to.atMs - from.atMs) / 1000;
  return {
    cpuMicrosPerLine: significant(((to.server - from.server) * 1e6) / lines),
    redisCpuMicrosPerLine: significant(((to.redis - from.redis) * 1e6) / lines),
    serverCpuShare: round((to.server - from.server) / seconds, 2),
    redisCpuShare: round((to.redis - from.redis) / seconds, 2),
    feedCpuShare: round((to.feed - from.feed) / seconds, 2),
    loadCpuShare: round(load.cpuSeconds / load.seconds, 2),
  };
};

/** @param {import('./systems.mjs').System} system */
const startLoad = async (tools, system, port, scenario, extra = []) => {
  const targets = scenario.targets ?? 1;
  const hello = scenario.kind !== 'idle';
  const load = new Child(tools.load, [
    ...['--port', String(port), '--path', system.path, '--targets', String(targets)],
    ...['--connections', String(scenario.connections), '--check-every', String(scenario.checkEvery ?? 1)],
    ...(system.headers ?? []).flatMap((header) => ['--header', header]),
    ...(system.socketio ? ['--socketio'] : []),
    ...(scenario.lazy ? ['--lazy'] : []),
    ...(hello && system.subscribe && !scenario.everything ? ['--send', system.subscribe] : []),
    ...(hello && system.ping ? ['--ping', system.ping] : []),
    ...extra,
  ]);
  const ready = await load.next('ready');
  if (ready.ready !== scenario.connections)
    throw new Error(
      `${system.name}: expected ${scenario.connections} connections, got ${ready.ready} (${ready.refusedTotal} refused)`,
    );
  return { load, ready };
};

const ask = (load, word) => {
  load.write(word);
  return load.next(word);
};

/** Waits until nothing arrives any more, or all has. */
const drain = async (load, expectedLinesTotal, quietMs = DRAIN_QUIET_MS) => {
  const until = performance.now() + DRAIN_MAX_MS;
  let last = await ask(load, 'report');
  let movedMs = performance.now();
  while (last.linesTotal < expectedLinesTotal && performance.now() < until) {
    await sleep(100);
    const next = await ask(load, 'report');
    if (next.linesTotal !== last.linesTotal) movedMs = performance.now();
    else if (performance.now() - movedMs > quietMs) break;
    last = next;
  }
  return last;
};

const deliveryMetrics = (final, expectedLines, baseLinesTotal) => {
  const missing = expectedLines - (final.linesTotal - baseLinesTotal);
  return {
    missingLines: missing,
    missingPercent: round((missing / expectedLines) * 100, 2),
    duplicateLines: final.duplicateTotal,
    reorderedLines: final.reorderedTotal,
    closedConnections: final.closedTotal,
  };
};

/** Lines all clients together must get. @param {number[]} perTarget published */
const expectedLines = (scenario, perTarget) =>
  scenario.everything
    ? scenario.connections * sum(perTarget)
    : sum(Array.from({ length: scenario.connections }, (_, i) => perTarget[i % perTarget.length] ?? 0));

/** @param {import('./scenarios.mjs').Scenario} scenario */
const warmUpOf = (scenario) => scenario.warmUpSeconds ?? WARM_UP_SECONDS;

const startFeed = (tools, system, redis, scenario, progressFile, seconds) =>
  system.feed(tools.feed, {
    redisPort: redis.port,
    redisUrl: redis.url,
    targets: scenario.targets ?? 1,
    ...(scenario.linesPerSecond ? { linesPerSecond: scenario.linesPerSecond } : { windowLines: WINDOW_LINES_MAX }),
    progressFile,
    seconds,
    lineBytes: LINE_BYTES,
  });

const measureFlow = async ({ tools, redis, system, scenario, server, own }) => {
  const progressFile = join(buildDir, 'progress');
  const { load } = await startLoad(tools, system, server.port, scenario, ['--progress', progressFile]);
  own.push(load);
  await sleep(SETTLE_MS);
  const base = await ask(load, 'mark');
  const feed = startFeed(tools, system, redis, scenario, progressFile, warmUpOf(scenario) + scenario.seconds + 1);
  own.push(feed);
  const read = reader(server.pids, redis.child.pid, feed);
  const idle = read();
  await sleep(warmUpOf(scenario) * 1000);
  await ask(load, 'mark');
  const from = read();
  await sleep(scenario.seconds * 1000);
  const span = await ask(load, 'mark');
  const to = read();
  const fed = await feed.next(undefined, 30_000);
  const expected = expectedLines(scenario, fed.perTarget);
  const final = await drain(load, base.linesTotal + expected);
  return {
    deliveredPerSecond: span.linesPerSecond,
    ...cpuMetrics(from, to, span.lines, span),
    latencyP50Ms: span.healthyLatency.p50Ms,
    latencyP99Ms: span.healthyLatency.p99Ms,
    latencyMaxMs: span.healthyLatency.maxMs,
    ...deliveryMetrics(final, expected, base.linesTotal),
    linesPerFrame: round(span.lines / span.frames, 1),
    rssMiB: round(to.rssKiB / 1024, 1),
    rssGrowthMiB: round((to.rssKiB - idle.rssKiB) / 1024, 1),
  };
};

const measureStall = async ({ tools, redis, system, scenario, server, own }) => {
  const { load } = await startLoad(tools, system, server.port, scenario, [
    ...['--stalled', String(scenario.stalled), '--receive-buffer', String(STALLED_RECEIVE_BUFFER_BYTES)],
  ]);
  own.push(load);
  await sleep(SETTLE_MS);
  const base = await ask(load, 'mark');
  const beforeSeconds = 3;
  const afterSeconds = 4; // a lossy server shows its hole only by the lines behind it
  const feed = startFeed(
    tools,
    system,
    redis,
    scenario,
    '',
    warmUpOf(scenario) + beforeSeconds + scenario.seconds + afterSeconds,
  );
  own.push(feed);
  const read = reader(server.pids, redis.child.pid, feed);
  await sleep(warmUpOf(scenario) * 1000);
  await ask(load, 'mark');
  await sleep(beforeSeconds * 1000);
  const before = await ask(load, 'mark');
  await ask(load, 'stall');
  const from = read();
  const samples = [];
  const slices = 40;
  for (let i = 0; i < slices; i++) {
    const dueMs = from.atMs + ((i + 1) * scenario.seconds * 1000) / slices;
    await sleep(Math.max(0, dueMs - performance.now()));
    samples.push(read().rssKiB);
  }
  const during = await ask(load, 'mark');
  const to = read();
  await ask(load, 'resume');
  const fed = await feed.next(undefined, 30_000);
  const expected = expectedLines(scenario, fed.perTarget);
  const final = await drain(load, base.linesTotal + expected);
  const after = read();
  const stalledExpected = scenario.stalled * fed.published;
  const growthKiB = Math.max(...samples, after.rssKiB) - from.rssKiB;
  const mean = (values) => sum(values) / values.length;
  return {
    deliveredPerSecond: during.linesPerSecond,
    ...cpuMetrics(from, to, during.lines, during),
    latencyP50Ms: during.healthyLatency.p50Ms,
    latencyP99Ms: during.healthyLatency.p99Ms,
    latencyMaxMs: during.healthyLatency.maxMs,
    latencyP99BeforeMs: before.healthyLatency.p99Ms,
    healthyP99Ratio: round(during.healthyLatency.p99Ms / before.healthyLatency.p99Ms, 2),
    ...deliveryMetrics(final, expected, base.linesTotal),
    stalledMissingPercent: round((1 - (final.stalledLinesTotal - base.stalledLinesTotal) / stalledExpected) * 100, 2),
    rssGrowthMiB: round(growthKiB / 1024, 1),
    rssGrowthPerStalledMiB: round(growthKiB / 1024 / scenario.stalled, 2),
    // Flat over time: the last quarter of the stall against the second.
    rssDriftMiB: round((mean(samples.slice(-slices / 4)) - mean(samples.slice(slices / 4, slices / 2))) / 1024, 1),
  };
};

const measureIdle = async ({ tools, redis, system, scenario, server, own }) => {
  // The first connections pay for code that later ones share; few, because what they free is used again.
  const warm = await startLoad(tools, system, server.port, { ...scenario, connections: 200 });
  await warm.load.stop();
  await sleep(1500);
  const read = reader(server.pids, redis.child.pid);
  const from = read();
  const { load, ready } = await startLoad(tools, system, server.port, { ...scenario, checkEvery: 0 });
  own.push(load);
  const connected = read();
  await sleep(2000);
  const settled = read();
  return {
    connectsPerSecond: Math.round(scenario.connections / ready.connectSeconds),
    connectCpuMicros: round(((connected.server - from.server) * 1e6) / scenario.connections, 1),
    rssPerConnectionKiB: round((settled.rssKiB - from.rssKiB) / scenario.connections, 2),
    rssMiB: round(settled.rssKiB / 1024, 1),
    loadCpuShare: round(ready.cpuSeconds / ready.seconds, 2),
    closedConnections: (await ask(load, 'report')).closedTotal,
  };
};

const measurePipeline = async ({ tools, redis, system, scenario, server, own }) => {
  const read = reader(server.pids, redis.child.pid);
  const from = read();
  const { load, ready } = await startLoad(tools, system, server.port, scenario);
  own.push(load);
  const base = system.trigger ? await ask(load, 'mark') : { ...ready, linesTotal: 0 };
  if (system.trigger) load.write(`send ${system.trigger.replace('%LINES%', String(scenario.lines))}`);
  const final = await drain(load, base.linesTotal + scenario.lines, 5000);
  const to = read();
  return {
    deliveredPerSecond: Math.round(final.lines / final.activeSeconds),
    ...cpuMetrics(from, to, final.lines, final),
    // The load client's own share while lines came, not while it waited.
    loadCpuShare: round(final.cpuSeconds / final.activeSeconds, 2),
    // By the markers: a result or accepted message is no line of the script.
    missingLines: scenario.lines - final.checkedLinesTotal,
    duplicateLines: final.duplicateTotal,
    reorderedLines: final.reorderedTotal,
    latencyP50Ms: final.healthyLatency.p50Ms,
    latencyP99Ms: final.healthyLatency.p99Ms,
    linesPerFrame: round(final.lines / final.frames, 1),
    rssMiB: round(to.rssKiB / 1024, 1),
  };
};

const byKind = { flow: measureFlow, stall: measureStall, idle: measureIdle, pipeline: measurePipeline };

/**
 * @param {object} run
 * @param {{ load: string, feed: string }} run.tools binaries
 * @param {{ child: Child, port: number, url: string }} run.redis
 * @param {import('./systems.mjs').System} run.system
 * @param {import('./scenarios.mjs').Scenario} run.scenario
 * @returns {Promise<Metrics>}
 * @throws when a process fails; everything it started is stopped all the same
 */
export const measure = async ({ tools, redis, system, scenario }) => {
  /** @type {Child[]} */
  const own = [];
  const server = await system.start(
    {
      redisUrl: redis.url,
      targets: scenario.targets ?? 1,
      script: writeScript(tools.feed, LINE_BYTES),
      lines: scenario.lines ?? 0,
    },
    scenario.kind,
  );
  try {
    return await byKind[scenario.kind]({ tools, redis, system, scenario, server, own });
  } finally {
    for (const child of own) await child.stop();
    await server.stop();
  }
};
