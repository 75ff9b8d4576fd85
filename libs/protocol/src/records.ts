/** What is stored in Redis beside the output log, and what travels on the BullMQ queue. */
import { z } from 'zod';
import { outcomeSchema } from './entry.js';

/**
 * Version of an execution's record, in its field `v`. Fields that a runner may ignore come without a new one. A runner leaves a
 * command of a newer version in its place for a runner that knows it: claimed by one that does not, it would be lost.
 */
export const EXECUTION_VERSION = 1;

export const executionStateSchema = z.enum(['queued', 'running', 'ended']);

/** Who runs a command: a runner, by the control script, or the agent on the worker's machine. */
export const executorKindSchema = z.enum(['script', 'agent']);
export type ExecutorKind = z.infer<typeof executorKindSchema>;

/** One execution of a command: who, what, when, where, outcome. Times are RFC 3339; absent until they are known. */
export const executionSchema = z.object({
  id: z.string(),
  target: z.string(),
  command: z.string(),
  args: z.array(z.string()),
  state: executionStateSchema,
  executor: executorKindSchema.optional().meta({ description: 'Who runs it; absent means `script`.' }),
  subject: z.string().meta({ description: "Who asked: the token's subject, or `anonymous`." }),
  address: z.string().meta({ description: "From where: the client's address." }),
  gateway: z.string(),
  client_id: z.string().optional().meta({ description: 'The idempotency id the client chose.' }),
  idempotent: z.boolean(),
  node: z.string().optional().meta({ description: 'Key of the node whose agent runs it.' }),
  probe: z
    .boolean()
    .optional()
    .meta({ description: "A monitor's look at the worker's status: it is in no list and no log; its answer is here." }),
  timeout_ms: z.int().optional(),
  accepted_at: z.iso.datetime(),
  started_at: z.iso.datetime().optional(),
  ended_at: z.iso.datetime().optional(),
  runner: z.string().optional(),
  fence: z.int().optional(),
  attempt: z.int().meta({ description: 'Starts so far.' }),
  outcome: outcomeSchema.optional(),
  exit_code: z.int().optional(),
  signal: z.string().optional(),
  reason: z.string().optional().meta({ description: 'Why it ended so, if that is not plain.' }),
  kill_requested_by: z.string().optional(),
  epoch: z.string().optional(),
  first_offset: z.int().optional().meta({ description: "Offset of its `started` event in the target's log." }),
  last_offset: z.int().optional().meta({ description: 'Offset of its `result` event.' }),
  answer: z.string().optional().meta({ description: 'Of a probe: the last line that it wrote to standard output.' }),
  lines: z.int().optional(),
  truncated_lines: z.int().optional(),
});
export type Execution = z.infer<typeof executionSchema>;

/** No client's subject begins so: whoever could call itself a monitor would share its ids and pass for it. */
export const SYSTEM_SUBJECT_PREFIX = 'system:';

/**
 * Who asks where no client does: `reconciler` to bring a worker to where it is wanted, `monitor` to learn its status from
 * its script. Idempotency ids hold for one subject, so a subject that changed would have its commands given twice.
 */
export const SYSTEM_SUBJECTS = { reconciler: 'system:reconciler', monitor: 'system:monitor' } as const;

/** What a runner says about itself, for `no_runner`, for people, and for reclaiming after a restart. */
export const runnerSchema = z.object({
  id: z.string(),
  incarnation: z.string().meta({ description: 'New at each start.' }),
  version: z.string(),
  host: z.string(),
  pid: z.int(),
  concurrency: z.int(),
  running: z.int(),
  started_at: z.iso.datetime(),
  seen_at: z.iso.datetime(),
});
export type Runner = z.infer<typeof runnerSchema>;

/** A target as clients see it. */
export const targetStateSchema = z.object({
  target: z.string(),
  running: z.string().optional().meta({ description: 'Id of the execution that runs now.' }),
  queued: z.int(),
  blocked_until: z.iso.datetime().optional().meta({
    description: 'Closed until then: its runner was lost, and must be known to have ended its script.',
  }),
  last_activity: z.iso.datetime(),
  epoch: z.string().optional(),
  last_offset: z.int(),
});
export type TargetState = z.infer<typeof targetStateSchema>;

/** Name of the BullMQ queue. */
export const COMMAND_QUEUE = 'commands';
/** Name of its one kind of job: "this target has commands; run the next one". */
export const DRAIN_JOB = 'drain';

/** Payload of a drain job. The command itself waits in the target's list, which alone keeps the order. */
export const drainJobSchema = z.object({ v: z.literal(1), target: z.string() });
export type DrainJob = z.infer<typeof drainJobSchema>;

/** Message on the kill channel. */
export const killNoticeSchema = z.object({ v: z.literal(1), execution: z.string(), target: z.string() });
export type KillNotice = z.infer<typeof killNoticeSchema>;
