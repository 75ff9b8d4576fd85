/**
 * An agent as it is in use today: it speaks what the frozen proto file and the RabbitMQ bodies say, and nothing else. None
 * of our code is in it, not even our stubs, so that a slip in them cannot hide behind itself.
 */
import { resolve } from 'node:path';
import { type ClientDuplexStream, credentials, loadPackageDefinition, type ServiceError } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { until } from './until.js';

const PROTO = resolve(import.meta.dirname, '../fixtures/agent-wire');
/** As agents in use today set it, but for the interval of pings, which is 30 s there. */
const CHANNEL_OPTIONS = { 'grpc.keepalive_permit_without_calls': 1 };
const CALL_MS = 10_000;

/** Proto messages as plain objects: snake_case, enums as names, 64 bit numbers as strings. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Plain = Record<string, any>;

type Unary = (
  request: Plain,
  options: { deadline: number },
  done: (error: ServiceError | null, answer: Plain) => void,
) => void;
interface AgentControlClient {
  Register: Unary;
  Heartbeat: Unary;
  GetFleetStatus: Unary;
  Connect(): ClientDuplexStream<Plain, Plain>;
  close(): void;
}

const definition = loadSync('ec2agent/v1/agent.proto', {
  ...{ includeDirs: [PROTO], keepCase: true, longs: String, enums: String, defaults: true, oneofs: true },
});
const { v1 } = loadPackageDefinition(definition)['ec2agent'] as unknown as {
  v1: { AgentControl: new (address: string, channel: unknown, options: object) => AgentControlClient };
};

export interface OldAgentOptions {
  /** `host:port` of a control plane. */
  address: string;
  hostName: string;
  instanceId?: string;
  nodeType?: string;
}

/** A command as an agent in use today reads it. */
export interface Command {
  command_id: string;
  type: string;
  args: Record<string, string>;
  timeout_seconds: number;
}

/** One connection of an agent: registration, heartbeats, and at most one stream. */
export class OldAgent {
  /** Every message of the control plane on any stream, in order. */
  readonly received: Plain[] = [];
  /** How each stream ended. */
  readonly ends: string[] = [];
  readonly #client: AgentControlClient;
  readonly #o: OldAgentOptions;
  #stream: ClientDuplexStream<Plain, Plain> | undefined;

  constructor(options: OldAgentOptions) {
    this.#o = options;
    this.#client = new v1.AgentControl(options.address, credentials.createInsecure(), CHANNEL_OPTIONS);
  }

  #call(method: 'Register' | 'Heartbeat' | 'GetFleetStatus', request: Plain): Promise<Plain> {
    return new Promise((done, reject) =>
      this.#client[method](request, { deadline: Date.now() + CALL_MS }, (error, answer) =>
        error === null ? done(answer) : reject(error),
      ),
    );
  }

  register(more: Plain = {}): Promise<Plain> {
    const { hostName, instanceId = '', nodeType = 'NODE_TYPE_GPU_WORKER' } = this.#o;
    return this.#call('Register', {
      ...{
        node_id: hostName,
        node_type: nodeType,
        instance_id: instanceId,
        nebula_ip: '10.42.0.7',
        public_ip: '203.0.113.7',
      },
      ...{ region: 'eu-central-1', availability_zone: 'eu-central-1a', labels: { rack: 'r1' } },
      capabilities: {
        ...{ has_gpu: true, gpu_model: 'T4', gpu_count: 2, gpu_memory_mb: 16000, cpu_cores: 8, memory_mb: 32000 },
        disk_mb: 100_000,
      },
      ...more,
    });
  }

  heartbeat(): Promise<Plain> {
    return this.#call('Heartbeat', { node_id: this.#o.hostName, timestamp: now() });
  }

  fleet(request: Plain = {}): Promise<Plain> {
    return this.#call('GetFleetStatus', request);
  }

  /** Opens a stream, whose first message is a status. */
  connect(): void {
    const stream = this.#client.Connect();
    this.#stream = stream;
    stream.on('data', (message: Plain) => this.received.push(message));
    stream.on('error', (error: ServiceError) => this.ends.push(error.message));
    stream.on('end', () => this.ends.push('end'));
    this.status();
  }

  status(more: Plain = {}): void {
    const running = { state: 'SERVICE_STATE_RUNNING', message: 'ok', uptime_seconds: '60' };
    this.#say({
      status: {
        ...{ node_id: this.#o.hostName, timestamp: now(), nebula: running, k3s: running, ollama: running },
        liqo: { state: 'SERVICE_STATE_NOT_INSTALLED' },
        resources: {
          ...{ cpu_percent: 12.5, memory_used_mb: '8000', memory_total_mb: '32000' },
          ...{ disk_used_mb: '50000', disk_total_mb: '100000' },
        },
        gpus: [0, 1].map((index) => ({
          ...{ index, name: 'T4', memory_used_mb: '4000', memory_total_mb: '16000', utilization_percent: 35.5 },
          temperature_c: 61,
        })),
        loaded_models: [{ name: 'llama3:8b', size_bytes: '4700000000', currently_loaded: true }],
        ...{ uptime_seconds: '3600', idle_seconds: '42', health: 'HEALTH_STATE_HEALTHY' },
        ...more,
      },
    });
  }

  log(message: string, level = 'LOG_LEVEL_WARN'): void {
    this.#say({ log: { timestamp: now(), level, message, source: 'agent', fields: { unit: 'ollama' } } });
  }

  result(commandId: string, more: Plain = {}): void {
    this.#say({
      command_result: {
        ...{ command_id: commandId, success: true, exit_code: 0, stdout: '', stderr: '', error: '', duration_ms: '5' },
        ...more,
      },
    });
  }

  #say(message: Plain): void {
    if (this.#stream === undefined) throw new Error('The agent has no stream.');
    this.#stream.write(message);
  }

  /** Commands received so far, on all streams. */
  commands(): Command[] {
    return this.received.flatMap((message) => (message['command'] == null ? [] : [message['command'] as Command]));
  }

  /** The `n`th command (from 0). */
  command(n = 0): Promise<Command> {
    return until(`command ${n} to reach ${this.#o.hostName}`, () => this.commands()[n]);
  }

  /** Ends the stream as an agent does that stops. */
  disconnect(): void {
    this.#stream?.end();
    this.#stream = undefined;
  }

  /** Breaks the stream off. */
  break(): void {
    this.#stream?.cancel();
    this.#stream = undefined;
  }

  /** Reads no more of its stream, which stays open. */
  stopReading(): void {
    this.#stream?.pause();
  }

  close(): void {
    this.#stream?.on('error', () => undefined);
    this.#stream?.cancel();
    this.#client.close();
  }
}

function now(): Plain {
  const ms = Date.now();
  return { seconds: String(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1_000_000 };
}
