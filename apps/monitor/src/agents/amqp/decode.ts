/**
 * What a message of an agent says, as the registry has it, or what is wrong with it. Unknown fields are nothing to us; a
 * known one of another type than it has means that sender and receiver do not understand each other. Pure.
 */
import { printable } from '@carrierarr/platform';
import type { AmqpRegistration, NodeHeartbeat, NodeRegistration, NodeTypeName } from '@carrierarr/protocol';
import { amqpHeartbeatSchema, amqpRegistrationSchema, NODE_TYPES } from '@carrierarr/protocol';

/** Largest message that is looked into; those of agents have some hundred bytes. */
export const BODY_BYTES_MAX = 256 * 1024;
/** How much of a message that cannot be read is shown. */
const SHOWN_LENGTH_MAX = 200;

export type AgentMessage =
  | { kind: 'register'; node: string; registration: NodeRegistration }
  /** `saidMs`: by the agent's clock, if it said when. `start`: by which start of the agent, if it said that. */
  | { kind: 'deregister'; node: string; saidMs: number | undefined; start: number | undefined }
  | { kind: 'heartbeat'; node: string; heartbeat: NodeHeartbeat };

export type Decoded = AgentMessage | { kind: 'malformed'; problem: string };

/** Ids of EC2 instances, and ARNs of ECS tasks. Any other name may be a host name, and then says no instance. */
const INSTANCE_ID = /^(i-[0-9a-f]{8,17}|arn:[a-z-]+:ecs:[^\s]+)$/;

export function decodeRegistration(body: Uint8Array, nowMs: number): Decoded {
  const read = parse(body, amqpRegistrationSchema);
  if ('problem' in read) return { kind: 'malformed', problem: read.problem };
  const { action, node_id: node, node_type: type, nebula_ip, public_ip, region, az, capabilities } = read.value;
  const saidMs = timeOf(read.value.timestamp);
  const start = startOf(read.value.start_number);
  if (action === 'deregister') return { kind: 'deregister', node, saidMs, start };
  return {
    kind: 'register',
    node,
    registration: {
      type: nodeTypeOf(type),
      instance_id: INSTANCE_ID.test(node) ? node : '',
      ...{ nebula_ip, public_ip, region, az },
      labels: {},
      ...(capabilities && { capabilities: capabilitiesOf(capabilities) }),
      features: [],
      agent_version: '',
      registered_ms: nowMs,
      ...(saidMs !== undefined && { said_ms: saidMs }),
      ...(start !== undefined && { start_number: start }),
    },
  };
}

export function decodeHeartbeat(body: Uint8Array, nowMs: number): Decoded {
  const read = parse(body, amqpHeartbeatSchema);
  if ('problem' in read) return { kind: 'malformed', problem: read.problem };
  const { node_id: node, status, services, resources } = read.value;
  const saidMs = timeOf(read.value.timestamp);
  const start = startOf(read.value.start_number);
  return {
    kind: 'heartbeat',
    node,
    heartbeat: {
      status,
      services: services ?? {},
      ...(resources && {
        resources: {
          cpu_percent: resources.cpu_percent,
          memory_used_mb: resources.memory_used_mb,
          memory_total_mb: resources.memory_total_mb,
          // Not told over RabbitMQ.
          disk_used_mb: 0,
          disk_total_mb: 0,
        },
      }),
      gpus: (resources?.gpus ?? []).map((gpu) => ({
        index: gpu.index,
        name: gpu.name,
        memory_used_mb: gpu.memory_used,
        memory_total_mb: gpu.memory_total,
        utilization: gpu.utilization,
        temperature_c: gpu.temperature,
      })),
      models_loaded: resources?.models_loaded ?? [],
      received_ms: nowMs,
      ...(saidMs !== undefined && { said_ms: saidMs }),
      ...(start !== undefined && { start_number: start }),
    },
  };
}

/** `gpu-worker` is NODE_TYPE_GPU_WORKER. */
function nodeTypeOf(text: string): NodeTypeName {
  const name = `NODE_TYPE_${text.toUpperCase().replaceAll('-', '_')}`;
  return NODE_TYPES.find((type) => type === name) ?? 'NODE_TYPE_UNSPECIFIED';
}

type AmqpCapabilities = NonNullable<AmqpRegistration['capabilities']>;

function capabilitiesOf(said: AmqpCapabilities): NonNullable<NodeRegistration['capabilities']> {
  const { gpu, gpu_model, gpu_count, gpu_memory_mb, cpu_cores, memory_mb, disk_mb } = said;
  const gpus = gpu_count ?? (gpu === true ? 1 : 0);
  return {
    has_gpu: gpu ?? gpus > 0,
    gpu_model,
    gpu_count: gpus,
    gpu_memory_mb: gpu_memory_mb ?? 0,
    cpu_cores: cpu_cores ?? 0,
    memory_mb: memory_mb ?? 0,
    disk_mb: disk_mb ?? 0,
  };
}

/** RFC 3339, or seconds or milliseconds since 1970. Anything else says nothing. */
function timeOf(value: unknown): number | undefined {
  const ms =
    typeof value === 'string'
      ? Date.parse(value)
      : typeof value === 'number'
        ? value * (value < 1e11 ? 1_000 : 1)
        : NaN;
  return Number.isFinite(ms) && ms > 0 ? Math.round(ms) : undefined;
}

/** Anything but a whole number says nothing. */
function startOf(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : undefined;
}

/** Invalid UTF-8 is an error, and so is a byte order mark in front of JSON. */
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

interface Schema<T> {
  safeParse(
    value: unknown,
  ):
    | { success: true; data: T }
    | { success: false; error: { issues: readonly { path: readonly PropertyKey[]; message: string }[] } };
}

function parse<T>(body: Uint8Array, schema: Schema<T>): { value: T } | { problem: string } {
  if (body.length > BODY_BYTES_MAX) {
    return { problem: `Expected at most ${BODY_BYTES_MAX} bytes, got ${body.length}.` };
  }
  let text: string;
  let value: unknown;
  try {
    text = utf8.decode(body);
    value = JSON.parse(text);
  } catch {
    return { problem: `Expected JSON, got ${shown(Buffer.from(body).toString('latin1'))}` };
  }
  const result = schema.safeParse(value);
  if (result.success) return { value: result.data };
  const [issue] = result.error.issues;
  const where = issue === undefined || issue.path.length === 0 ? '' : `${shown(issue.path.join('.'))}: `;
  return { problem: `${where}${shown(issue?.message ?? '')}, got ${shown(text)}` };
}

function shown(text: string): string {
  const cut = text.length > SHOWN_LENGTH_MAX ? `${text.slice(0, SHOWN_LENGTH_MAX)}… (${text.length} characters)` : text;
  return printable(cut);
}
