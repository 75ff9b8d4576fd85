/** Why a command was not accepted, and what may have become of it, in words for who gave it. */
import { ClientError, isAgentVerb } from '@carrierarr/protocol';
import type { CommandRequest } from './commands.js';
import { shown } from './problem.js';
import type { RedisAwayError } from './redis-health.js';

export function whatIsKnown(
  { wasSent }: RedisAwayError,
  { command, clientId }: CommandRequest,
  target: string,
): string {
  const what = `${shown(command)} for ${shown(target)}`;
  if (!wasSent) return `${what} was not accepted. Try again in a moment.`;
  if (clientId !== undefined)
    return `Whether ${what} was accepted is unknown: send it again with the same id to find out.`;
  return (
    `Whether ${what} was accepted is unknown: look at GET /api/v1/executions?target=${encodeURIComponent(target)} before you send ` +
    'it again. With an id it could be repeated without harm.'
  );
}

export function hasLeft(command: string, target: string, agoMs: number): ClientError {
  return new ClientError(
    'node_not_connected',
    `${shown(command)} for ${shown(target)} was not accepted: the agent of that node signed off ${seconds(agoMs)} ago. Try again when ` +
      'the node is connected; GET /api/v1/nodes tells.',
  );
}

/** Of a verb that agents know, too: what it would have been for is no node. */
export function noScript(command: string, target: string): ClientError {
  if (isAgentVerb(command)) {
    return new ClientError(
      'node_not_connected',
      `Cannot run ${shown(command)}: ${shown(target)} is no node with an agent (GET /api/v1/nodes lists them), and no control ` +
        'script is configured that could run it.',
    );
  }
  return new ClientError(
    'no_script',
    `Cannot run ${shown(command)}: no control script is configured. Start carrierarr with -script FILE.`,
  );
}

export function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}
