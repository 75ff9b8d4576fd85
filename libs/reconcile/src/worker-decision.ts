/**
 * The one thing to do for a Worker now, or the one reason that nothing is done: the first of the rules below that
 * applies. Whatever is in doubt holds; a command is what remains when nothing holds.
 */
import type { WorkerResourceStatus } from '@carrierarr/protocol';
import type { Unclear, Wanted } from './desired.js';
import { CLOUD_LAG_MS, hasFailed, type Hold, isUnsubmitted, POLL_RECHECK_MS } from './expectations.js';
import type { Sight } from './sight.js';
import { goalOf, type PlanVerb, type Step, stepTo } from './verbs.js';
import type { WorkerView } from './worker-view.js';

/** What a control script answers to a wrong use of it (EX_USAGE): the same command cannot do better next time. */
const EXIT_USAGE = 64;

const CANNOT_STOP =
  'Its machine is a spot instance that cannot be stopped, and runs on; its stop is not tried again. Set `desired: absent` to ' +
  'terminate it, or make the machine on demand, or by a persistent spot request whose interruption behaviour is `stop`.';

export type Decision =
  | { kind: 'finalize'; message: string }
  | { kind: 'reached'; message: string }
  /** `again`: with the token that was written down for it before. */
  | { kind: 'give'; verb: PlanVerb; message: string; again: boolean }
  | { kind: 'hold'; hold: Hold; cause?: 'failed' | 'halted' };

export interface Deciding {
  view: WorkerView;
  /** With its last command followed up to now. */
  status: WorkerResourceStatus;
  sight: Sight;
  wanted: Wanted | Unclear;
  cloud: boolean;
  /** What the last command holds up. */
  expectation: Hold | undefined;
}

export function decide({ view, status, sight, wanted, cloud, expectation }: Deciding): Decision {
  const { worker } = view;
  if (wanted.state === 'unclear') return hold('InvalidSchedule', wanted.message);
  if (sight.doubt !== undefined)
    return hold(sight.doubt.reason, `Nothing is done: ${sight.doubt.message}`, POLL_RECHECK_MS);
  const step = stepTo(wanted.state, sight.phase, cloud);
  const closed = closedHold(view);
  if (closed !== undefined && step.kind === 'verb') return { kind: 'hold', hold: closed };
  if (expectation !== undefined && !isOtherAim(status, wanted, sight, step, expectation))
    return { kind: 'hold', hold: expectation };
  if (step.kind === 'reached') {
    if (wanted.reason !== 'Deletion') return { kind: 'reached', message: `It is as wanted. ${wanted.message}` };
    if (closed !== undefined) return { kind: 'hold', hold: closed };
    if (view.busy) return hold('Busy', "Its machine is gone; somebody's command for it is still waiting or running.");
    if (mayStillArrive(status, view))
      return hold('Settling', 'Its machine is gone, but what was given last may still arrive.', POLL_RECHECK_MS);
    return { kind: 'finalize', message: 'Its machine is gone.' };
  }
  if (step.kind === 'underway') return hold('Underway', `It is ${sight.phase}: waiting for that to end.`);
  const { verb } = step;
  if (view.busy) return hold('Busy', `${verb} waits: somebody's command for it is running or waiting.`);
  if (worker.spec.paused) return hold('Paused', `It is paused: ${verb} is not given until it is resumed.`);
  if (view.poolPaused === true) return hold('Paused', `Its pool is paused: ${verb} is not given until it is resumed.`);
  if (view.halted !== undefined && wanted.state === 'running' && status.wasReady === true)
    return { ...hold('Halted', view.halted), cause: 'halted' };
  if (isUnsubmitted(status.lastCommand, view.execution) && status.lastCommand?.verb === verb)
    return { kind: 'give', verb, message: wanted.message, again: true };
  return afterFailures(status, wanted, view, sight) ?? { kind: 'give', verb, message: wanted.message, again: false };
}

/** Nothing runs on a target whose runner was lost until its script must have ended. */
function closedHold({ closedUntilMs, nowMs }: WorkerView): Hold | undefined {
  if (closedUntilMs === undefined) return undefined;
  return {
    reason: 'QueueClosed',
    message:
      `Its queue is closed until ${new Date(closedUntilMs).toISOString()}: the runner of its last command was lost, and the ` +
      'script may still be at work. It opens by itself then, and within seconds when that runner is started again with the same --runner-id.',
    requeueAfterMs: Math.max(1, closedUntilMs - nowMs),
  };
}

/** Whether something is to be done to a machine that is there, for another end than the last command's. */
function isOtherAim(
  status: WorkerResourceStatus,
  wanted: Wanted,
  sight: Sight,
  step: Step,
  expectation: Hold,
): boolean {
  if (expectation.sameAimOnly !== true || step.kind !== 'verb' || sight.phase === 'absent') return false;
  return goalOf(status.lastCommand?.verb ?? '') !== wanted.state;
}

/** Whether a command that makes a machine was written down lately, and whoever submitted it has had no answer yet. */
function mayStillArrive({ lastCommand }: WorkerResourceStatus, { execution, nowMs }: WorkerView): boolean {
  if (lastCommand === undefined || !isUnsubmitted(lastCommand, execution)) return false;
  return goalOf(lastCommand.verb) === 'running' && nowMs - Date.parse(lastCommand.requestedAt) < CLOUD_LAG_MS;
}

/** Why no further attempt is made, or not yet, at what the last command failed at. */
function afterFailures(
  status: WorkerResourceStatus,
  wanted: Wanted,
  view: WorkerView,
  sight: Sight,
): Decision | undefined {
  const { lastCommand: last, failures, backoffUntil } = status;
  const { generation } = view.worker.metadata;
  if (last === undefined || !hasFailed(last)) return undefined;
  if (last.generation !== generation || goalOf(last.verb) !== wanted.state) return undefined;
  const how = failureText(last);
  // Only the script knows which kind of spot request its machine came from: a persistent one can be stopped.
  if (last.verb === 'stop' && last.exitCode === EXIT_USAGE && sight.record?.lifecycle === 'spot')
    return { ...hold('CannotStop', `${how}. ${CANNOT_STOP}`), cause: 'failed' };
  if (last.outcome === 'rejected' || last.exitCode === EXIT_USAGE)
    return {
      ...hold('WrongUse', `${how}. The same command would end the same: it is left alone until its spec changes.`),
      cause: 'failed',
    };
  if (failures > view.worker.spec.maxRetries)
    return {
      ...hold(
        'RetriesExhausted',
        `${how}, and ${failures} commands in a row failed: it is left alone until its spec changes.`,
      ),
      cause: 'failed',
    };
  const waitMs = backoffUntil === undefined ? 0 : Date.parse(backoffUntil) - view.nowMs;
  return waitMs > 0 ? hold('Backoff', `${how}; tried again after ${backoffUntil}.`, waitMs) : undefined;
}

/** A failed command as a sentence without its stop. */
export function failureText({
  verb,
  outcome,
  exitCode,
  effect,
}: NonNullable<WorkerResourceStatus['lastCommand']>): string {
  if (effect === 'missing') return `Its ${verb} succeeded, but what it was to bring about was not seen`;
  if (outcome === 'lost') return `The runner of its ${verb} was lost, and with it what became of it`;
  return `Its ${verb} ${outcome === 'failed' ? `failed with exit code ${exitCode}` : `ended as ${outcome}`}`;
}

function hold(reason: string, message: string, requeueAfterMs?: number): Extract<Decision, { kind: 'hold' }> {
  return { kind: 'hold', hold: { reason, message, ...(requeueAfterMs !== undefined && { requeueAfterMs }) } };
}
