/** What is worth telling people of a step from one status to the next. Each is told once: a repeated plan has no step. */
import type { WorkerResourceStatus } from '@carrierarr/protocol';
import { conditionOf, type ConditionType, isTrue } from './conditions.js';
import { hasFailed } from './expectations.js';
import type { Situation } from './worker-conditions.js';
import { failureText } from './worker-decision.js';
import type { PlannedEvent } from './worker-view.js';

const GIVEN = { provision: 'Provisioning', start: 'Starting', stop: 'Stopping', terminate: 'Terminating' } as const;

/** Conditions whose becoming True is told, with how bad that is. */
const TOLD: readonly [ConditionType, PlannedEvent['type'], string][] = [
  ['Ready', 'Normal', 'Ready'],
  ['Interrupted', 'Warning', 'Interrupted'],
  ['Duplicate', 'Warning', 'DuplicateMachines'],
  ['Halted', 'Warning', 'RepairHalted'],
  ['IdleStopped', 'Normal', 'IdleStopped'],
];

export function eventsOf(
  before: WorkerResourceStatus | undefined,
  after: WorkerResourceStatus,
  situation: Situation,
  /** The last command as far as it was followed, before another took its place. */
  last: WorkerResourceStatus['lastCommand'],
): PlannedEvent[] {
  const { decision } = situation;
  const events: PlannedEvent[] = [];
  const earlier = before?.conditions ?? [];
  // Also when its source was not heard of in between.
  const wasUp = before?.wasReady === true && conditionOf(earlier, 'Ready')?.status !== 'False';
  const down = wasUp ? downText(situation) : undefined;
  if (down !== undefined) events.push({ type: 'Warning', reason: 'NotRunning', message: down });
  if (last !== undefined && hasFailed(last) && !(before?.lastCommand !== undefined && hasFailed(before.lastCommand)))
    events.push({ type: 'Warning', reason: 'CommandFailed', message: `${failureText(last)}.` });
  for (const [type, kind, reason] of TOLD) {
    const condition = conditionOf(after.conditions, type);
    if (condition?.status === 'True' && !isTrue(earlier, type))
      events.push({ type: kind, reason, message: condition.message });
  }
  const observed = conditionOf(after.conditions, 'Observed');
  if (observed?.reason === 'UnknownState' && conditionOf(earlier, 'Observed')?.reason !== 'UnknownState')
    events.push({ type: 'Warning', reason: 'UnknownState', message: observed.message });
  if (after.phase === 'Failed' && before?.phase !== 'Failed' && decision.kind === 'hold')
    events.push({ type: 'Warning', reason: 'GaveUp', message: decision.hold.message });
  if (decision.kind === 'give' && !decision.again)
    events.push({ type: 'Normal', reason: GIVEN[decision.verb], message: decision.message });
  return events;
}

/** What has become of a machine that is to run and does not; without it, nobody could tell why one is started again. */
function downText({ sight, wanted }: Situation): string | undefined {
  if (!sight.trusted || wanted.state !== 'running' || sight.phase === 'running') return undefined;
  const { record } = sight;
  if (record === undefined) return 'It is to run, and no source lists its machine any more.';
  const { id, source, state, reason } = record;
  return `It is to run, and ${source} tells that ${id} is ${state}${reason === undefined ? '' : `: ${reason}`}.`;
}
