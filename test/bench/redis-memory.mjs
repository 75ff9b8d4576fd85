/**
 * `node test/bench/redis-memory.mjs`: what executions and output take in Redis. Prints Markdown.
 *
 *   --executions N   short ones, of one line each, over 100 targets; default 2000
 *   --mebibytes N    output of one target, in lines of 100 bytes; default 64
 *
 * Redis with an append-only file, a gateway and a runner as they are shipped, with histories that hold all of it. Memory is `used_memory`
 * of Redis, before and after; what a rewrite of the append-only file takes beside that is its copy on write while output is written.
 */
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Redis } from 'ioredis';
import { Child, freePort, waitForPort } from './processes.mjs';
import { openClient } from './ws-messages.mjs';

const { values: flags } = parseArgs({
  options: {
    executions: { type: 'string', default: '2000' },
    mebibytes: { type: 'string', default: '64' },
  },
});
const [executions, mebibytes] = [flags.executions, flags.mebibytes].map(Number);
const TARGETS = 100;
const AT_ONCE = 16;
const LINE_BYTES = 100;
const MIB = 1024 * 1024;
const children = [];

async function start(args, message) {
  const child = new Child(process.execPath, ['apps/cli/dist/main.js', ...args, '--log-format', 'json']);
  children.push(child);
  for (;;) {
    const line = await child.next();
    if (line.msg === message) return line;
  }
}

const folder = await mkdtemp(join(tmpdir(), 'carrierarr-bench-'));
const script = join(folder, 'script.sh');
const line = 'x'.repeat(LINE_BYTES - 1);
await writeFile(script, `#!/bin/sh\nif [ "$1" = much ]; then yes ${line} | head -c "$2"; else echo done; fi\n`);
await chmod(script, 0o755);
const port = await freePort();
const server = new Child('redis-server', [
  ...['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'yes'],
  ...['--dir', folder, '--loglevel', 'warning'],
]);
await waitForPort(port);
const redisUrl = `redis://127.0.0.1:${port}`;
const admin = new Redis(redisUrl);
const history = ['--history-bytes', '1GiB', '--history-entries', '10000000'];
const gateway = await start(
  [
    'gateway',
    '--redis-url',
    redisUrl,
    '--addr',
    '127.0.0.1:0',
    '--commands-per-second',
    '1000',
    '--messages-per-second',
    '10000',
    ...history,
  ],
  'gateway listens',
);
await start(
  [
    ...['runner', '--redis-url', redisUrl, '--ops-addr', '127.0.0.1:0', '--script', script],
    ...[...history, '--history-total-bytes', '1GiB'],
  ],
  'runner takes commands',
);

const figure = async (section, name) => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(await admin.info(section))?.[1]);
/** What is there when no rewrite is under way. */
async function usedMemory() {
  while ((await figure('persistence', 'aof_rewrite_in_progress')) !== 0) await sleep(100);
  await sleep(2_000);
  return figure('memory', 'used_memory');
}

const waiting = new Map();
const socket = await openClient(gateway.address, (message) => {
  if (message.type === 'error') throw new Error(JSON.stringify(message));
  if (message.type === 'result') waiting.get(message.target)?.();
});
function run(target, command, ...args) {
  const result = new Promise((resolve) => waiting.set(target, resolve));
  socket.send(JSON.stringify({ type: 'subscribe', target, status: false }));
  socket.send(JSON.stringify({ type: 'command', target, command, args }));
  return result;
}

process.stdout.write('| Redis | measured |\n| --- | --- |\n');
const row = (...cells) => process.stdout.write(`| ${cells.join(' | ')} |\n`);

await Promise.all(Array.from({ length: TARGETS }, (_, i) => run(`target-${i}`, 'little')));
const before = await usedMemory();
let begun = 0;
const lane = async (first) => {
  for (let i = first; begun < executions; i += AT_ONCE) {
    begun += 1;
    await run(`target-${i % TARGETS}`, 'little');
  }
};
await Promise.all(Array.from({ length: AT_ONCE }, (_, i) => lane(i)));
const between = await usedMemory();
row('an execution of one line', `${Math.round((between - before) / executions)} bytes`);

await run('target-0', 'much', String(mebibytes * MIB));
const after = await usedMemory();
row('a byte of output', `${((after - between) / (mebibytes * MIB)).toFixed(2)} bytes`);

// As much again while the file is rewritten.
const rewrite = admin.bgrewriteaof();
await run('target-1', 'much', String(mebibytes * MIB));
await rewrite;
await usedMemory();
const cow = await figure('persistence', 'aof_last_cow_size');
row('what a rewrite of the append-only file copied, of all memory', `${((100 * cow) / after).toFixed(0)} %`);
socket.terminate();
admin.disconnect();
for (const child of children.toReversed()) await child.stop();
await server.stop();
await rm(folder, { recursive: true, force: true });
process.exit(0);
