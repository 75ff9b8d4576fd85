/**
 * `node test/bench/status.mjs`: how soon clients learn of a change of the status. Prints Markdown.
 *
 *   --workers N    default 10000
 *   --clients N    default 1000, that opted in to `workers`
 *   --changed N    workers that one poll shows changed; default 100
 *   --polls N      default 20
 *   --from-nothing each client begins with all workers; else one does, and the others go on from its point, as after the
 *                  restart of a gateway
 *
 * A gateway as it is shipped, in a process of its own; the polls are made up and published as a leading monitor does. The
 * time runs from when the poll is handed over for publication until a client has the whole message. All clients are in this
 * one process, so it parses a message once and then only sees that others got the same bytes.
 */
import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';
import { createRedis, redisSettings, waitForRedis } from '@carrierarr/platform';
import { Keys } from '@carrierarr/protocol';
import { defineScripts, Leadership, WorkerStatusStore } from '@carrierarr/store';
import { WebSocket } from 'ws';
import { rssKiB, startRedis } from './processes.mjs';

const { values: flags } = parseArgs({
  options: {
    workers: { type: 'string', default: '10000' },
    clients: { type: 'string', default: '1000' },
    changed: { type: 'string', default: '100' },
    polls: { type: 'string', default: '20' },
    'from-nothing': { type: 'boolean', default: false },
  },
});
const [workers, clients, changed, polls] = [flags.workers, flags.clients, flags.changed, flags.polls].map(Number);
const SOURCE = 'ec2/eu-central-1';
const PREFIX = 'bench';

const recordOf = (n, state) => ({
  ...{ id: `i-${String(n).padStart(17, '0')}`, name: `worker-${n}`, provider: 'ec2', state, target: `worker-${n}` },
  ...{ mapped_by: 'tag:carrierarr:target', source: SOURCE, instance_type: 'g5.xlarge', private_ip: '10.0.0.1' },
  tags: { 'carrierarr:managed': 'true', 'carrierarr:target': `worker-${n}`, fleet: 'bench' },
});

/** A gateway on a port of its own choice. */
async function startGateway(redisUrl) {
  const args = ['apps/cli/dist/main.js', 'gateway', '--addr', '127.0.0.1:0', '--redis-url', redisUrl];
  args.push('--redis-key-prefix', PREFIX, '--connections-per-address-max', '20000', '--log-format', 'json');
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let log = '';
  const port = await new Promise((resolve, reject) => {
    child.stdout.on('data', (chunk) => {
      log += String(chunk);
      const said = /"address":"127\.0\.0\.1:(\d+)"/.exec(log)?.[1];
      if (said !== undefined) resolve(said);
    });
    child.once('exit', (code) => reject(new Error(`The gateway ended with ${code}:\n${log}`)));
  });
  return { child, url: `ws://127.0.0.1:${port}/ws` };
}

/** The last frame, and what it says. */
let last = { frame: Buffer.alloc(0), messages: [] };
function messagesIn(frame) {
  if (!frame.equals(last.frame)) {
    const texts = frame.toString().split('\n');
    last = { frame, messages: texts.map((text) => JSON.parse(text)) };
  }
  return last.messages;
}

/** A client that begins with `known` and tells `onWorkers` of each `workers` message after its first. */
async function connect(url, known, onWorkers) {
  const socket = new WebSocket(url, ['carrierarr.v1'], { perMessageDeflate: false });
  let isFirst = true;
  const first = await new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.once('open', () => socket.send(JSON.stringify({ type: 'subscribe', workers: known })));
    socket.on('message', (data) => {
      for (const message of messagesIn(data)) {
        if (message.type !== 'workers') continue;
        if (!isFirst) onWorkers(message);
        isFirst = false;
        resolve({ point: { epoch: message.epoch, version: message.version }, bytes: data.length });
      }
    });
  });
  return { socket, ...first };
}

const percentile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];

const redis = await startRedis();
const settings = redisSettings({
  ...{ redisUrl: redis.url, redisMode: 'single', redisNodes: [], redisSentinelName: 'mymaster', redisUsername: null },
  ...{ redisPassword: null, redisSentinelPassword: null, redisTls: false, redisTlsCa: null, redisTlsCert: null },
  ...{ redisTlsKey: null, redisTlsServername: null, redisKeyPrefix: PREFIX },
});
const connection = createRedis(settings, { name: 'bench-status', role: 'commands' });
defineScripts(connection);
await waitForRedis(connection, { settings });
const keys = new Keys(PREFIX);
const leadership = new Leadership({ connection, keys });
const { fence } = await leadership.hold('bench');
const renewal = setInterval(() => void leadership.hold('bench'), 500);
const status = new WorkerStatusStore({ connection, keys });
const publish = (upserts) => {
  const polledAt = new Date().toISOString();
  const report = { source: SOURCE, ok: true, polled_at: polledAt, interval_ms: 30_000, calls: 10, workers };
  return status.publish(fence, { report, upserts, removed: [] });
};
await publish(Array.from({ length: workers }, (_, n) => recordOf(n, 'running')));
const gateway = await startGateway(redis.url);
const sockets = [];
try {
  /** @type {number[]} */
  const delaysMs = [];
  let missing = 0;
  let handedMs = 0;
  let told = () => {};
  const onWorkers = (message) => {
    if (message.workers.length === 0) return;
    if (message.workers.length !== changed)
      throw new Error(`Expected ${changed} workers, got ${message.workers.length}.`);
    delaysMs.push(performance.now() - handedMs);
    missing -= 1;
    if (missing === 0) told();
  };
  const beganMs = performance.now();
  const first = await connect(gateway.url, true, onWorkers);
  sockets.push(first.socket);
  const known = flags['from-nothing'] ? true : first.point;
  while (sockets.length < clients) {
    const length = Math.min(50, clients - sockets.length);
    const some = await Promise.all(Array.from({ length }, () => connect(gateway.url, known, onWorkers)));
    sockets.push(...some.map(({ socket }) => socket));
  }
  const connectedMs = performance.now() - beganMs;
  const lastMs = [];
  for (let poll = 0; poll < polls; poll++) {
    const upserts = Array.from({ length: changed }, (_, n) =>
      recordOf((poll * changed + n) % workers, `state-${poll}`),
    );
    missing = clients;
    const all = new Promise((resolve) => (told = resolve));
    handedMs = performance.now();
    await publish(upserts);
    await all;
    lastMs.push(performance.now() - handedMs);
  }
  delaysMs.sort((a, b) => a - b);
  lastMs.sort((a, b) => a - b);
  const ms = (value) => `${Math.round(value)} ms`;
  process.stdout.write(
    [
      `${clients} clients, ${workers} workers, ${changed} of them changed in each of ${polls} polls:`,
      '',
      '| from poll to client | p50 | p99 | most |',
      '| --- | --- | --- | --- |',
      `| each client | ${ms(percentile(delaysMs, 0.5))} | ${ms(percentile(delaysMs, 0.99))} | ${ms(delaysMs.at(-1))} |`,
      `| the last of all | ${ms(percentile(lastMs, 0.5))} | ${ms(percentile(lastMs, 0.99))} | ${ms(lastMs.at(-1))} |`,
      '',
      `All clients knew all workers (${(first.bytes / 1e6).toFixed(1)} MB) after ${(connectedMs / 1000).toFixed(1)} s.`,
      `The gateway held ${Math.round(rssKiB(gateway.child.pid) / 1024)} MiB (resident).`,
      '',
    ].join('\n'),
  );
} finally {
  clearInterval(renewal);
  for (const socket of sockets) socket.terminate();
  gateway.child.kill('SIGTERM');
  connection.disconnect();
  redis.child.process.kill('SIGTERM');
}
