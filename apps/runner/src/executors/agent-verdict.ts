/**
 * What a look at a command's mail means: wait on, or how it ended. Pure.
 *
 * A command is given up only when its agent must have ended it (it was out of reach for longer than it goes on by
 * itself), or when the agent is there and does not say what became of it. Otherwise the target's next command could
 * start beside it.
 */
import { constants } from 'node:os';
import type { EndCause, ProgramExit } from '@carrierarr/execution';
import type { AgentResult } from '@carrierarr/protocol';
import type { MailLook } from '@carrierarr/store';

export interface AgentPatience {
  /** An agent that is out of reach for this long ends its command by itself, ms. */
  outageGraceMs: number;
  /** Between SIGTERM and SIGKILL, ms. */
  killGraceMs: number;
}

/** For clocks, timers and ways that are not exact, ms. */
export const AGENT_MARGIN_MS = 5_000;
/** After Redis was away, monitors have this long to say who is within reach, ms. */
export const SETTLE_MS = 10_000;
/** An agent that was within reach this recently is held for there; monitors say so every two seconds. */
const IN_TOUCH_MS = 6_000;

export interface Situation {
  /** How long looks have succeeded without a break, ms. */
  lookedForMs: number;
  /** Its end was asked for, this long ago, with this much grace. */
  ending?: { sinceMs: number; graceMs: number; cause: EndCause['kind'] | undefined };
}

export type MailVerdict =
  | { kind: 'wait' }
  /** It should be taken back: nobody can deliver it. */
  | { kind: 'undeliverable' }
  | { kind: 'lost'; reason: string }
  | { kind: 'ended'; result: AgentResult };

export function judgeLook(look: MailLook, situation: Situation, patience: AgentPatience): MailVerdict {
  if (look.kind === 'gone') return { kind: 'lost', reason: 'Redis lost the command on its way to the agent' };
  if (look.kind === 'ended') return { kind: 'ended', result: look.result };
  const { state, outOfTouchMs, isCancellable } = look;
  const { ending, lookedForMs } = situation;
  const isSettled = lookedForMs >= SETTLE_MS;
  if (state === 'waiting') {
    return isSettled && outOfTouchMs > patience.outageGraceMs ? { kind: 'undeliverable' } : { kind: 'wait' };
  }
  if (isSettled && outOfTouchMs > patience.outageGraceMs + patience.killGraceMs + AGENT_MARGIN_MS) {
    return { kind: 'lost', reason: `its agent was out of reach for ${Math.round(outOfTouchMs / 1000)} s` };
  }
  if (ending === undefined) return { kind: 'wait' };
  // It was told the timeout with the command, and may keep it.
  if (!isCancellable && ending.cause !== 'timed-out') {
    return { kind: 'lost', reason: 'its end was asked for, and an agent of this kind cannot be told' };
  }
  const isOverdue = ending.sinceMs > ending.graceMs + AGENT_MARGIN_MS;
  if (!isOverdue || outOfTouchMs > IN_TOUCH_MS) return { kind: 'wait' };
  return { kind: 'lost', reason: `its end was asked for, and the agent said nothing for ${seconds(ending.sinceMs)}` };
}

/** The exit code for a result; by signals as shells have it. */
export function exitOf({ exit_code: code, signal, success, error }: AgentResult): ProgramExit {
  const number = signal === undefined ? undefined : (constants.signals as Record<string, number>)[signal];
  if (number !== undefined) return { code: 128 + number };
  if (code < 0) return { code: 255 };
  const hasFailed = success === false || (success === undefined && error !== undefined && error !== '');
  return { code: code === 0 && hasFailed ? 1 : code };
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}
