/** What others do on a Worker's target: while they do, nothing is done about it, and what was seen before they ended is old. */
import { SYSTEM_SUBJECTS, type WorkerResource } from '@carrierarr/protocol';
import { goalOf } from './verbs.js';

/** A command on the target, as far as it counts here. */
export interface TargetCommand {
  subject: string;
  /** The idempotency id it was given under. */
  token: string | undefined;
  /** It neither waits nor runs any more. */
  hasEnded: boolean;
  /** Epoch ms. */
  endedAtMs: number | undefined;
}

/** What is going on on a target, as it was asked for within {@link LOOKED_AT}. */
export interface TargetWork {
  /** By the clock of what follows, epoch ms. */
  nowMs: number;
  /** Commands that wait. */
  queued: number;
  /** Until when a lost runner keeps the target closed; undefined if none does. */
  closedUntilMs: number | undefined;
  commands: readonly TargetCommand[];
}

/**
 * Commands of a target looked at: with more waiting than these some are surely not the reconciler's, which has one at a
 * time; and what ended since the last poll is among the newest.
 */
export const LOOKED_AT = { waitingMax: 8, newestMax: 10 } as const;

export interface OthersWork {
  /** Another command runs or waits, or the script of a lost runner may still be at work. */
  busy: boolean;
  /** When the last of them ended (of a lost one: when the target opened again), epoch ms, if it is known. */
  endedAtMs: number | undefined;
  /** Until when the target is closed after the loss of a runner, if it is. */
  closedUntilMs?: number;
}

/** What others than a Worker's last command do on its target, and did last. */
export function othersOn(worker: Pick<WorkerResource, 'metadata' | 'status'>, work: TargetWork): OthersWork {
  const { nowMs, queued, closedUntilMs, commands } = work;
  const others = othersWork(worker, commands);
  if (queued > LOOKED_AT.waitingMax) others.busy = true;
  if (closedUntilMs === undefined) return others;
  const endedAtMs = Math.max(closedUntilMs, others.endedAtMs ?? 0);
  return closedUntilMs > nowMs ? { busy: true, endedAtMs, closedUntilMs } : { ...others, endedAtMs };
}

/**
 * Whether others than a Worker's last command are at work among `commands`, and when the last of them ended. Others are
 * people, monitors that end the machine of a dead node, and also the reconciler, under notes that were replaced, or for
 * a Worker of the same name that is no more.
 */
export function othersWork(
  { metadata, status }: Pick<WorkerResource, 'metadata' | 'status'>,
  commands: readonly TargetCommand[],
): { busy: boolean; endedAtMs: number | undefined } {
  let busy = false;
  let endedAtMs: number | undefined;
  for (const { subject, token, ...command } of commands) {
    const isOurs = subject === SYSTEM_SUBJECTS.reconciler && token !== undefined;
    if (isOurs && token === status?.lastCommand?.token) continue;
    if (!command.hasEnded) busy = true;
    else if (!isOurs || mayShowLate(token, metadata.uid)) endedAtMs = Math.max(endedAtMs ?? 0, command.endedAtMs ?? 0);
  }
  return { busy, endedAtMs };
}

/**
 * Whether a command of the reconciler that has ended may still bring something to light. What this Worker's earlier
 * commands came to is known: none is given before the one before it was understood. Of those of a Worker that is no more,
 * only what makes a machine counts: it went when its machine had been seen to be gone.
 */
function mayShowLate(token: string, uid: string): boolean {
  if (token.startsWith(`cr:${uid}:`)) return false;
  return goalOf(token.slice(token.lastIndexOf(':') + 1)) === 'running';
}
