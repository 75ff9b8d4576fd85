/** What becomes of the commands of one node: a pure function of its mail and of what its stream has been told. */
import type { OpenMail } from '@carrierarr/store';

/** A cancel, or a command that was not accepted, is said again after this, ms. */
export const REPEAT_MS = 5_000;

/** A mail, and whether its execution still has its target. */
export interface Mail extends Pick<OpenMail, 'execution' | 'state' | 'isKilled'> {
  fence: number;
  /** False: its runner is held for dead, or has ended it. Nobody waits for it, and another may be next. */
  hasLease: boolean;
}

export type CancelReason = 'kill' | 'fenced';

/** What a stream has been told, and what its agent says it runs. */
export interface StreamMail {
  /** The agent runs a command once however often it is sent, and can be told to end it. */
  readonly streamsCommands: boolean;
  /** When a command was last written to this stream, monotonic ms. */
  readonly sentMs: ReadonlyMap<string, number>;
  /** What the agent runs: its fence if that is known, else 0, and the round before which that was known. */
  readonly running: ReadonlyMap<string, { fence: number; round: number }>;
  readonly cancelled: ReadonlyMap<string, { reason: CancelReason; ms: number }>;
}

export type MailStep =
  | { kind: 'send'; execution: string }
  | { kind: 'cancel'; execution: string; fence: number; reason: CancelReason }
  /** Nobody waits for it any more. */
  | { kind: 'drop'; execution: string; fence: number };

/**
 * `mails`: those of the node that were looked at. `gone`: says of an execution that was looked for after `round` began, and has
 * no mail.
 */
export function planMail(
  mails: readonly Mail[],
  stream: StreamMail,
  { round, nowMs, gone }: { round: number; nowMs: number; gone: (execution: string) => boolean },
): MailStep[] {
  const steps: MailStep[] = [];
  const isDue = (ms: number | undefined) => ms === undefined || nowMs - ms >= REPEAT_MS;
  const cancel = (execution: string, fence: number, reason: CancelReason) => {
    if (!stream.streamsCommands) return;
    const before = stream.cancelled.get(execution);
    if (before?.reason === reason && !isDue(before.ms)) return;
    steps.push({ kind: 'cancel', execution, fence, reason });
  };
  for (const { execution, fence, state, isKilled, hasLease } of mails) {
    const isRunning = stream.running.has(execution);
    const sentMs = stream.sentMs.get(execution);
    if (!hasLease) {
      if (isRunning || sentMs !== undefined) cancel(execution, fence, 'fenced');
      steps.push({ kind: 'drop', execution, fence });
    } else if (!isRunning && (stream.streamsCommands ? isDue(sentMs) : state === 'waiting' && sentMs === undefined)) {
      steps.push({ kind: 'send', execution });
    } else if (isKilled) {
      cancel(execution, fence, 'kill');
    }
  }
  for (const [execution, { fence, round: since }] of stream.running) {
    // What was begun during the look may not have been seen by it.
    if (since < round && gone(execution)) cancel(execution, fence, 'fenced');
  }
  return steps;
}
