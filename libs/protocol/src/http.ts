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
  timeout_seconds: z.number().positive().optional(),
  idempotent: z.boolean().optional(),
});

/** 202 answer to an accepted command. */
export const acceptedBodySchema = z.object({
  execution_id: z.string(),
  target: z.string(),
  position: z.int(),
  duplicate: z.boolean(),
});

/** Query of `GET /api/v1/executions`. */
export const executionsQuerySchema = z.strictObject({
  target: targetSchema.optional(),
  state: executionStateSchema.optional(),
  limit: z.coerce.number().int().min(1).max(500).default(50),
  before: z.string().optional().meta({ description: 'An execution id: only older ones.' }),
});
export const executionsBodySchema = z.object({
  executions: z.array(executionSchema),
  next: z.string().optional().meta({ description: 'Pass as `before` for the next page; absent on the last one.' }),
});
export const targetsBodySchema = z.object({ targets: z.array(targetStateSchema) });

/** Query of `GET /api/v1/executions/{id}/output`. */
export const outputQuerySchema = z.strictObject({
  format: z.enum(['text', 'json']).default('text'),
  follow: z.enum(['true', 'false']).default('false'),
  tail: z.coerce.number().int().min(0).max(TAIL_MAX).optional(),
});

/** Every error answer. */
export const errorBodySchema = z.object({
  error: z.string(),
  code: z.string(),
  retryable: z.boolean(),
});
