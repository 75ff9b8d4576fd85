/** Bodies and queries of the HTTP routes. `openapi` documents are generated from these. */
import { z } from 'zod';
import { TAIL_MAX } from './client-messages.js';
import { orphanSchema } from './orphans.js';
import { executionSchema, executionStateSchema, targetStateSchema } from './records.js';
import { argsSchema, clientIdSchema, targetSchema, verbSchema } from './names.js';
import {
  RESOURCE_API_VERSION,
  RESOURCE_KINDS,
  resourceEventSchema,
  resourceSchema,
  workerPoolResourceSchema,
  workerPoolStatusSchema,
  workerResourceSchema,
  workerResourceStatusSchema,
} from './resources.js';
import { seenWorkerSchema, sourceReportSchema } from './worker-status.js';

/** Body of `POST /api/v1/targets/{target}/commands`. `kill` is a command here too. */
export const commandBodySchema = z.strictObject({
  command: verbSchema,
  args: argsSchema.optional(),
  id: clientIdSchema.optional(),
  timeout_seconds: z
    .number()
    .positive()
    .optional()
    .meta({ description: "Ends the command after this time; at most the runner's limit." }),
  idempotent: z.boolean().optional().meta({ description: 'The command may be run again if its runner is lost.' }),
});

/** 202 answer to an accepted command. */
export const acceptedBodySchema = z.object({
  execution_id: z.string(),
  target: z.string(),
  position: z.int().meta({ description: 'Commands of the target before this one, the running one included.' }),
  duplicate: z
    .boolean()
    .meta({ description: 'True if the id was known: this is the execution it got the first time.' }),
});

/** Query of `GET /api/v1/executions`. */
export const executionsQuerySchema = z.strictObject({
  target: targetSchema.optional(),
  state: executionStateSchema.optional(),
  limit: z.coerce.number().int().min(1).max(500).default(50).meta({ description: 'Most executions of one page.' }),
  before: z.string().optional().meta({ description: 'An execution id: only older ones.' }),
});
export const executionsBodySchema = z.object({
  executions: z.array(executionSchema),
  next: z.string().optional().meta({ description: 'Pass as `before` for the next page; absent on the last one.' }),
});
/** Query of `GET /api/v1/targets`. */
export const targetsQuerySchema = z.strictObject({
  target: targetSchema.optional().meta({ description: 'Only this one, however long ago it was active.' }),
});
export const targetsBodySchema = z.object({ targets: z.array(targetStateSchema) });

/** Query of `GET /api/v1/executions/{id}/output`. */
export const outputQuerySchema = z.strictObject({
  format: z.enum(['text', 'json']).default('text').meta({ description: 'Lines alone, or a JSON message a line.' }),
  follow: z.enum(['true', 'false']).default('false').meta({ description: 'Go on until the execution has ended.' }),
  tail: z.coerce
    .number()
    .int()
    .min(0)
    .max(TAIL_MAX)
    .optional()
    .meta({ description: 'Begin with the last n lines that there are now.' }),
});

const yes = z.enum(['true', 'false']).default('false');

/** Query of `GET /api/status`. */
export const statusQuerySchema = z.strictObject({
  gone: yes.meta({ description: 'Also workers that have vanished within the last day.' }),
});

/** Answer of `GET /api/v1/observed`. */
export const observedBodySchema = z.object({
  epoch: z.string().meta({ description: 'Versions compare only within one epoch.' }),
  version: z.int(),
  timestamp: z.iso.datetime({ offset: true }),
  workers: z
    .array(
      seenWorkerSchema.extend({
        orphaned_since: z.iso
          .datetime({ offset: true })
          .optional()
          .meta({ description: 'It is tagged as ours and belongs to no Worker: see `GET /api/v1/orphans`.' }),
      }),
    )
    .meta({ description: 'Those that have vanished too: they have `gone_at`.' }),
  sources: z.array(sourceReportSchema),
});

const freshnessSchema = seenWorkerSchema.pick({ launch_time: true, observed_at: true, stale: true, age_seconds: true });
/** Answer of `GET /api/v1/orphans`. */
export const orphansBodySchema = z.object({
  timestamp: z.iso.datetime({ offset: true }),
  items: z.array(orphanSchema.extend(freshnessSchema.shape)).meta({ description: 'By id.' }),
});
export type OrphansBody = z.infer<typeof orphansBodySchema>;

/** Query of `GET /api/v1/workers` and `GET /api/v1/workerpools`. */
export const resourcesQuerySchema = z.strictObject({
  labelSelector: z
    .string()
    .max(4_096)
    .optional()
    .meta({ description: 'Only those with these labels: `k=v`, `k!=v`, `k` (has it) or `!k`, joined by commas.' }),
  watch: yes.meta({ description: 'Go on with each change, a JSON object a line.' }),
  resourceVersion: z.string().max(32).optional().meta({
    description: 'With `watch`: only what changed after this. Without it, all there is comes first, as ADDED.',
  }),
});

/** Query of `PUT` of a Worker. */
export const putWorkerQuerySchema = z.strictObject({
  pool: z.string().optional().meta({
    description:
      'Create it as one of this WorkerPool, which must be paused: to restore a backup whose machines are still there.',
  }),
});

/** Query of `DELETE` of a resource. */
export const deleteQuerySchema = z.strictObject({
  orphan: yes.meta({ description: 'Leave the machine as it is instead of terminating it.' }),
});

const listOf = <K extends 'Worker' | 'WorkerPool', T extends z.ZodType>(kind: K, item: T) =>
  z.object({
    apiVersion: z.literal(RESOURCE_API_VERSION),
    kind: z.literal(`${kind}List`),
    metadata: z.object({ resourceVersion: z.string().meta({ description: 'Watch from here.' }) }),
    items: z.array(item),
  });
export const workerListSchema = listOf('Worker', workerResourceSchema);
export const workerPoolListSchema = listOf('WorkerPool', workerPoolResourceSchema);

/** Answer of `GET .../status`; `{}` while the reconciler has not looked at it. */
export const workerStatusBodySchema = workerResourceStatusSchema.partial();
export const workerPoolStatusBodySchema = workerPoolStatusSchema.partial();

/** Answer of `GET .../events`. */
export const resourceEventsBodySchema = z.object({
  items: z.array(resourceEventSchema).meta({ description: 'The newest last.' }),
});

/** One line of a watch. */
export const watchLineSchema = z.discriminatedUnion('type', [
  z.object({ type: z.enum(['ADDED', 'MODIFIED', 'DELETED']), object: resourceSchema }),
  z.object({
    type: z.literal('BOOKMARK'),
    object: z.object({ kind: z.enum(RESOURCE_KINDS), metadata: z.object({ resourceVersion: z.string() }) }),
  }),
  z.object({
    type: z.literal('ERROR'),
    object: z.object({ error: z.string(), code: z.string(), retryable: z.boolean() }),
  }),
]);
export type WatchLine = z.infer<typeof watchLineSchema>;

const plannedEventSchema = resourceEventSchema.pick({ type: true, reason: true, message: true });
/** Answer of `GET .../plan`: what the reconciler would do now. Nothing is done. */
export const planBodySchema = z.object({
  kind: z.enum(RESOURCE_KINDS),
  name: z.string(),
  summary: z.string().meta({ description: 'What would be done, or why nothing is, in one sentence.' }),
  command: z
    .object({ verb: z.string(), args: z.array(z.string()), target: z.string() })
    .optional()
    .meta({ description: 'The command that would be given.' }),
  create: z.array(z.string()).optional().meta({ description: 'Workers that a pool would make.' }),
  update: z.array(z.string()).optional().meta({ description: 'Workers that a pool would change.' }),
  delete: z.array(z.string()).optional().meta({ description: 'Workers that a pool would let go.' }),
  status: z
    .union([workerResourceStatusSchema, workerPoolStatusSchema])
    .optional()
    .meta({ description: 'The status it would get, if that is another.' }),
  events: z.array(plannedEventSchema),
});
export type PlanBody = z.infer<typeof planBodySchema>;

const changedPathSchema = z.object({
  path: z.string(),
  from: z.unknown().optional().meta({ description: 'Left out if there was nothing.' }),
  to: z.unknown().optional().meta({ description: 'Left out if there will be nothing.' }),
});
/** Answer of `POST /api/v1/plan`: what writing the manifests would change, and then do. Nothing is written. */
export const dryRunBodySchema = z.object({
  items: z.array(
    z.object({
      kind: z.enum(RESOURCE_KINDS),
      name: z.string(),
      change: z.enum(['created', 'changed', 'unchanged']),
      paths: z.array(changedPathSchema).meta({ description: 'What would change in labels and spec.' }),
      plan: planBodySchema,
    }),
  ),
});
export type DryRunBody = z.infer<typeof dryRunBodySchema>;

/** Every error answer. */
export const errorBodySchema = z.object({
  error: z.string().meta({ description: 'What was received, and what to do.' }),
  code: z.string().meta({ description: 'Code of the table of errors.' }),
  retryable: z.boolean().meta({ description: 'The same request may succeed later.' }),
  issues: z
    .array(
      z.object({
        path: z.string().meta({ description: 'Where, such as `spec.replicas`; empty for the whole.' }),
        value: z.string().optional().meta({ description: 'What was received, shortened, as JSON.' }),
        message: z.string().meta({ description: 'What is allowed.' }),
      }),
    )
    .optional()
    .meta({ description: 'With `bad_resource`: each problem.' }),
});
