/**
 * `node test/bench/nodes.mjs`: what a look at nodes costs the process that looks, in CPU time, so that a busy machine matters
 * little. Prints Markdown.
 *
 *   --nodes N    default 5000
 */
import { parseArgs } from 'node:util';
import { Keys } from '@carrierarr/protocol';
import { defineScripts, NodeFollow, NodeLookup, NodeRegistry } from '@carrierarr/store';
import { Redis } from 'ioredis';
import { startRedis } from './processes.mjs';

const { values: flags } = parseArgs({ options: { nodes: { type: 'string', default: '5000' } } });
const count = Number(flags.nodes);
/** As many as say their status within half a second, when each does so each 30 s. */
const changes = Math.round(count / 60);
const ROUNDS = 10;
const LOOKUPS = 200;

const redis = await startRedis();
const writing = new Redis(redis.url);
const reading = new Redis(redis.url);
defineScripts(writing);
const keys = new Keys('bench');
const registry = new NodeRegistry({ connection: writing, keys });

const gpu = { index: 0, name: 'T4', memory_used_mb: 4000, memory_total_mb: 16000, utilization: 5, temperature_c: 61 };
const service = { state: 'SERVICE_STATE_RUNNING', message: 'ok', uptime_seconds: 60 };
const resources = { cpu_percent: 5, memory_used_mb: 8000, memory_total_mb: 32000, disk_used_mb: 1, disk_total_mb: 2 };
const statusAt = (n) => ({
  ...{ received_ms: Date.now(), health: 'HEALTH_STATE_HEALTHY', uptime_seconds: n, idle_seconds: 42, resources },
  ...{ gpus: [gpu], models: [{ name: 'llama3:8b', size_bytes: 4_700_000_000, currently_loaded: true }] },
  services: { nebula: service, k3s: service, ollama: service, liqo: service },
});
const registrationOf = (n) => ({
  ...{ type: 'NODE_TYPE_GPU_WORKER', instance_id: `i-bench-${n}`, nebula_ip: '10.42.0.7', public_ip: '' },
  ...{ region: '', az: '', labels: {}, capabilities: { has_gpu: true, gpu_count: 1 }, registered_ms: Date.now() },
});

const streams = [];
for (let i = 0; i < count; i += 100) {
  await Promise.all(
    Array.from({ length: Math.min(100, count - i) }, async (_, j) => {
      const name = `bench-${i + j}`;
      const { key } = await registry.register(name, registrationOf(i + j), 'grpc');
      streams[i + j] = await registry.openStream(name, key, 'm1');
      await registry.status(key, streams[i + j].fence, statusAt(i + j));
    }),
  );
}

/** CPU time of this process, ms. */
async function cpuMs(work) {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

const row = (...cells) => process.stdout.write(`| ${cells.join(' | ')} |\n`);
row(`${count} nodes`, 'CPU time of who looks');
row('---', '---');
const follow = new NodeFollow({ connection: reading, keys });
row('first look at all', `${(await cpuMs(() => follow.refresh())).toFixed(0)} ms`);
let total = 0;
for (let round = 0; round < ROUNDS; round += 1) {
  for (let i = 0; i < changes; i += 1) {
    const { key, fence } = streams[(round * changes + i) % count];
    await registry.status(key, fence, statusAt(round));
  }
  total += await cpuMs(() => follow.refresh());
}
row(`a further look, after ${changes} changes`, `${(total / ROUNDS).toFixed(1)} ms`);
if (follow.nodes.size !== count) throw new Error(`Expected ${count} nodes, got ${follow.nodes.size}.`);
const lookup = new NodeLookup({ connection: reading, keys });
const lookups = await cpuMs(async () => {
  for (let i = 0; i < LOOKUPS; i += 1) await lookup.find(`bench-${i % count}`);
});
row('one node by itself', `${(lookups / LOOKUPS).toFixed(1)} ms`);
for (const each of [writing, reading]) each.disconnect();
await redis.child.stop();
process.exit(0);
