/**
 * Bodies and queries of the fleet API. The fields without a remark are those that existing clients read; their names,
 * kinds and when they are there do not change.
 */
import { z } from 'zod';
import { LIVENESS_STATES } from './liveness.js';
import { HEALTH_STATES, NODE_TYPES, nodeCapabilitiesSchema, nodeStatusSchema } from './node-record.js';

const time = z.iso.datetime({ offset: true });
const health = z.enum(HEALTH_STATES);
const int64Text = z
  .string()
  .regex(/^-?\d+$/)
  .meta({ description: 'A 64-bit integer, as proto JSON writes it.' });
const liveness = z.enum(LIVENESS_STATES).meta({
  description:
    '`stale` and `dead`: not heard of for as long as monitors are told to wait. Else what it says of itself.',
});
const target = z.string().meta({ description: 'Where its commands are queued and its output is.' });

/** `NodeSummary` in proto JSON. */
export const nodeSummaryJsonSchema = z.object({
  node_id: z.string(),
  node_type: z.enum(NODE_TYPES),
  health,
  nebula_ip: z.string(),
  instance_id: z.string(),
  connected: z.boolean(),
  last_seen: time.nullable(),
  uptime_seconds: int64Text,
  idle_seconds: int64Text,
  cpu_percent: z.number(),
  memory_percent: z.number(),
  gpu_count: z.int(),
  loaded_models: z.int(),
  target,
  liveness,
});

export const fleetSummarySchema = z.object({
  total_nodes: z.int(),
  healthy_nodes: z.int(),
  unhealthy_nodes: z.int(),
  gpu_nodes: z.int(),
  total_gpus: z.int(),
});

/** Answer of `GET /api/v1/fleet`. */
export const fleetBodySchema = z.object({ nodes: z.array(nodeSummaryJsonSchema), summary: fleetSummarySchema });

/** Answer of `GET /api/v1/stats`. */
export const fleetStatsSchema = fleetSummarySchema.extend({
  connected: z.int().meta({ description: 'Nodes that are not dead.' }),
});
export type FleetStats = z.infer<typeof fleetStatsSchema>;

/** Query of `GET /api/v1/nodes`. */
export const nodesQuerySchema = z.object({
  type: z.string().max(100).optional().meta({ description: 'Only these: `gpu-worker`, `cpu-worker`, `lighthouse`.' }),
});

/** One node of `GET /api/v1/nodes`. */
export const nodeBodySchema = z.object({
  id: z.string().meta({ description: 'Its host name, or its instance id.' }),
  type: z.enum(NODE_TYPES),
  instance_id: z.string(),
  nebula_ip: z.string(),
  public_ip: z.string(),
  connected: z.boolean().meta({ description: 'It is not dead.' }),
  last_seen: time,
  stream_active: z.boolean().meta({ description: 'Commands can reach it now.' }),
  health: health.optional().meta({ description: 'Once it has said so. Of one that has fallen silent: unhealthy.' }),
  uptime_seconds: z.number().optional(),
  idle_seconds: z.number().optional(),
  gpu_count: z.int().optional(),
  loaded_models: z.int().optional().meta({ description: 'How many are in memory.' }),
  health_status: z
    .enum(['healthy', 'degraded', 'unhealthy', 'unknown', 'stale', 'dead'])
    .optional()
    .meta({ description: 'As its heartbeats over RabbitMQ say, or that it has fallen silent.' }),
  target,
  liveness,
  idle_since: time.optional().meta({ description: 'Since when it has had nothing to do, as it says.' }),
  agent_version: z.string().optional(),
  draining: z.literal(true).optional().meta({ description: 'It takes no more work.' }),
});
export type NodeBody = z.infer<typeof nodeBodySchema>;

/** Answer of `GET /api/v1/nodes`. */
export const nodesBodySchema = z.array(nodeBodySchema);

/** Answer of `GET /api/v1/nodes/{id}`. */
export const nodeDetailBodySchema = nodeBodySchema.extend({
  region: z.string(),
  az: z.string(),
  labels: z.record(z.string(), z.string()),
  connected_at: time.meta({ description: 'When its stream began, or it registered.' }),
  status: z.object({ health, uptime_seconds: z.number(), idle_seconds: z.number() }).optional(),
  resources: z
    .object({
      cpu_percent: z.number(),
      memory_used_mb: z.number(),
      memory_total_mb: z.number(),
      disk_used_mb: z.number().optional(),
      disk_total_mb: z.number().optional(),
    })
    .optional(),
  gpus: z
    .array(
      z.object({
        index: z.number(),
        name: z.string(),
        memory_used_mb: z.number(),
        memory_total_mb: z.number(),
        utilization: z.number(),
        temperature_c: z.number(),
      }),
    )
    .optional(),
  models: z.array(z.object({ name: z.string(), size_bytes: z.number(), currently_loaded: z.boolean() })).optional(),
  services: z
    .record(z.string(), z.object({ state: z.string(), message: z.string(), uptime_seconds: z.number() }))
    .optional()
    .meta({ description: 'What it checks, by name.' }),
  interruption: nodeStatusSchema.shape.interruption.meta({ description: 'It is to go away, as its cloud announced.' }),
  capabilities: nodeCapabilitiesSchema.optional().meta({ description: 'As it registered them.' }),
});
export type NodeDetailBody = z.infer<typeof nodeDetailBodySchema>;

/** Body of `POST /api/v1/command`. What is not known is left aside. */
export const nodeCommandBodySchema = z.object({
  node_id: z.string().min(1, 'a node must be named').max(200).meta({ description: 'Any name of it; `*`: every node.' }),
  type: z.string().max(100).meta({ description: 'A CommandType without its prefix, such as `SHUTDOWN` or `EXEC`.' }),
  args: z
    .record(z.string().regex(/^[^=]+$/, 'the name of an argument has no ='), z.string())
    .nullish()
    .meta({
      description: 'By type: `cmd` of EXEC, `model` of PULL_MODEL and UNLOAD_MODEL, `service` of RESTART_SERVICE.',
    }),
  timeout: z.number().min(0).nullish().meta({ description: "Seconds; 0 or none: the runner's default." }),
});
export type NodeCommandBody = z.infer<typeof nodeCommandBodySchema>;

/** Answer of `POST /api/v1/command`. */
export const nodeCommandSentSchema = z.union([
  z.object({
    command_id: z.string().meta({ description: 'Id of the execution.' }),
    sent: z.literal(true),
    target,
  }),
  z.object({
    command_id: z.string().meta({ description: '`client_id` of the executions.' }),
    sent_to: z.int().meta({ description: 'How many nodes.' }),
    executions: z.array(z.object({ execution_id: z.string(), target: z.string() })),
    failed: z.array(z.object({ node_id: z.string(), error: z.string() })).optional(),
  }),
]);
export type NodeCommandSent = z.infer<typeof nodeCommandSentSchema>;
