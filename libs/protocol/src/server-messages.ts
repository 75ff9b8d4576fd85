/**
 * Messages from gateway to client on `/ws`. The first group is what old clients know; a message of the second group
 * goes only to a client that asked for it (see `client-messages.ts`), and so does a field marked "opt-in".
 */
import { z } from 'zod';
import { outcomeSchema } from './entry.js';
import { seenWorkerSchema } from './worker-status.js';

const timestamp = z.iso.datetime({ offset: true }).meta({ description: 'RFC 3339.' });
const target = z.string();

/** Place in the log, on every output message for clients that asked for offsets. */
const placed = {
  epoch: z.string().optional().meta({ description: 'Opt-in. Offsets compare only within one epoch.' }),
  offset: z.int().optional().meta({ description: "Opt-in. Number of this line in the target's log." }),
  execution_id: z.string().optional().meta({ description: 'Opt-in. The execution that it belongs to.' }),
};

const outputMessage = <T extends string>(type: T, description: string) =>
  z
    .object({
      type: z.literal(type),
      timestamp,
      target,
      data: z.string().meta({ description: 'One line, no newline.' }),
      ...placed,
    })
    .meta({ description });

export const stdoutMessageSchema = outputMessage('stdout', 'A line that the script wrote to standard output.');
export const stderrMessageSchema = outputMessage('stderr', 'A line that the script wrote to standard error.');

export const resultMessageSchema = z
  .object({
    type: z.literal('result'),
    timestamp,
    target,
    exit_code: z.int().meta({
      description: "The script's; 128 + signal number if killed, 124 if timed out, -1 if it is unknown or nothing ran.",
    }),
    outcome: outcomeSchema.optional().meta({ description: 'Opt-in. How it ended.' }),
    signal: z.string().optional().meta({ description: 'Opt-in. The signal that ended it, if one did.' }),
    ...placed,
  })
  .meta({ description: 'An execution has ended. Exactly one for each execution that was accepted.' });

export const errorMessageSchema = z
  .object({
    type: z.literal('error'),
    timestamp,
    target: target.optional(),
    error: z.string().meta({ description: 'What was received, and what to do.' }),
    code: z.string().optional().meta({ description: 'Code of the error table.' }),
    id: z.string().optional().meta({ description: "The client's id of the refused command." }),
    ...placed,
  })
  .meta({ description: 'Something was refused or went wrong. Programs branch on `code`; texts may change.' });

export const statusMessageSchema = z
  .object({
    type: z.literal('status'),
    timestamp,
    data: z.string().meta({ description: 'JSON text of a status document.' }),
  })
  .meta({
    description:
      'All known workers. Comes right after connecting, if there are any, and when something has changed, at most once a second.',
  });

export const pongMessageSchema = z
  .object({ type: z.literal('pong'), timestamp })
  .meta({ description: 'Answers `ping`.' });

// --- opt-in -------------------------------------------------------------------------------------------------------

export const helloMessageSchema = z
  .object({
    type: z.literal('hello'),
    timestamp,
    gateway: z.string().meta({ description: 'Name of this gateway.' }),
    version: z.string().meta({ description: 'Its version.' }),
    limits: z
      .object({ message_bytes: z.int(), subscriptions: z.int(), commands_per_second: z.number() })
      .meta({ description: 'What one connection may do.' }),
  })
  .meta({ description: 'First message of a `carrierarr.v1` connection, once it is authenticated.' });

export const acceptedMessageSchema = z
  .object({
    type: z.literal('accepted'),
    timestamp,
    target,
    id: z.string().meta({ description: "The client's id." }),
    execution_id: z.string(),
    position: z
      .int()
      .meta({ description: 'Commands of the target before this one, the running one included; 0 starts next.' }),
    duplicate: z.boolean().meta({ description: "True if the id was known: this is the first one's execution." }),
  })
  .meta({ description: 'Answers a `command` with an `id`: it will run at most once.' });

export const subscribedMessageSchema = z
  .object({
    type: z.literal('subscribed'),
    timestamp: timestamp.meta({ description: 'For a pattern: resume with `since: {time}` of this and `positions`.' }),
    target: z.string().meta({ description: 'As subscribed; `*` for everything.' }),
    epoch: z.string().optional(),
    offset: z.int().optional().meta({ description: 'Output after this offset follows. Not for patterns.' }),
  })
  .meta({ description: 'A subscription has begun. Output that it asked for follows.' });

export const unsubscribedMessageSchema = z
  .object({ type: z.literal('unsubscribed'), timestamp, target: z.string() })
  .meta({ description: 'A subscription has ended.' });

export const startedMessageSchema = z
  .object({
    type: z.literal('started'),
    timestamp,
    target,
    command: z.string(),
    args: z.array(z.string()),
    subject: z.string().meta({ description: "Who asked: the token's subject, or `anonymous`." }),
    runner: z.string().meta({ description: 'Id of the runner that executes it.' }),
    ...placed,
  })
  .meta({ description: 'A runner has begun to execute a command.' });

export const linesMessageSchema = z
  .object({
    type: z.literal('lines'),
    timestamp,
    target,
    epoch: z.string(),
    offset: z.int().meta({ description: 'Offset of the first line; the others follow without holes.' }),
    execution_id: z.string(),
    stream: z.enum(['stdout', 'stderr', 'log']),
    lines: z.array(z.string()).meta({ description: 'Without newlines.' }),
  })
  .meta({ description: 'Consecutive lines of one stream, in one message.' });

export const logMessageSchema = outputMessage('log', 'A line about the execution that the script did not write.');

export const gapMessageSchema = z
  .object({
    type: z.literal('gap'),
    timestamp,
    target,
    epoch: z.string().meta({ description: 'Epoch of what follows.' }),
    from: z.int().meta({ description: 'First offset that is missing (0 if the old epoch is lost as a whole).' }),
    to: z.int().meta({ description: 'Last offset that is missing.' }),
    reason: z.enum(['trimmed', 'epoch', 'unreadable']),
  })
  .meta({ description: 'Output is missing here and can no longer be had; what follows is complete again.' });

export const degradedMessageSchema = z
  .object({ type: z.literal('degraded'), timestamp, reason: z.string().meta({ description: 'For people.' }) })
  .meta({ description: 'The gateway has lost Redis: commands are refused, output pauses. The connection stays.' });
export const restoredMessageSchema = z
  .object({ type: z.literal('restored'), timestamp })
  .meta({ description: 'Redis is back; output that was written meanwhile follows.' });
export const migrateMessageSchema = z
  .object({
    type: z.literal('migrate'),
    timestamp,
    delay_ms: z
      .int()
      .meta({ description: 'Wait this long, then connect again; the old connection stays until `deadline_ms`.' }),
    deadline_ms: z.int().meta({ description: 'Who is still connected after this is disconnected.' }),
  })
  .meta({ description: 'The gateway will shut down: connect to another one.' });

export const workersMessageSchema = z
  .object({
    type: z.literal('workers'),
    timestamp,
    epoch: z.string().meta({ description: 'Versions compare only within one epoch.' }),
    version: z
      .int()
      .meta({ description: 'Version of the status with this change; resume with it and `epoch` at any gateway.' }),
    full: z.boolean().meta({ description: 'True: these are all workers, and whoever is not among them is gone.' }),
    workers: z.array(seenWorkerSchema).meta({
      description:
        'New and changed ones, whole, and those that have turned stale or fresh, which changes no version; one with `gone_at` has vanished.',
    }),
    removed: z.array(z.string()).meta({ description: 'Ids of workers to forget.' }),
  })
  .meta({ description: 'What changed about the workers. The first one answers the `subscribe`, also if nothing has.' });

/** Every server message by type, with whether an old client may receive it. */
export const SERVER_MESSAGES = {
  stdout: { schema: stdoutMessageSchema, optIn: false },
  stderr: { schema: stderrMessageSchema, optIn: false },
  result: { schema: resultMessageSchema, optIn: false },
  error: { schema: errorMessageSchema, optIn: false },
  status: { schema: statusMessageSchema, optIn: false },
  pong: { schema: pongMessageSchema, optIn: false },
  hello: { schema: helloMessageSchema, optIn: true },
  accepted: { schema: acceptedMessageSchema, optIn: true },
  subscribed: { schema: subscribedMessageSchema, optIn: true },
  unsubscribed: { schema: unsubscribedMessageSchema, optIn: true },
  started: { schema: startedMessageSchema, optIn: true },
  lines: { schema: linesMessageSchema, optIn: true },
  log: { schema: logMessageSchema, optIn: true },
  gap: { schema: gapMessageSchema, optIn: true },
  degraded: { schema: degradedMessageSchema, optIn: true },
  restored: { schema: restoredMessageSchema, optIn: true },
  migrate: { schema: migrateMessageSchema, optIn: true },
  workers: { schema: workersMessageSchema, optIn: true },
} as const;
type Schemas = { [T in keyof typeof SERVER_MESSAGES]: z.infer<(typeof SERVER_MESSAGES)[T]['schema']> };
export type ServerMessage = Schemas[keyof Schemas];
/** One server message by its type. */
export type ServerMessageOf<T extends keyof Schemas> = Schemas[T];
