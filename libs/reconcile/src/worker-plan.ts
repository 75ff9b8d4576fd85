/**
 * What to do about one Worker now. Level-triggered: the answer depends on what is wanted, what is seen and what was
 * given before, never on how we got here; asked twice with the same view, it answers the same.
 *
 * The order is: follow the last command, look, ask what is wanted, decide, tell. A command is first written into the
 * status and then submitted under its token, so whoever finds it there without an execution submits it again.
 */
import { isDeepStrictEqual } from 'node:util';
import type { WorkerResource, WorkerResourceStatus } from '@carrierarr/protocol';
import { targetOf, TERMINATE_FINALIZER } from '@carrierarr/protocol';
import { backoffDelayMs } from './backoff.js';
import { type Unclear, type Wanted, wantedNow } from './desired.js';
import { expectationHold, followed, hasFailed, withEffect } from './expectations.js';
import { withIdleness } from './idle.js';
import { type Sight, sightOf } from './sight.js';
import { goalOf, isCloudWorker, type PlanVerb } from './verbs.js';
import { conditionsOf, phaseFor, type Situation } from './worker-conditions.js';
import { decide, type Decision } from './worker-decision.js';
import { eventsOf } from './worker-events.js';
import type { PlannedCommand, WorkerPlan, WorkerView } from './worker-view.js';

export function planWorker(view: WorkerView): WorkerPlan {
  const { worker, observation, execution, nowMs } = view;
  if (worker.metadata.deletionTimestamp !== undefined && !worker.metadata.finalizers.includes(TERMINATE_FINALIZER))
    return { status: undefined, finalized: true, events: [], summary: 'It goes, and its machine stays.' };

  const sight = sightOf(observation);
  const cloud = isCloudWorker(worker, sight);
  const status = followUp(view, statusBefore(worker), sight);
  const { lastCommand: last } = status;
  const expectation = expectationHold({
    ...{ status, execution, sight, cloud, nowMs },
    ...(view.othersEndedAtMs !== undefined && { othersEndedAtMs: view.othersEndedAtMs }),
  });
  const bySpec = wantedNow(worker, nowMs);
  const idleness =
    bySpec.state === 'unclear'
      ? undefined
      : withIdleness(view, bySpec, status.conditions, sight, expectation === undefined);
  const wanted = idleness?.wanted ?? bySpec;
  const decision = decide({ view, status, sight, wanted, cloud, expectation });
  if (decision.kind === 'finalize')
    return { status: undefined, finalized: true, events: [], summary: decision.message };

  const situation: Situation = {
    ...{ sight, wanted, decision, generation: worker.metadata.generation, nowMs },
    ...(idleness?.statement !== undefined && { idle: idleness.statement }),
  };
  if (sight.trusted) noteSight(status, sight);
  noteReadiness(status, situation);
  if (decision.kind === 'give' && !decision.again) noteCommand(view, status, sight, decision);
  status.conditions = conditionsOf(status.conditions, situation);
  status.phase = phaseFor(status, situation);

  const changed = !isDeepStrictEqual(status, worker.status);
  const requeueAfterMs = soonest(
    decision.kind === 'hold' ? decision.hold.requeueAfterMs : undefined,
    idleness?.requeueAfterMs,
    bySpec.state !== 'unclear' && bySpec.changesAtMs !== undefined ? bySpec.changesAtMs - nowMs : undefined,
  );
  return {
    // Where something is submitted, the write comes first even if it changes nothing: it fails if this plan was made
    // from something that Redis does not have any more, such as a Worker that is gone or another's newer note.
    status: changed || decision.kind === 'give' ? status : undefined,
    ...(decision.kind === 'give' && { command: commandOf(worker, status, decision.verb, wanted) }),
    events: changed ? eventsOf(worker.status, status, situation, last) : [],
    ...(requeueAfterMs !== undefined && { requeueAfterMs }),
    summary: summaryOf(decision),
  };
}

/** A copy of the status to change, with what a change of the spec resets. */
function statusBefore(worker: WorkerResource): WorkerResourceStatus {
  const { generation } = worker.metadata;
  const target = targetOf(worker);
  const before = worker.status;
  if (before === undefined)
    return { observedGeneration: generation, phase: 'Unknown', conditions: [], target, attempts: 0, failures: 0 };
  if (before.observedGeneration === generation) return { ...before, target };
  const { backoffUntil: _, wasReady: __, ...kept } = before;
  return { ...kept, target, observedGeneration: generation, failures: 0 };
}

/** Follows the last command, and counts it where it is now known to have failed. */
function followUp(view: WorkerView, status: WorkerResourceStatus, sight: Sight): WorkerResourceStatus {
  const { lastCommand: last } = status;
  if (last === undefined) return status;
  const now = withEffect(followed(last, view.execution, view.nowMs), sight, view.nowMs);
  const next = { ...status, lastCommand: now };
  const newlyFailed = hasFailed(now) && !hasFailed(last);
  if (!newlyFailed || now.generation !== view.worker.metadata.generation) return next;
  next.failures += 1;
  next.backoffUntil = new Date(view.nowMs + backoffDelayMs(next.failures, view.jitter)).toISOString();
  return next;
}

/** The time moves only with the state, or each poll would write each status. */
function noteSight(status: WorkerResourceStatus, { record, phase }: Sight): void {
  // The end of another machine than the one known last says nothing of that one.
  const another = phase === 'absent' && status.workerId !== undefined && record?.id !== status.workerId;
  if (record === undefined || another) {
    delete status.state;
    delete status.stateObservedAt;
    return;
  }
  const state = record.gone_at === undefined ? record.state : 'gone';
  // Only what was seen there is known to be its machine.
  const id = phase === 'absent' ? status.workerId : record.id;
  if (status.state !== state || status.workerId !== id) status.stateObservedAt = record.observed_at;
  status.state = state;
  if (id !== undefined) status.workerId = id;
  status.source = record.source;
}

function noteReadiness(status: WorkerResourceStatus, { sight, wanted, decision }: Situation): void {
  if (decision.kind === 'reached') {
    status.failures = 0;
    delete status.backoffUntil;
  }
  if (wanted.state !== 'running') delete status.wasReady;
  else if (sight.trusted && sight.phase === 'running') status.wasReady = true;
}

function noteCommand(
  view: WorkerView,
  status: WorkerResourceStatus,
  { newestLaunchMs }: Sight,
  { verb, message }: Decision & { kind: 'give' },
): void {
  const { uid, generation } = view.worker.metadata;
  // Failures are of one aim: those at starting say nothing of stopping.
  if (status.lastCommand !== undefined && goalOf(status.lastCommand.verb) !== goalOf(verb)) {
    status.failures = 0;
    delete status.backoffUntil;
  }
  status.attempts += 1;
  status.lastCommand = {
    verb,
    token: `cr:${uid}:${generation}:${status.attempts}:${verb}`,
    generation,
    attempt: status.attempts,
    reason: message,
    requestedAt: new Date(view.nowMs).toISOString(),
    ...(newestLaunchMs > -Infinity && { newestLaunch: new Date(newestLaunchMs).toISOString() }),
  };
}

function commandOf(
  worker: WorkerResource,
  status: WorkerResourceStatus,
  verb: PlanVerb,
  wanted: Wanted | Unclear,
): PlannedCommand {
  return {
    ...{ verb, args: worker.spec.args[verb] ?? [], token: status.lastCommand?.token ?? '' },
    ...(wanted.state !== 'unclear' && wanted.reason === 'Idle' && { onlyIfIdle: true as const }),
  };
}

function summaryOf(decision: Decision): string {
  if (decision.kind === 'hold') return decision.hold.message;
  if (decision.kind !== 'give') return decision.message;
  const again = decision.again ? ' (written down before, and submitted once more)' : '';
  return `${decision.verb}: ${decision.message}${again}`;
}

function soonest(...delaysMs: (number | undefined)[]): number | undefined {
  const known = delaysMs.filter((delayMs) => delayMs !== undefined);
  return known.length === 0 ? undefined : Math.max(1, Math.min(...known));
}
