/** What is going on on one target: in one question, since it is asked before each command that a leader gives. */
import { type Keys, partitionOf } from '@carrierarr/protocol';
import { callScript, type RedisConnection } from './connection.js';

export interface TargetCommands {
  /** Redis' clock, epoch ms. */
  nowMs: number;
  /** Commands that wait. */
  queued: number;
  /** Until when a lost runner keeps the target closed (Redis' clock, epoch ms); undefined if none does. */
  closedUntilMs: number | undefined;
  /** Those that wait or run, and the newest, each once; no probes, which do nothing to the target. */
  commands: {
    subject: string;
    /** The idempotency id it was given under. */
    token: string | undefined;
    hasEnded: boolean;
    endedAtMs: number | undefined;
  }[];
}

/** `waitingMax`, `newestMax`: commands looked at, at most. */
export async function targetCommands(
  { connection, keys }: { connection: RedisConnection; keys: Keys },
  target: string,
  { waitingMax, newestMax }: { waitingMax: number; newestMax: number },
): Promise<TargetCommands> {
  const [, now, queued, state, until, ...fields] = (await callScript(connection, 'carrierarrTargetCommands', [
    keys.queue(target),
    keys.lease(target),
    keys.executionsOf(target),
    keys.executionPrefix(partitionOf(target)),
    waitingMax,
    newestMax,
  ])) as string[];
  const commands: TargetCommands['commands'] = [];
  for (let i = 0; i + 3 < fields.length; i += 4) {
    const [subject = '', token, is, endedAt] = fields.slice(i, i + 4);
    const hasEnded = is === 'ended';
    commands.push({ subject, token: token || undefined, hasEnded, endedAtMs: hasEnded ? Number(endedAt) : undefined });
  }
  const closedUntilMs = state === 'closed' ? Number(until) : undefined;
  return { nowMs: Number(now), queued: Number(queued), closedUntilMs, commands };
}
