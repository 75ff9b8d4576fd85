/** What monitors know of a worker, in the words existing clients read (snake_case; empty optional fields left out). */
import { z } from 'zod';
import { LIVENESS_STATES } from './nodes/liveness.js';
import { HEALTH_STATES, NODE_TYPES } from './nodes/node-record.js';

export const workerStatusSchema = z.looseObject({
  id: z
    .string()
    .meta({ description: 'Instance id, task ARN, or target (`script/TARGET` where that looks like one of a cloud).' }),
  name: z.string().optional(),
  provider: z.string().meta({ description: '`ec2`, `fargate`, `script`, …' }),
  state: z.string(),
  public_ip: z.string().optional(),
  private_ip: z.string().optional(),
  instance_type: z.string().optional(),
  launch_time: z.string().optional(),
  tags: z.record(z.string(), z.string()).optional(),
  health_check: z.string().optional(),
  last_heartbeat: z.string().optional(),
});
export type WorkerStatus = z.infer<typeof workerStatusSchema>;

const time = z.iso.datetime({ offset: true });

/** How a worker is to go away soon, as its provider announced it. */
export const interruptionSchema = z.object({
  kind: z.enum(['spot', 'rebalance', 'scheduled-event']),
  at: time.optional().meta({ description: 'When it happens, if that is known.' }),
  detail: z.string(),
});
export type Interruption = z.infer<typeof interruptionSchema>;

/** What is measured of a worker, by its agent or by its provider's monitoring. */
export const workerMetricsSchema = z.object({
  cpu_percent: z.number().optional(),
  memory_percent: z.number().optional(),
  gpu_percent: z.number().optional().meta({ description: 'Utilization of its GPUs, on average.' }),
  network_in_bytes_per_second: z.number().optional(),
  network_out_bytes_per_second: z.number().optional(),
  status_check_failed: z.boolean().optional(),
  measured_at: time,
});
export type WorkerMetrics = z.infer<typeof workerMetricsSchema>;

/** What the agent on a worker says, and whether it is still heard. */
export const workerAgentSchema = z.object({
  node: z.string().meta({ description: 'Name of the node, the `id` in the fleet API.' }),
  liveness: z
    .enum(LIVENESS_STATES)
    .meta({ description: '`stale`, `dead`: not heard of for a while. Otherwise what it says of itself.' }),
  connected: z.boolean().meta({ description: 'It has a stream, so commands reach it.' }),
  last_seen: time
    .optional()
    .meta({ description: 'When it was last heard of; while it is, at most some minutes older than the truth.' }),
  type: z.enum(NODE_TYPES),
  health: z.enum(HEALTH_STATES).meta({ description: 'What it last said of itself.' }),
  version: z.string().optional().meta({ description: 'Of a carrierarr agent.' }),
  draining: z.literal(true).optional(),
  instead_of: z
    .record(z.string(), z.unknown())
    .meta({ description: 'What the source says in the fields that show what the agent says; null for nothing.' }),
});
export type WorkerAgent = z.infer<typeof workerAgentSchema>;

/** A worker as a monitor saw it: what old clients know, and what only newer ones read. */
export const workerRecordSchema = workerStatusSchema.extend({
  target: z.string().meta({ description: 'The target that its commands go to.' }),
  mapped_by: z
    .enum(['tag:carrierarr:target', 'tag:Name', 'id', 'resource', 'node'])
    .meta({ description: 'What made it that target.' }),
  source: z
    .string()
    .meta({ description: 'Who saw it, such as `ec2/eu-central-1`, `ecs/eu-central-1/prod`, `script` or `agents`.' }),
  reason: z.string().optional().meta({ description: 'Why it is in this state, in the words of its provider.' }),
  lifecycle: z.enum(['on-demand', 'spot']).optional(),
  interruption: interruptionSchema.optional(),
  metrics: workerMetricsSchema.optional(),
  idle_seconds: z.number().optional().meta({ description: 'How long it has had nothing to do, as it says itself.' }),
  idle_since: time.optional().meta({
    description: 'Since when it has had nothing to do, as its agent says; absent while it has, or is silent.',
  }),
  agent: workerAgentSchema.optional(),
  gone_at: time.optional().meta({ description: 'It has vanished; these are its last known facts. Kept for a day.' }),
});
export type WorkerRecord = z.infer<typeof workerRecordSchema>;

/** A record as it is given out: with how fresh it is. */
export const seenWorkerSchema = workerRecordSchema.extend({
  version: z.int().meta({ description: 'Version of the status at its last change.' }),
  observed_at: time.meta({ description: 'When its source last saw all of its workers.' }),
  stale: z.literal(true).optional().meta({ description: 'Its source has not been heard of for three polls.' }),
  age_seconds: z.number().optional().meta({ description: 'With `stale`: time since `observed_at`.' }),
});
export type SeenWorker = z.infer<typeof seenWorkerSchema>;

/** Polls that a source may miss before what it saw is stale. */
export const STALE_INTERVALS = 3;

/** What a monitor says of one of its sources after a poll. */
export const sourceReportSchema = z.object({
  source: z.string(),
  ok: z.boolean(),
  polled_at: time.optional().meta({ description: 'When the last complete poll began; absent before the first.' }),
  interval_ms: z.int().meta({ description: 'Time between its polls now.' }),
  calls: z.int().meta({ description: 'API calls of the last poll.' }),
  workers: z.int(),
  error: z.string().optional().meta({ description: 'Why the last poll failed, and what to do.' }),
});
export type SourceReport = z.infer<typeof sourceReportSchema>;

export const statusDocumentSchema = z.object({
  workers: z.array(workerStatusSchema),
  timestamp: time,
});
/** `GET /api/status`, and, as a string, the `data` of a `status` message. */
export type StatusDocument = z.infer<typeof statusDocumentSchema>;

/** A position in the history of the status; versions compare only within one epoch. */
export const statusPointSchema = z.object({ epoch: z.string(), version: z.int().min(0) });
export type StatusPoint = z.infer<typeof statusPointSchema>;
