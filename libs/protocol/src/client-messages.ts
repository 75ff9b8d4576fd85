/**
 * Messages from client to gateway on `/ws`. Old clients send the first fields of `command`, `subscribe` and `ping`;
 * everything else is optional and opts in to something new. Unknown fields are ignored: a newer client must be able
 * to talk to an older gateway.
 */
import { z } from 'zod';
import { argsSchema, clientIdSchema, targetPatternSchema, verbSchema } from './names.js';
import { statusPointSchema } from './worker-status.js';

/** Largest value of `tail`, in lines. */
export const TAIL_MAX = 10_000;

export const logPointSchema = z
  .object({ epoch: z.string().max(64), offset: z.int().min(0) })
  .meta({ description: "Position in a target's output log: the last offset the client has seen, and its epoch." });
/** The last offset seen, and the epoch it belongs to. */
export type LogPoint = z.infer<typeof logPointSchema>;

export const commandMessageSchema = z
  .object({
    type: z.literal('command'),
    command: verbSchema.meta({ description: 'Verb for the control script; `kill` ends the running command instead.' }),
    args: argsSchema.nullish().meta({ description: 'Further arguments of the control script. Never through a shell.' }),
    target: z.string().nullish().meta({ description: 'Empty or absent means `default`.' }),
    id: clientIdSchema.optional().meta({ description: 'Idempotency id. The gateway answers `accepted`.' }),
    timeout_seconds: z
      .number()
      .positive()
      .optional()
      .meta({ description: "Ends the command after this time; at most the runner's limit." }),
    idempotent: z.boolean().optional().meta({ description: 'The command may be run again if its runner is lost.' }),
  })
  .meta({
    description: 'Runs `<script> <command> <args...>` for a target, after all commands accepted for it before.',
  });

export const subscribeMessageSchema = z
  .object({
    type: z.literal('subscribe'),
    target: targetPatternSchema
      .nullish()
      .meta({ description: 'Target or pattern with `*`; empty, absent or `*` means everything.' }),
    tail: z
      .int()
      .min(0)
      .max(TAIL_MAX)
      .optional()
      .meta({ description: 'First send the last n lines of each matching target.' }),
    since: z
      .union([logPointSchema, z.object({ time: z.iso.datetime({ offset: true }) })])
      .optional()
      .meta({ description: 'First send all that followed this point. Only `{time}` for a pattern.' }),
    positions: z
      .record(z.string(), logPointSchema)
      .optional()
      .meta({ description: 'For a pattern: the point seen of each target; others resume at `since.time`, or live.' }),
    offsets: z
      .boolean()
      .optional()
      .meta({ description: 'Output carries `epoch`, `offset` and `execution_id`; `gap` is sent.' }),
    batch: z
      .boolean()
      .optional()
      .meta({ description: 'Output comes as `lines` messages, many lines each. Implies `offsets`.' }),
    notices: z.boolean().optional().meta({ description: 'Asks for `degraded`, `restored` and `migrate`.' }),
    status: z.literal(false).optional().meta({
      description: 'Asks for no `status` from now on: of a large fleet it is megabytes, each second at worst.',
    }),
    workers: z
      .union([z.literal(true), statusPointSchema])
      .optional()
      .meta({
        description:
          'Asks for `workers` in place of `status`: all of them, or what changed after the last one seen. Without `target` it changes nothing about output.',
      }),
  })
  .meta({
    description:
      'Adds a subscription. A connection without `carrierarr.v1` watches everything until its first `subscribe` to something else.',
  });

export const unsubscribeMessageSchema = z
  .object({
    type: z.literal('unsubscribe'),
    target: targetPatternSchema
      .nullish()
      .meta({ description: 'As it was subscribed; empty, absent or `*` ends the subscription to everything.' }),
  })
  .meta({ description: 'Ends a subscription. The gateway answers `unsubscribed`.' });

export const pingMessageSchema = z
  .object({ type: z.literal('ping') })
  .meta({ description: 'Keep-alive. The gateway answers `pong`.' });

export const authenticateMessageSchema = z
  .object({
    type: z.literal('authenticate'),
    token: z.string().min(1).max(16_384).meta({ description: 'A token of the tokens file, or a JSON Web Token.' }),
  })
  .meta({
    description:
      'Shows the token, on a `carrierarr.v1` connection that showed none when it was opened. Needed before anything but `ping`.',
  });

export const clientMessageSchema = z.discriminatedUnion('type', [
  commandMessageSchema,
  subscribeMessageSchema,
  unsubscribeMessageSchema,
  pingMessageSchema,
  authenticateMessageSchema,
]);
export type CommandMessage = z.infer<typeof commandMessageSchema>;
export type SubscribeMessage = z.infer<typeof subscribeMessageSchema>;
export type UnsubscribeMessage = z.infer<typeof unsubscribeMessageSchema>;
export type ClientMessage = z.infer<typeof clientMessageSchema>;

/** The subprotocol of clients that know every message of this version; others opt in field by field. */
export const SUBPROTOCOL = 'carrierarr.v1';
/** A browser, which cannot set headers, offers its token as a second subprotocol: this prefix and the token in base64url. */
export const TOKEN_SUBPROTOCOL_PREFIX = 'carrierarr.bearer.';
