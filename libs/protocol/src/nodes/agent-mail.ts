/**
 * What a runner and a monitor tell each other about a command that an agent runs. A runner writes a request, the monitor
 * that holds the node's stream passes it on, and writes what the agent answers. Both live in Redis, so either may be
 * replaced meanwhile; channels only hurry them.
 */
import { z } from 'zod';

/** A command for an agent. */
export const agentRequestSchema = z.object({
  execution: z.string(),
  target: z.string(),
  /** Of the execution. The agent's output is written with it. */
  fence: z.int(),
  type: z.string(),
  args: z.record(z.string(), z.string()),
  argv: z.array(z.string()).optional(),
  /** 0: none. */
  timeout_seconds: z.int(),
  kill_grace_ms: z.int(),
  outage_grace_ms: z.int(),
  output_bytes_max: z.int(),
});
export type AgentRequest = z.infer<typeof agentRequestSchema>;

/** How an agent's command ended. Of an old agent, with its output. */
export const agentResultSchema = z.object({
  end: z.enum(['exited', 'cancelled', 'refused', 'lost', 'out-of-touch']),
  exit_code: z.int(),
  /** Of an old agent only, and always there: false means that it failed, also where `exit_code` is 0. */
  success: z.boolean().optional(),
  signal: z.string().optional(),
  /** What went wrong, in the agent's words. */
  error: z.string().optional(),
  /** Of the newest entry that the agent sent; the log has it by then. */
  sequence: z.int(),
  lines: z.int(),
  truncated_lines: z.int(),
  stdout: z.string().optional(),
  stderr: z.string().optional(),
});
export type AgentResult = z.infer<typeof agentResultSchema>;
