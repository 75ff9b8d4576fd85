/** Connections that know our scripts. */
import type { Cluster, Redis } from 'ioredis';
import { CONTROL_SCRIPTS } from './lua/control-scripts.js';
import { MAIL_SCRIPTS } from './lua/mail-scripts.js';
import { NODE_SCRIPTS } from './lua/node-scripts.js';
import { COMMAND_SCRIPTS } from './lua/scripts.js';

const SCRIPTS = { ...COMMAND_SCRIPTS, ...CONTROL_SCRIPTS, ...NODE_SCRIPTS, ...MAIL_SCRIPTS };

/** A connection to one server, to Sentinel's master, or to a Cluster. */
export type RedisConnection = Redis | Cluster;

export type ScriptName = keyof typeof SCRIPTS;
type ScriptArgument = string | number | Buffer;
type ScriptMethods = Record<ScriptName, (...args: ScriptArgument[]) => Promise<unknown>>;

/**
 * Makes our scripts methods of the connection (EVALSHA, with EVAL after a server's restart). Call it once for each
 * connection, before the first {@link callScript}.
 */
export function defineScripts(connection: RedisConnection): void {
  for (const [name, script] of Object.entries(SCRIPTS)) connection.defineCommand(name, script);
}

/** Runs a script. Resolves to its reply: by our convention a list whose first item says what happened. */
export async function callScript(
  connection: RedisConnection,
  name: ScriptName,
  args: readonly ScriptArgument[],
): Promise<[string, ...unknown[]]> {
  const reply = await (connection as unknown as ScriptMethods)[name](...args);
  if (!Array.isArray(reply) || typeof reply[0] !== 'string') {
    throw new TypeError(`Script ${name} answered ${JSON.stringify(reply)}, not a list that begins with a word.`);
  }
  return reply as [string, ...unknown[]];
}
