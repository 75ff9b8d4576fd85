/**
 * Stopping what has nothing to do. A worker is stopped only when it says itself, in a fresh record or by an agent that is
 * still heard, that it has been idle for long enough, and nobody's command runs or waits. That it was stopped so is kept in the condition
 * `IdleStopped`, as its spec still asks for `running`: it runs again when its spec changes, when a window of its
 * schedule opens anew, or when somebody starts it by hand.
 */
import { durationMsOf, type Condition } from '@carrierarr/protocol';
import { conditionOf, type Statement } from './conditions.js';
import type { Wanted } from './desired.js';
import { idleMsOf } from './observation-of.js';
import type { Sight } from './sight.js';
import type { WorkerView } from './worker-view.js';

export interface Idleness {
  wanted: Wanted;
  /** What the condition `IdleStopped` is to say, if that changes. */
  statement?: Statement;
  /** When it can be idle for long enough at the earliest, ms from now. */
  requeueAfterMs?: number;
}

/**
 * What is wanted of a worker whose idleness counts.
 *
 * @param free nothing that was given is outstanding, so what is seen now is what came of it
 */
export function withIdleness(
  view: WorkerView,
  wanted: Wanted,
  conditions: readonly Condition[],
  sight: Sight,
  free: boolean,
): Idleness {
  if (wanted.state !== 'running') return { wanted };
  const before = conditionOf(conditions, 'IdleStopped');
  const idle = free && isIdle(view, sight);
  if (before?.status === 'True') {
    const again = whyAgain(before, view, wanted, free && sight.trusted && sight.phase === 'running' && !idle);
    if (again !== undefined) return { wanted, statement: again };
    return { wanted: stoppedForIdleness(wanted) };
  }
  const limitMs = limitOf(view);
  if (!idle || paused(view)) return { wanted, ...laterOf(view, sight, limitMs) };
  return {
    wanted: stoppedForIdleness(wanted),
    statement: {
      status: 'True',
      reason: 'IdleTimeout',
      message: `It reported to be idle for ${view.worker.spec.idleStopAfter} or longer, and is stopped until its spec changes, a window of its schedule opens, or somebody starts it.`,
    },
  };
}

function stoppedForIdleness(wanted: Wanted): Wanted {
  return { ...wanted, state: 'stopped', reason: 'Idle', message: 'It was idle for too long, and stays stopped.' };
}

function paused(view: WorkerView): boolean {
  return view.worker.spec.paused || view.poolPaused === true;
}

function limitOf(view: WorkerView): number | undefined {
  const { idleStopAfter } = view.worker.spec;
  return idleStopAfter === undefined ? undefined : durationMsOf(idleStopAfter);
}

function isIdle(view: WorkerView, sight: Sight): boolean {
  const limitMs = limitOf(view);
  const idleMs = idleMsOf(sight.record, view.nowMs);
  if (limitMs === undefined || idleMs === undefined || view.busy || view.keepReady !== undefined) return false;
  return sight.trusted && sight.phase === 'running' && idleMs >= limitMs;
}

function laterOf(view: WorkerView, sight: Sight, limitMs: number | undefined): { requeueAfterMs?: number } {
  const idleMs = idleMsOf(sight.record, view.nowMs);
  if (limitMs === undefined || idleMs === undefined || sight.phase !== 'running' || paused(view)) return {};
  return { requeueAfterMs: Math.max(5_000, limitMs - idleMs) };
}

/** Why a worker that was stopped for idleness is to run again; undefined while it is not. */
function whyAgain(before: Condition, view: WorkerView, wanted: Wanted, runs: boolean): Statement | undefined {
  if (before.observedGeneration !== view.worker.metadata.generation)
    return { status: 'False', reason: 'SpecChanged', message: 'Its spec was changed after it was stopped.' };
  if (wanted.openedAtMs !== undefined && wanted.openedAtMs > Date.parse(before.lastTransitionTime))
    return {
      status: 'False',
      reason: 'WindowOpened',
      message: 'A window of its schedule opened after it was stopped.',
    };
  if (runs)
    return {
      status: 'False',
      reason: 'RunningAgain',
      message: 'It runs and is not idle: somebody started or uses it.',
    };
  return undefined;
}
