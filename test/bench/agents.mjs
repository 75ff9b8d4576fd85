/**
 * `node test/bench/agents.mjs`: what agents cost a monitor. Prints Markdown.
 *
 *   --agents N      default 5000, each with a connection, a status and a heartbeat each 30 s
 *   --seconds N     how long it is watched once all are there; default 90
 *   --commands N    commands to one real agent, for the time to their first line; default 600, 0 for none
 *
 * Redis, one monitor that leads, a gateway and a runner, each a process of its own as they are shipped; the load is a process of its own,
 * too. CPU and memory are the monitor's, from the kernel.
 */
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Child, cpuSeconds, rssKiB, startRedis } from './processes.mjs';
import { openClient } from './ws-messages.mjs';

const { values: flags } = parseArgs({
  options: {
    agents: { type: 'string', default: '5000' },
    seconds: { type: 'string', default: '90' },
    commands: { type: 'string', default: '600' },
  },
});
const [agents, seconds, commands] = [flags.agents, flags.seconds, flags.commands].map(Number);
const MAIN = 'apps/cli/dist/main.js';
/** Of what does not belong to the control plane: else a collector has threads on all cores at once. */
const ONE_THREAD = ['--single-threaded-gc'];
const children = [];

/** Starts `carrierarr ARGS` and resolves once it has logged this message, with what it said there. */
const start = (args, message) => startProgram([MAIN, ...args], message);

async function startProgram(args, message) {
  const child = new Child(process.execPath, [...args, '--log-format', 'json']);
  children.push(child);
  for (;;) {
    const line = await child.next();
    if (line.msg === message) return { child, ...line };
  }
}

const stateDir = await mkdtemp(join(tmpdir(), 'carrierarr-bench-'));
const redis = await startRedis();
const base = ['--redis-url', redis.url];
const monitor = await start(
  [
    'monitor',
    ...base,
    '--ops-addr',
    '127.0.0.1:0',
    '--grpc-addr',
    '127.0.0.1:0',
    '--agent-streams-per-address-max',
    '100000',
    '--agent-calls-per-second',
    '100000',
  ],
  'agents are served',
);
const gateway = await start(
  ['gateway', ...base, '--addr', '127.0.0.1:0', '--commands-per-second', '1000'],
  'gateway listens',
);
await start(['runner', ...base, '--ops-addr', '127.0.0.1:0', '--without-script'], 'runner takes commands');

const began = performance.now();
const load = new Child(process.execPath, [
  ...ONE_THREAD,
  'test/bench/agents-frames.mjs',
  ...['--address', monitor.address, '--count', String(agents)],
]);
children.push(load);
await load.next('ready', 300_000);
const connectS = (performance.now() - began) / 1000;
// What was left over from connecting is no part of it.
await sleep(15_000);
const cpuBefore = cpuSeconds(monitor.child.pid);
const sinceMs = performance.now();
let rssMax = 0;
while (performance.now() - sinceMs < seconds * 1000) {
  await sleep(1000);
  rssMax = Math.max(rssMax, rssKiB(monitor.child.pid));
}
const cores = (cpuSeconds(monitor.child.pid) - cpuBefore) / ((performance.now() - sinceMs) / 1000);
let counts = await load.next('counts');
for (const until = performance.now() + 1500; performance.now() < until;) counts = await load.next('counts');

process.stdout.write(
  `| ${agents} agents, a status each 30 s, on one monitor | measured | goal |\n| --- | --- | --- |\n`,
);
const row = (...cells) => process.stdout.write(`| ${cells.join(' | ')} |\n`);
row('CPU of the monitor, cores', cores.toFixed(3), 'at most 0.5');
row('memory (RSS), at most', `${Math.round(rssMax / 1024)} MiB`, 'at most 512 MiB');
row('until all streams were open', `${connectS.toFixed(1)} s`, '');
row('streams that ended meanwhile', counts.ended, '');
row('nodes that were healthy then', await healthyNodes(), '');

if (commands > 0) await measureCommands();
for (const child of children.toReversed()) await child.stop();
await redis.child.stop();
await rm(stateDir, { recursive: true, force: true });
process.exit(0);

/** As the gateway tells them: had nothing arrived, there were none. */
async function healthyNodes() {
  const nodes = await (await fetch(`http://${gateway.address}/api/v1/nodes`)).json();
  return nodes.filter(({ liveness }) => liveness === 'healthy').length;
}

/** From a command's frame until its first line is there, less what the program itself takes. */
async function measureCommands() {
  // As its unit in deploy/agent/ has it.
  const agentFile = join(stateDir, 'carrierarr-agent.mjs');
  execFileSync(process.execPath, ['apps/agent/build-single.mjs', agentFile]);
  await startProgram(
    [
      ...['--max-semi-space-size=2', ...ONE_THREAD],
      agentFile,
      '-control-plane',
      monitor.address,
      '-health-port',
      '0',
      '--node-id',
      'real-1',
      '--allow-exec',
      'echo',
      '--state-dir',
      stateDir,
    ],
    'looked at the machine',
  );
  const node = 'real-1';
  // Until it is known as a node a command to it would be one for a control script.
  for (;;) {
    const answer = await fetch(`http://${gateway.address}/api/v1/nodes/${node}`);
    if (answer.ok && (await answer.json()).stream_active) break;
    await sleep(100);
  }
  const waiting = new Map();
  const socket = await openClient(gateway.address, (message) => {
    const first = message.data ?? message.lines?.[0];
    if (message.type === 'result' && message.exit_code !== 0)
      throw new Error(`Expected the command to succeed, got ${JSON.stringify(message)}`);
    if (message.type === 'result') waiting.get('result')?.();
    if (first !== undefined) waiting.get(first)?.();
  });
  // As the command line does: the list of all workers would be megabytes a second, read by this process.
  socket.send(JSON.stringify({ type: 'subscribe', target: node, status: false }));
  const starter = new Child(process.execPath, [...ONE_THREAD, 'test/bench/program-start.mjs']);
  children.push(starter);
  await starter.next('ready');
  const taken = [];
  const own = [];
  for (let i = 0; i < commands; i++) {
    const word = `word-${i}`;
    const line = new Promise((resolve) => waiting.set(word, () => resolve(performance.now())));
    const result = new Promise((resolve) => waiting.set('result', resolve));
    const sentMs = performance.now();
    socket.send(
      JSON.stringify({ type: 'command', target: node, command: 'exec', args: ['echo', word], id: `bench-${i}` }),
    );
    taken.push((await line) - sentMs);
    await result;
    waiting.delete(word);
    starter.write(word);
    own.push((await starter.next('started')).ms);
  }
  socket.terminate();
  const [firstMs] = taken;
  for (const list of [taken, own]) list.sort((a, b) => a - b);
  // The smallest that this share of all does not exceed.
  const at = (list, share) => list[Math.ceil(share * list.length) - 1];
  const ms = (value) => `${value.toFixed(1)} ms`;
  row('the first command to its first line', ms(firstMs), '');
  for (const [name, share, goal] of [
    ['median', 0.5, ''],
    ['p99', 0.99, 'at most 50 ms'],
  ]) {
    row(`command to first line, ${commands} commands, ${name}`, ms(at(taken, share)), '');
    row(`the program's own start, by itself in turn with them, ${name}`, ms(at(own, share)), '');
    row(`beyond that, ${name}`, ms(at(taken, share) - at(own, share)), goal);
  }
}
