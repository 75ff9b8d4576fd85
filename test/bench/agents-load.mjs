/**
 * Pretend agents for `agents.mjs`, in a process of their own: each has a connection of its own, registers, opens a stream,
 * sends a status and a heartbeat each interval, spread evenly, and carries out commands by answering them at once. Speaks JSON
 * lines: says `ready` when all streams are open, and `counts` each second.
 *
 *   node agents-load.mjs ADDRESS[,ADDRESS…] FIRST COUNT INTERVAL_MS
 */
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { credentials, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const [addresses = '', first = '0', count = '1', interval = '30000'] = process.argv.slice(2);
const targets = addresses.split(',');
const intervalMs = Number(interval);
const definition = loadSync('ec2agent/v1/agent.proto', {
  ...{ includeDirs: [resolve(import.meta.dirname, '../fixtures/agent-wire')], keepCase: true, longs: Number },
  ...{ enums: String, defaults: false, oneofs: true },
});
const { AgentControl } = /** @type {any} */ (loadPackageDefinition(definition)).ec2agent.v1;
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));

const counts = { open: 0, opened: 0, ended: 0, commands: 0, repeated: 0, statuses: 0, failed: 0 };
const seen = new Set();
const running = { state: 'SERVICE_STATE_RUNNING', message: 'ok', uptime_seconds: 60 };

function statusOf(n) {
  return {
    ...{ node_id: `bench-${n}`, nebula: running, k3s: running, ollama: running, liqo: running },
    resources: {
      cpu_percent: Math.random() * 100,
      memory_used_mb: 8000,
      memory_total_mb: 32000,
      disk_used_mb: 1,
      disk_total_mb: 2,
    },
    gpus: [
      { index: 0, name: 'T4', memory_used_mb: 4000, memory_total_mb: 16000, utilization_percent: 5, temperature_c: 61 },
    ],
    loaded_models: [{ name: 'llama3:8b', size_bytes: 4_700_000_000, currently_loaded: true }],
    ...{ uptime_seconds: Math.floor(performance.now() / 1000), idle_seconds: 42, health: 'HEALTH_STATE_HEALTHY' },
  };
}

class Agent {
  #client;
  #stream;
  #address = 0;

  constructor(n) {
    this.n = n;
  }

  /** @param {boolean} registers agents in use today do not always register again */
  async connect(registers) {
    const address = targets[(this.n + this.#address++) % targets.length];
    this.#client?.close();
    this.#client = new AgentControl(address, credentials.createInsecure(), {
      ...{
        'grpc.use_local_subchannel_pool': 1,
        'grpc.keepalive_time_ms': 30_000,
        'grpc.keepalive_permit_without_calls': 1,
      },
    });
    if (registers) {
      const request = {
        ...{ node_id: `bench-${this.n}`, instance_id: `i-bench-${this.n}`, node_type: 'NODE_TYPE_GPU_WORKER' },
        capabilities: { has_gpu: true, gpu_count: 1 },
      };
      await new Promise((done, reject) =>
        this.#client.Register(request, { deadline: Date.now() + 20_000 }, (error) => (error ? reject(error) : done())),
      );
    }
    const stream = this.#client.Connect();
    this.#stream = stream;
    let isOver = false;
    const over = () => {
      if (isOver) return;
      isOver = true;
      counts.open--;
      counts.ended++;
      void sleep(Math.random() * 2000).then(() => this.#again());
    };
    stream.on('error', over);
    stream.on('end', over);
    stream.on('data', ({ command }) => {
      if (!command) return;
      counts.commands++;
      if (seen.has(command.command_id)) counts.repeated++;
      seen.add(command.command_id);
      stream.write({
        command_result: { command_id: command.command_id, success: true, exit_code: 0, stdout: 'done\n' },
      });
    });
    counts.open++;
    counts.opened++;
    this.status();
  }

  async #again() {
    try {
      await this.connect(Math.random() < 0.5);
    } catch {
      counts.failed++;
      await sleep(500 + Math.random() * 1000);
      await this.#again();
    }
  }

  status() {
    counts.statuses++;
    this.#stream?.write({ status: statusOf(this.n) });
  }

  beat() {
    this.#client?.Heartbeat({ node_id: `bench-${this.n}` }, { deadline: Date.now() + 20_000 }, (error) => {
      if (error) counts.failed++;
    });
  }
}

const agents = Array.from({ length: Number(count) }, (_, i) => new Agent(Number(first) + i));
for (let i = 0; i < agents.length; i += 50) {
  await Promise.all(agents.slice(i, i + 50).map((agent) => agent.connect(true)));
}
say({ event: 'ready', ...counts });
setInterval(() => say({ event: 'counts', ...counts }), 1000);
for (const [i, agent] of agents.entries()) {
  setTimeout(
    () => {
      setInterval(() => agent.status(), intervalMs);
      setTimeout(() => setInterval(() => agent.beat(), intervalMs), intervalMs / 2);
    },
    (i / agents.length) * intervalMs,
  );
}
