/**
 * Desired state: what an owner asks for, and how far the reconciler has got, in the shape of Kubernetes resources
 * (`apiVersion`, `kind`, `metadata`, `spec`, `status`; camelCase, as everybody writes them in YAML).
 *
 * A **Worker** is one target and the state it is to be in. A **WorkerPool** keeps a number of Workers made from a
 * template; they are named `<pool>-<ordinal>`, so that making one twice is making it once.
 */
import { z } from 'zod';
import { argsSchema, targetSchema, verbSchema } from './names.js';

export const RESOURCE_API_VERSION = 'carrierarr.io/v1';
export const RESOURCE_KINDS = ['Worker', 'WorkerPool'] as const;
export type ResourceKind = (typeof RESOURCE_KINDS)[number];
/** The kind's name in routes and on the command line. */
export const RESOURCE_PLURALS = { Worker: 'workers', WorkerPool: 'workerpools' } as const;

/** Longest name of a resource: a pool's workers add `-<ordinal>`. */
export const RESOURCE_NAME_LENGTH_MAX = 120;
/** Most workers of one pool. */
export const POOL_REPLICAS_MAX = 10_000;
/** Finalizer of a Worker whose machine is to be terminated before the resource goes. */
export const TERMINATE_FINALIZER = 'carrierarr.io/terminate';
/** Label that the reconciler puts on a pool's Workers. */
export const POOL_LABEL = 'carrierarr.io/pool';

const time = z.iso.datetime({ offset: true });
const labelsSchema = z
  .record(z.string().min(1).max(128), z.string().max(256))
  .refine((labels) => Object.keys(labels).length <= 64, 'at most 64 labels');

/** A duration as in `90s`, `15m`, `1h30m`. */
const DURATION = /^(?=\d)(\d+h)?(\d+m)?(\d+s)?$/;
const durationSchema = z
  .string()
  .regex(DURATION, 'a duration is written 90s, 15m or 1h30m')
  .meta({ description: 'A duration such as `90s`, `15m` or `1h30m`.' });

/** Milliseconds of a duration that {@link durationSchema} accepts. */
export function durationMsOf(text: string): number {
  const units = { h: 3_600_000, m: 60_000, s: 1_000 } as const;
  let sum = 0;
  for (const [, digits, unit] of text.matchAll(/(\d+)([hms])/g))
    sum += Number(digits) * units[unit as keyof typeof units];
  return sum;
}

export const desiredStateSchema = z.enum(['running', 'stopped', 'absent']);
export type DesiredState = z.infer<typeof desiredStateSchema>;

export const scheduleSchema = z.strictObject({
  timeZone: z.string().default('UTC').meta({ description: 'An IANA name such as `Europe/Berlin`.' }),
  windows: z
    .array(
      z.strictObject({
        start: z.string().min(1).meta({ description: 'A cron expression of five fields: when the window opens.' }),
        duration: durationSchema.meta({ description: 'How long it stays open.' }),
      }),
    )
    .min(1)
    .max(20),
});
export type Schedule = z.infer<typeof scheduleSchema>;

export const workerSpecSchema = z.strictObject({
  desired: desiredStateSchema.default('running'),
  target: targetSchema.optional().meta({ description: 'Default: the name of the resource.' }),
  source: z.enum(['auto', 'ec2', 'ecs', 'script']).default('auto').meta({
    description: 'Who says what state it is in. `auto`: a cloud source that knows the target, else the script.',
  }),
  selector: z
    .strictObject({
      tags: z
        .record(z.string(), z.string())
        .refine(
          (tags) => Object.keys(tags).length > 0,
          'a selector names at least one tag: none would fit every machine',
        ),
    })
    .optional()
    .meta({ description: 'Which machine it is, by tags, instead of by target.' }),
  args: z
    .partialRecord(verbSchema, argsSchema)
    .default({})
    .meta({ description: 'Arguments of the control script, by verb.' }),
  idleStopAfter: durationSchema.optional().meta({ description: 'Stop it when it has confirmed to be idle this long.' }),
  schedule: scheduleSchema
    .optional()
    .meta({ description: 'Run it within these windows only (with `desired: running`); outside it is stopped.' }),
  maxRetries: z
    .int()
    .min(0)
    .max(1_000)
    .default(10)
    .meta({ description: 'Failed commands in a row after which it is left alone until its spec changes.' }),
  paused: z.boolean().default(false).meta({ description: 'Look, but do nothing.' }),
});
export type WorkerSpec = z.infer<typeof workerSpecSchema>;

export const workerPoolSpecSchema = z.strictObject({
  replicas: z.int().min(0).max(POOL_REPLICAS_MAX),
  minReady: z
    .int()
    .min(0)
    .default(0)
    .meta({ description: 'Never stop or replace a worker on purpose when fewer than this would stay ready.' }),
  maxUnavailable: z
    .int()
    .min(1)
    .default(1)
    .meta({ description: 'Most workers replaced at once when the template changes.' }),
  scaleIn: z
    .enum(['highest', 'idle-longest', 'newest', 'oldest'])
    .default('highest')
    .meta({ description: 'Which worker goes first when there are too many: by ordinal, idle time or age.' }),
  paused: z.boolean().default(false),
  template: z.strictObject({
    metadata: z.strictObject({ labels: labelsSchema.default({}) }).default({ labels: {} }),
    spec: workerSpecSchema.omit({ target: true, selector: true, paused: true }),
  }),
});
export type WorkerPoolSpec = z.infer<typeof workerPoolSpecSchema>;

export const conditionSchema = z.object({
  type: z.string(),
  status: z.enum(['True', 'False', 'Unknown']),
  reason: z.string().meta({ description: 'One word for programs.' }),
  message: z.string().meta({ description: 'A sentence for people.' }),
  lastTransitionTime: time,
  observedGeneration: z.int(),
});
export type Condition = z.infer<typeof conditionSchema>;

export const workerPhaseSchema = z.enum([
  'Pending',
  'Starting',
  'Running',
  'Stopping',
  'Stopped',
  'Terminating',
  'Absent',
  'Failed',
  'Unknown',
]);
export type WorkerPhase = z.infer<typeof workerPhaseSchema>;

/** A command that the reconciler gave, or is about to give: written down before it is submitted. */
export const givenCommandSchema = z.object({
  verb: verbSchema,
  token: z.string().meta({ description: 'Its idempotency id: by worker, generation and attempt.' }),
  generation: z.int(),
  attempt: z.int().meta({ description: 'Grows with each command for this worker, for ever.' }),
  reason: z.string(),
  requestedAt: time,
  newestLaunch: time
    .optional()
    .meta({ description: 'When the newest machine was launched that was known then: what it makes is newer.' }),
  execution: z.string().optional(),
  outcome: z.string().optional(),
  exitCode: z.int().optional(),
  endedAt: time.optional(),
  effect: z
    .enum(['seen', 'missing'])
    .optional()
    .meta({ description: 'Whether what it was to bring about was observed after it; absent while that is awaited.' }),
});
export type GivenCommand = z.infer<typeof givenCommandSchema>;

export const workerResourceStatusSchema = z.object({
  observedGeneration: z.int(),
  phase: workerPhaseSchema,
  conditions: z.array(conditionSchema),
  target: z.string(),
  workerId: z.string().optional(),
  source: z.string().optional().meta({ description: 'Who saw it last.' }),
  state: z.string().optional().meta({ description: 'As observed, in the words of its source.' }),
  stateObservedAt: time.optional(),
  /** Number of commands given so far; the next one's attempt is one more. */
  attempts: z.int(),
  /** Failures in a row. */
  failures: z.int(),
  backoffUntil: time.optional(),
  lastCommand: givenCommandSchema.optional(),
  /** It was running as desired at some time, and has not been stopped on purpose since. */
  wasReady: z.boolean().optional(),
});
export type WorkerResourceStatus = z.infer<typeof workerResourceStatusSchema>;

export const workerPoolStatusSchema = z.object({
  observedGeneration: z.int(),
  conditions: z.array(conditionSchema),
  replicas: z.int().meta({ description: 'Workers that exist as resources.' }),
  ready: z.int(),
  updated: z.int().meta({ description: 'Workers made from the present template.' }),
  unavailable: z.int(),
});
export type WorkerPoolStatus = z.infer<typeof workerPoolStatusSchema>;

export const resourceNameSchema = targetSchema
  .max(RESOURCE_NAME_LENGTH_MAX, `a name has at most ${RESOURCE_NAME_LENGTH_MAX} characters`)
  .regex(/^[^/]+$/, 'a name must not contain /')
  // No URL can hold them: they mean "here" and "one up" in a path.
  .refine((name) => name !== '.' && name !== '..', 'a name must not be . or ..');

/** What a client writes; the rest of the metadata is the server's. */
const writtenMetadataSchema = z.object({
  name: resourceNameSchema,
  labels: labelsSchema.default({}),
  resourceVersion: z.string().optional().meta({ description: 'Write only if nothing was written since this version.' }),
});

export const ownerSchema = z.object({ kind: z.literal('WorkerPool'), name: z.string(), uid: z.string() });

export const metadataSchema = z.object({
  name: resourceNameSchema,
  labels: labelsSchema,
  uid: z.string(),
  generation: z.int().meta({ description: 'Grows with each change of the spec.' }),
  resourceVersion: z.string().meta({ description: 'Grows with each change of anything.' }),
  creationTimestamp: time,
  deletionTimestamp: time.optional().meta({ description: 'It is to go; it stays until its finalizers are done.' }),
  finalizers: z.array(z.string()).default([]),
  owner: ownerSchema.optional().meta({ description: 'The pool that made it.' }),
  templateHash: z.string().optional().meta({ description: 'Of the template that the pool made it from.' }),
});
export type Metadata = z.infer<typeof metadataSchema>;

const apiVersion = z.literal(RESOURCE_API_VERSION);
export const workerManifestSchema = z.strictObject({
  apiVersion,
  kind: z.literal('Worker'),
  metadata: writtenMetadataSchema,
  spec: workerSpecSchema,
});
export const workerPoolManifestSchema = z.strictObject({
  apiVersion,
  kind: z.literal('WorkerPool'),
  metadata: writtenMetadataSchema,
  spec: workerPoolSpecSchema,
});
/** What an owner writes. `status` and the server's metadata, as `get -o yaml` prints them, are to be dropped before. */
export const manifestSchema = z.discriminatedUnion('kind', [workerManifestSchema, workerPoolManifestSchema]);
export type Manifest = z.infer<typeof manifestSchema>;

export const workerResourceSchema = z.object({
  apiVersion,
  kind: z.literal('Worker'),
  metadata: metadataSchema,
  spec: workerSpecSchema,
  status: workerResourceStatusSchema.optional(),
});
export type WorkerResource = z.infer<typeof workerResourceSchema>;
export const workerPoolResourceSchema = z.object({
  apiVersion,
  kind: z.literal('WorkerPool'),
  metadata: metadataSchema,
  spec: workerPoolSpecSchema,
  status: workerPoolStatusSchema.optional(),
});
export type WorkerPoolResource = z.infer<typeof workerPoolResourceSchema>;
export const resourceSchema = z.discriminatedUnion('kind', [workerResourceSchema, workerPoolResourceSchema]);
export type Resource = z.infer<typeof resourceSchema>;
export type ResourceOf<K extends ResourceKind> = Extract<Resource, { kind: K }>;

/** One change in the journal of resources. */
export const resourceChangeSchema = z.object({
  type: z.enum(['ADDED', 'MODIFIED', 'DELETED']),
  object: resourceSchema,
});
export type ResourceChange = z.infer<typeof resourceChangeSchema>;

/** Something that happened to a resource, with how often. */
export const resourceEventSchema = z.object({
  type: z.enum(['Normal', 'Warning']),
  reason: z.string(),
  message: z.string(),
  count: z.int(),
  firstTime: time,
  lastTime: time,
});
export type ResourceEvent = z.infer<typeof resourceEventSchema>;

/** The target of a Worker. */
export function targetOf(worker: { metadata: { name: string }; spec: { target?: string | undefined } }): string {
  return worker.spec.target ?? worker.metadata.name;
}
