/** The environment of a program: that of who starts it, less what configures carrierarr, plus what the program is told. */
import { createHash } from 'node:crypto';
import type { Execution } from '@carrierarr/protocol';

/** Set by whoever started the process that starts the program, for that process alone. */
const NEVER_PASSED = new Set(['EC2_AGENT_TARGET', 'NODE_CHANNEL_FD', 'NODE_CHANNEL_SERIALIZATION_MODE']);

/** What a program is told about its execution. */
export interface ExecutionFacts {
  target: string;
  /** Its id. */
  execution: string;
  fence: number;
  attempt: number;
  /** See {@link commandToken}. */
  token: string;
}

export interface ProgramEnvironmentOptions {
  /** The environment of the process that starts the program. */
  env: NodeJS.ProcessEnv;
  /** Variables of carrierarr's configuration that do not begin with CARRIERARR_; those never are passed on. */
  configNames: Iterable<string>;
  facts: ExecutionFacts;
}

/** Nothing in it comes from a client but the target's name. */
export function programEnvironment({ env, configNames, facts }: ProgramEnvironmentOptions): Record<string, string> {
  const hidden = new Set([...NEVER_PASSED, ...configNames]);
  const passed: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (value !== undefined && !name.startsWith('CARRIERARR_') && !hidden.has(name)) passed[name] = value;
  }
  return {
    ...passed,
    // The name that scripts written for the old server read.
    EC2_AGENT_TARGET: facts.target,
    CARRIERARR_TARGET: facts.target,
    CARRIERARR_EXECUTION_ID: facts.execution,
    CARRIERARR_FENCE: String(facts.fence),
    CARRIERARR_ATTEMPT: String(facts.attempt),
    CARRIERARR_COMMAND_TOKEN: facts.token,
  };
}

/**
 * The same for every run of what a client means to be one command, so that a script can hand it to a provider as an
 * idempotency token: 64 characters, which is the most that EC2's ClientToken takes.
 */
export function commandToken({ id, subject, target, client_id }: Execution): string {
  const meant = client_id === undefined ? id : `${subject}\n${target}\n${client_id}`;
  return createHash('sha256').update(meant).digest('hex');
}
