/**
 * Pretend agents for outages, in a process of their own. Each has a connection of its own, registers, opens a
 * stream, sends a status and a heartbeat each interval, spread evenly, and carries out commands: `sleep N` takes N seconds,
 * anything else is answered at once. They speak as agents in use today do. A result that was not acknowledged is said again
 * over the next stream, but for each tenth agent, which forgets what it ran when its stream breaks.
 *
 * With `--rabbitmq-url` each fourth agent has RabbitMQ alone, and the one after it both.
 *
 *   node agents-load.mjs --addresses HOST:PORT[,HOST:PORT…] [--first N] [--count N] [--interval-ms N] [--rabbitmq-url URL]
 *
 * Writes JSON lines: `ready` when all streams are open, `counts` each second, `ran` for each command that it began.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { credentials } from '@grpc/grpc-js';
import { connect as connectAmqp } from 'amqplib';
import { AgentControl, registrationOf, statusOf } from './pretend-agent.mjs';

const { values: flags } = parseArgs({
  options: {
    addresses: { type: 'string', default: '' },
    first: { type: 'string', default: '0' },
    count: { type: 'string', default: '1' },
    'interval-ms': { type: 'string', default: '30000' },
    'rabbitmq-url': { type: 'string' },
  },
});
const targets = flags.addresses.split(',');
const [first, count, intervalMs] = [flags.first, flags.count, flags['interval-ms']].map(Number);
const rabbitMqUrl = flags['rabbitmq-url'];
/** Longest pause before a connection is begun anew, ms. */
const AGAIN_MS_MAX = 2_000;
const AMQP_CONNECT_MS = 10_000;
/** How long an agent that was connected waits for the answer of the next monitor. */
const AGAIN_REGISTER_MS = 5_000;

const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));

const counts = { open: 0, opened: 0, ended: 0, commands: 0, repeated: 0, statuses: 0, failed: 0, brokers: 0 };
const seen = new Set();
const again = () => sleep(Math.random() * AGAIN_MS_MAX);

/** What an agent says by gRPC. */
class Streaming {
  #client;
  #stream;
  #address = 0;
  /** Results without an acknowledgement, by command. */
  #results = new Map();

  constructor(n) {
    this.n = n;
    this.forgets = n % 10 === 9;
  }

  /** @param {boolean} registers agents in use today do not always register again */
  async connect(registers = true, registerMs = 20_000) {
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
      const request = registrationOf(this.n);
      await new Promise((done, reject) =>
        this.#client.Register(request, { deadline: Date.now() + registerMs }, (error) =>
          error ? reject(error) : done(),
        ),
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
      if (this.forgets) this.#results.clear();
      void again().then(() => this.#again());
    };
    stream.on('error', over);
    stream.on('end', over);
    stream.on('data', ({ command, ack }) => {
      if (ack) this.#results.delete(ack.message_id);
      if (command) void this.#run(command, stream);
    });
    counts.open++;
    counts.opened++;
    this.status();
    for (const result of this.#results.values()) stream.write({ command_result: result });
  }

  async #run({ command_id: id, args }, stream) {
    counts.commands++;
    if (seen.has(id)) counts.repeated++;
    seen.add(id);
    say({ event: 'ran', execution: id, node: `bench-${this.n}` });
    const seconds = /^sleep ([\d.]+)$/.exec(args?.cmd ?? '')?.[1];
    if (seconds !== undefined) await sleep(Number(seconds) * 1000);
    const result = { command_id: id, success: true, exit_code: 0, stdout: 'done\n' };
    if (this.forgets && stream !== this.#stream) return;
    this.#results.set(id, result);
    this.#stream?.write({ command_result: result });
  }

  async #again() {
    try {
      await this.connect(Math.random() < 0.5, AGAIN_REGISTER_MS);
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

/** What an agent says by RabbitMQ, where its name is its instance id. */
class Publishing {
  #channel;

  constructor(n) {
    this.name = `i-bench-${n}`;
  }

  async connect() {
    const model = await connectAmqp(rabbitMqUrl, { timeout: AMQP_CONNECT_MS });
    model.on('error', () => undefined);
    const channel = await model.createChannel();
    channel.on('error', () => undefined);
    // With the connection, or when the control plane has not made the exchanges yet.
    channel.on('close', () => {
      if (this.#channel === channel) counts.brokers--;
      this.#channel = undefined;
      model.close().catch(() => undefined);
      void again().then(() => this.#again());
    });
    this.#channel = channel;
    counts.brokers++;
    const registration = { action: 'register', node_type: 'gpu-worker', nebula_ip: '10.42.0.7', public_ip: '' };
    this.#publish('agents.registration', 'register', {
      ...registration,
      region: '',
      az: '',
      capabilities: { gpu: true },
    });
    this.beat();
  }

  async #again() {
    try {
      await this.connect();
    } catch {
      counts.failed++;
      await again();
      await this.#again();
    }
  }

  status() {}

  beat() {
    const resources = { memory_total_mb: 32000, memory_used_mb: 8000, cpu_percent: 5, gpus: [], models_loaded: [] };
    this.#publish('agents.heartbeat', '', { status: 'healthy', services: { ollama: true }, resources });
  }

  #publish(exchange, key, body) {
    const message = { node_id: this.name, ...body, timestamp: new Date().toISOString() };
    const options = { persistent: true, contentType: 'application/json' };
    this.#channel?.publish(exchange, key, Buffer.from(JSON.stringify(message)), options);
  }
}

function waysOf(n) {
  if (rabbitMqUrl === undefined || n % 4 > 1) return [new Streaming(n)];
  return n % 4 === 0 ? [new Publishing(n)] : [new Streaming(n), new Publishing(n)];
}

const ways = Array.from({ length: count }, (_, i) => waysOf(first + i)).flat();
for (let i = 0; i < ways.length; i += 50) {
  await Promise.all(ways.slice(i, i + 50).map((way) => way.connect()));
}
say({ event: 'ready', ...counts });
setInterval(() => say({ event: 'counts', ...counts }), 1000);
for (const [i, way] of ways.entries()) {
  setTimeout(
    () => {
      setInterval(() => way.status(), intervalMs);
      setTimeout(() => setInterval(() => way.beat(), intervalMs), intervalMs / 2);
    },
    (i / ways.length) * intervalMs,
  );
}
