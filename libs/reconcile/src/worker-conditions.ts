/** How a Worker's situation is told: its conditions and its phase. */
import type { Condition, WorkerPhase, WorkerResourceStatus } from '@carrierarr/protocol';
import { conditionOf, type ConditionType, type Statement, withCondition } from './conditions.js';
import type { Unclear, Wanted } from './desired.js';
import type { Sight } from './sight.js';
import { goalOf } from './verbs.js';
import type { Decision } from './worker-decision.js';

export interface Situation {
  sight: Sight;
  wanted: Wanted | Unclear;
  decision: Decision;
  /** What `IdleStopped` is to say, if that changes. */
  idle?: Statement;
  generation: number;
  nowMs: number;
}

/** The conditions now. Those that stand for something unusual are listed from the first time they are True. */
export function conditionsOf(before: readonly Condition[], situation: Situation): Condition[] {
  const { sight, decision, idle, generation, nowMs } = situation;
  let conditions = [...before];
  const set = (type: ConditionType, statement: Statement) => {
    conditions = withCondition(conditions, type, statement, { generation, nowMs });
  };
  const setUnusual = (type: ConditionType, holds: Statement | undefined, over: Statement) => {
    if (holds !== undefined) set(type, holds);
    else if (conditionOf(conditions, type)?.status === 'True') set(type, over);
  };
  set('Ready', readyOf(situation));
  set('Synced', syncedOf(situation));
  set('Observed', observedOf(sight));
  if (sight.trusted) {
    setUnusual('Interrupted', interruptedOf(sight), no('Over', 'Its provider announces nothing any more.'));
    setUnusual('Duplicate', duplicateOf(sight), no('One', 'It has one machine at most.'));
  }
  const halted = decision.kind === 'hold' && decision.cause === 'halted' ? decision.hold : undefined;
  setUnusual('Halted', halted && yes('TooManyBad', halted.message), no('NotHalted', 'It may be repaired.'));
  if (idle !== undefined) set('IdleStopped', idle);
  return conditions;
}

function readyOf({ sight, wanted, decision }: Situation): Statement {
  if (!sight.trusted) return { status: 'Unknown', ...(sight.doubt ?? unseen) };
  if (wanted.state === 'running' && sight.phase === 'running') return yes('Running', 'It runs, as wanted.');
  if (wanted.state === 'stopped' && decision.kind === 'reached') return no('Stopped', wanted.message);
  if (decision.kind === 'hold') return no(decision.hold.reason, decision.hold.message);
  return no(sight.phase === 'running' ? 'NotWanted' : 'NotRunning', decision.message);
}

function syncedOf({ sight, decision }: Situation): Statement {
  if (!sight.trusted) return { status: 'Unknown', ...(sight.doubt ?? unseen) };
  switch (decision.kind) {
    case 'reached':
    case 'finalize':
      return yes('AsWanted', decision.message);
    case 'give':
      return no('CommandGiven', `${decision.verb} is given: ${decision.message}`);
    case 'hold':
      return no(decision.hold.reason, decision.hold.message);
  }
}

const unseen = { reason: 'NotYetObserved', message: 'No complete poll of its source was seen yet.' };

function observedOf(sight: Sight): Statement {
  if (!sight.trusted) return no((sight.doubt ?? unseen).reason, (sight.doubt ?? unseen).message);
  const { record } = sight;
  if (record === undefined) return yes('NotListed', 'Its source lists no machine for it.');
  return yes(
    'Seen',
    record.gone_at === undefined ? `Seen by ${record.source}.` : `Gone, as ${record.source} last saw.`,
  );
}

function interruptedOf({ record, phase }: Sight): Statement | undefined {
  if (record?.interruption === undefined || phase === 'absent') return undefined;
  const { kind, at, detail } = record.interruption;
  const reason = {
    spot: 'SpotInterruption',
    rebalance: 'RebalanceRecommendation',
    'scheduled-event': 'ScheduledEvent',
  };
  return yes(reason[kind], `${detail}${at === undefined ? '' : `, at ${at}`}`);
}

function duplicateOf({ duplicates }: Sight): Statement | undefined {
  if (duplicates.length === 0) return undefined;
  return yes(
    'SeveralMachines',
    `${duplicates.length} machines are its target: ${duplicates.join(', ')}. The newest running one is acted on; end the others by hand.`,
  );
}

/** The phase in one word: where a command of ours is under way it says where to. */
export function phaseFor(status: WorkerResourceStatus, { sight, wanted, decision }: Situation): WorkerPhase {
  if (!sight.trusted) return 'Unknown';
  if (decision.kind === 'hold' && decision.cause === 'failed') return 'Failed';
  const held = decision.kind === 'hold' ? decision.hold.reason : undefined;
  if (decision.kind === 'give' || held === 'CommandRunning' || held === 'AwaitingEffect' || held === 'AwaitingPoll')
    switch (goalOf(decision.kind === 'give' ? decision.verb : (status.lastCommand?.verb ?? ''))) {
      case 'running':
        return 'Starting';
      case 'stopped':
        return 'Stopping';
      case 'absent':
        return 'Terminating';
      case undefined:
        break;
    }
  switch (sight.phase) {
    case 'pending':
      return 'Starting';
    case 'running':
      return 'Running';
    case 'stopping':
      return 'Stopping';
    case 'stopped':
      return 'Stopped';
    case 'terminating':
      return 'Terminating';
    case 'absent':
      return wanted.state === 'running' ? 'Pending' : 'Absent';
    case 'unknown':
      return 'Unknown';
  }
}

function yes(reason: string, message: string): Statement {
  return { status: 'True', reason, message };
}

function no(reason: string, message: string): Statement {
  return { status: 'False', reason, message };
}
