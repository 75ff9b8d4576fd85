/**
 * What is known of a node: a machine on which an agent runs.
 *
 * One machine may go by two names: agents call themselves by their host name over gRPC and by their instance id over
 * RabbitMQ. A node's *key* is its instance id, or its host name while no instance id is known; every name it has been
 * called by leads to the key. Its *name* is what people see: the host name, unless another living node has it already.
 */
import { z } from 'zod';
import { FIGURES } from './figures.js';

export const NODE_TYPES = [
  'NODE_TYPE_UNSPECIFIED',
  'NODE_TYPE_LIGHTHOUSE',
  'NODE_TYPE_GPU_WORKER',
  'NODE_TYPE_CPU_WORKER',
] as const;
export type NodeTypeName = (typeof NODE_TYPES)[number];

export const HEALTH_STATES = [
  'HEALTH_STATE_UNSPECIFIED',
  'HEALTH_STATE_HEALTHY',
  'HEALTH_STATE_DEGRADED',
  'HEALTH_STATE_UNHEALTHY',
] as const;
export type HealthStateName = (typeof HEALTH_STATES)[number];

/** Ways in which an agent is heard. */
export const NODE_CHANNELS = ['grpc', 'amqp'] as const;
export type NodeChannel = (typeof NODE_CHANNELS)[number];

const text = z.string().default('');
/** Bounded when they are read, too: what is stored may be older than the bounds. */
const figure = (bounded: (value: number) => number) => z.number().overwrite(bounded).default(0);
const seconds = figure(FIGURES.seconds);
const megabytes = figure(FIGURES.megabytes);
const percent = figure(FIGURES.percent);
const gpuCount = figure(FIGURES.gpus);

export const nodeCapabilitiesSchema = z.object({
  has_gpu: z.boolean().default(false),
  gpu_model: text,
  gpu_count: gpuCount,
  gpu_memory_mb: megabytes,
  cpu_cores: figure(FIGURES.cores),
  memory_mb: megabytes,
  disk_mb: megabytes,
});

/** What an agent said of its machine when it registered, by whichever channel. Empty text: not said. */
export const nodeRegistrationSchema = z.object({
  type: z.enum(NODE_TYPES).default('NODE_TYPE_UNSPECIFIED'),
  instance_id: text,
  nebula_ip: text,
  public_ip: text,
  region: text,
  az: text,
  labels: z.record(z.string(), z.string()).default({}),
  capabilities: nodeCapabilitiesSchema.optional(),
  /** What a carrierarr agent can do beyond what agents in use today do; see {@link AGENT_FEATURES}. */
  features: z.array(z.string()).default([]),
  agent_version: text,
  registered_ms: z.number(),
  /** When it said so by its own clock, if it told. Compares with nothing but what the same agent says later. */
  said_ms: z.number().optional(),
  /** Which start of the agent said so, if it told: it grows with each, whatever its clock says. */
  start_number: z.number().optional(),
});
export type NodeRegistration = z.infer<typeof nodeRegistrationSchema>;

const serviceSchema = z.object({ state: z.string(), message: text, uptime_seconds: seconds });

/** A node's status, as it came over its stream. */
export const nodeStatusSchema = z.object({
  health: z.enum(HEALTH_STATES).default('HEALTH_STATE_UNSPECIFIED'),
  uptime_seconds: seconds,
  idle_seconds: seconds,
  /** By name: `nebula`, `k3s`, `ollama`, `liqo`, and whatever else the agent checks. */
  services: z.record(z.string(), serviceSchema).default({}),
  resources: z
    .object({
      cpu_percent: percent,
      memory_used_mb: megabytes,
      memory_total_mb: megabytes,
      disk_used_mb: megabytes,
      disk_total_mb: megabytes,
    })
    .optional(),
  gpus: z
    .array(
      z.object({
        index: gpuCount,
        name: text,
        memory_used_mb: megabytes,
        memory_total_mb: megabytes,
        utilization: percent,
        temperature_c: figure(FIGURES.celsius),
      }),
    )
    .default([]),
  models: z
    .array(
      z.object({ name: z.string(), size_bytes: figure(FIGURES.bytes), currently_loaded: z.boolean().default(false) }),
    )
    .default([]),
  interruption: z.object({ kind: z.string(), at: z.string().optional(), detail: text }).optional(),
  draining: z.boolean().default(false),
  /** When it was received, by Redis' clock. */
  received_ms: z.number(),
});
export type NodeStatusRecord = z.infer<typeof nodeStatusSchema>;

/** A heartbeat over RabbitMQ. */
export const nodeHeartbeatSchema = z.object({
  status: z.enum(['healthy', 'degraded', 'unhealthy', 'unknown']),
  services: z.record(z.string(), z.boolean()).default({}),
  resources: nodeStatusSchema.shape.resources,
  gpus: nodeStatusSchema.shape.gpus,
  models_loaded: z.array(z.string()).default([]),
  received_ms: z.number(),
  /** As those of a registration. */
  said_ms: nodeRegistrationSchema.shape.said_ms,
  start_number: nodeRegistrationSchema.shape.start_number,
});
export type NodeHeartbeat = z.infer<typeof nodeHeartbeatSchema>;

/** Who serves the node's stream now. */
export const nodeStreamSchema = z.object({
  /** Grows with each stream of the node: the newest is the only one that counts. */
  fence: z.number(),
  monitor: z.string(),
  since_ms: z.number(),
});
export type NodeStream = z.infer<typeof nodeStreamSchema>;

/** All that is known of one node. Times are Redis', epoch ms. */
export interface NodeRecord {
  key: string;
  name: string;
  registration?: NodeRegistration;
  status?: NodeStatusRecord;
  heartbeat?: NodeHeartbeat;
  /** Present while a stream is open. Of a monitor that died it stays until another stream comes. */
  stream?: NodeStream;
  /** When its last stream ended, if none is open. */
  streamEndedMs?: number;
  /** When it was last heard of on each channel it uses. */
  seenMs: Partial<Record<NodeChannel, number>>;
}

/**
 * What an agent may say it can do, in `features`:
 * `commands.v1`: takes a command once however often it is sent, streams its output, can be cancelled.
 */
export const AGENT_FEATURES = ['commands.v1'] as const;

/** True if commands may be sent to it again, and its output comes as it is written. */
export function streamsCommands(features: readonly string[] | undefined): boolean {
  return features?.includes('commands.v1') ?? false;
}
