/** Bodies and queries of the HTTP routes. `openapi` documents are generated from these. */
import { z } from 'zod';
import { TAIL_MAX } from './client-messages.js';
import { executionSchema, executionStateSchema, targetStateSchema } from './records.js';
import { argsSchema, clientIdSchema, targetSchema, verbSchema } from './names.js';

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

/** Every error answer. */
export const errorBodySchema = z.object({
  error: z.string().meta({ description: 'What was received, and what to do.' }),
  code: z.string().meta({ description: 'Code of the table of errors.' }),
  retryable: z.boolean().meta({ description: 'The same request may succeed later.' }),
});
