/** The environment of a script: the runner's own, less what configures carrierarr, plus what the script is told. */
import { createHash } from 'node:crypto';
import type { Execution } from '@carrierarr/protocol';

/** Set by whoever started the runner, for the runner alone. */
const NEVER_PASSED = new Set(['EC2_AGENT_TARGET', 'NODE_CHANNEL_FD', 'NODE_CHANNEL_SERIALIZATION_MODE']);

export interface ScriptEnvironmentOptions {
  /** The runner's environment. */
  env: NodeJS.ProcessEnv;
  /** Variables of carrierarr's configuration that do not begin with CARRIERARR_; those never are passed on. */
  configNames: Iterable<string>;
  execution: Execution;
  fence: number;
}

/** Nothing in it comes from a client but the target's name. */
export function scriptEnvironment({
  env,
  configNames,
  execution,
  fence,
}: ScriptEnvironmentOptions): Record<string, string> {
  const hidden = new Set([...NEVER_PASSED, ...configNames]);
  const passed: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (value !== undefined && !name.startsWith('CARRIERARR_') && !hidden.has(name)) passed[name] = value;
  }
  return {
    ...passed,
    // The name that scripts written for the old server read.
    EC2_AGENT_TARGET: execution.target,
    CARRIERARR_TARGET: execution.target,
    CARRIERARR_EXECUTION_ID: execution.id,
    CARRIERARR_FENCE: String(fence),
    CARRIERARR_ATTEMPT: String(execution.attempt),
    CARRIERARR_COMMAND_TOKEN: commandToken(execution),
  };
}

/**
 * The same for every run of what a client means to be one command, so that a script can hand it to a provider as an
 * idempotency token: 64 characters, which is the most that EC2's ClientToken takes.
 */
function commandToken({ id, subject, target, client_id }: Execution): string {
  const meant = client_id === undefined ? id : `${subject}\n${target}\n${client_id}`;
  return createHash('sha256').update(meant).digest('hex');
}
