/**
 * What a command that was given lets us expect, and how long nothing else may be given.
 *
 * A command is followed until it has ended; then until a poll that began later was seen; then, if it succeeded, until
 * the state it leads to is seen, or two minutes have passed and it counts as failed. Clouds answer from the past for
 * a while, so what contradicts a command that has just ended is not believed before a poll that began
 * {@link CLOUD_LAG_MS} after its end; and "there is no machine", which would make one, least of all: unless the machine
 * that the command made is named as gone.
 */
import type { GivenCommand, WorkerResourceStatus } from '@carrierarr/protocol';
import type { ObservedPhase } from './phases.js';
import type { Sight } from './sight.js';
import { goalOf, stepTo } from './verbs.js';
import type { ExecutionView } from './worker-view.js';

/** A command that succeeded without its effect being seen this long after its end counts as failed. */
export const EFFECT_WAIT_MS = 2 * 60_000;
/** How far in the past a cloud's answer may be. */
export const CLOUD_LAG_MS = 60_000;
/** How long the script of a lost runner may still be at work after it was declared lost: the runners bound it. */
export const LOST_SCRIPT_MS = 60_000;
/** A command that was written down and never accepted is submitted until this age: its token is remembered for 24 h. */
export const RESUBMIT_AGE_MAX_MS = 20 * 60 * 60_000;
/** Look again this soon while a new poll is waited for: a poll that changes no record tells nobody. */
export const POLL_RECHECK_MS = 5_000;
/** Look again this soon while a command runs; its end is told by other ways, mostly. */
export const COMMAND_RECHECK_MS = 30_000;

/** Why nothing may be given now. */
export interface Hold {
  reason: string;
  message: string;
  requeueAfterMs?: number;
  /** Only the same aim has to wait for it: what is there may be stopped or terminated. */
  sameAimOnly?: true;
}

/** The last command with what is known of its execution; the same object if nothing is new. */
export function followed(command: GivenCommand, execution: ExecutionView, nowMs: number): GivenCommand {
  if (command.outcome !== undefined) return command;
  switch (execution.state) {
    case 'none': {
      const tooOld = nowMs - Date.parse(command.requestedAt) > RESUBMIT_AGE_MAX_MS;
      // An execution that was there once and is not any more: Redis has lost it, and nobody will ever know.
      if (!tooOld && command.execution === undefined) return command;
      return { ...command, outcome: 'lost', endedAt: new Date(nowMs).toISOString() };
    }
    case 'queued':
    case 'running':
      return command.execution === execution.id ? command : { ...command, execution: execution.id };
    case 'ended': {
      const { id, outcome, exitCode, endedAtMs } = execution;
      return { ...command, execution: id, outcome, exitCode, endedAt: new Date(endedAtMs).toISOString() };
    }
  }
}

/** The last command with whether its effect was seen; the same object if that is still open, or was known. */
export function withEffect(command: GivenCommand, sight: Sight, nowMs: number): GivenCommand {
  if (command.outcome !== 'succeeded' || command.effect !== undefined || !sight.trusted) return command;
  const endedAtMs = endOf(command);
  if (sight.polledAtMs <= endedAtMs) return command;
  const progress = progressOf(command, sight.phase);
  if (progress === 'reached') return { ...command, effect: 'seen' };
  if (progress === 'underway') return command;
  if (hasMadeAndLost(command, sight)) return { ...command, effect: 'missing' };
  const late = nowMs >= endedAtMs + EFFECT_WAIT_MS && sight.polledAtMs >= endedAtMs + CLOUD_LAG_MS;
  return late ? { ...command, effect: 'missing' } : command;
}

/** Whether the command was written down and nobody has accepted it yet. */
export function isUnsubmitted(command: GivenCommand | undefined, execution: ExecutionView): boolean {
  return command !== undefined && command.outcome === undefined && execution.state === 'none';
}

/** Whether the command ended, and not as it was meant to. */
export function hasFailed(command: GivenCommand): boolean {
  return command.outcome !== undefined && (command.outcome !== 'succeeded' || command.effect === 'missing');
}

export interface Expecting {
  /** With its last command followed up to now. */
  status: Pick<WorkerResourceStatus, 'lastCommand' | 'workerId'>;
  execution: ExecutionView;
  sight: Sight;
  cloud: boolean;
  othersEndedAtMs?: number;
  nowMs: number;
}

/** Why nothing may be given now on account of what was given before; undefined if nothing is in the way. */
export function expectationHold({
  status,
  execution,
  sight,
  cloud,
  othersEndedAtMs,
  nowMs,
}: Expecting): Hold | undefined {
  const { lastCommand } = status;
  if (lastCommand !== undefined && lastCommand.outcome === undefined && execution.state !== 'none')
    return {
      reason: 'CommandRunning',
      message: `Its ${lastCommand.verb} is ${execution.state === 'queued' ? 'waiting to run' : 'running'}.`,
      requeueAfterMs: COMMAND_RECHECK_MS,
    };
  const own = lastCommand?.outcome === undefined ? undefined : lastCommand;
  const othersMs = othersEndedAtMs ?? -Infinity;
  const endedAtMs = own === undefined ? -Infinity : endOf(own);
  if (sight.polledAtMs <= Math.max(endedAtMs, othersMs)) {
    const verb = endedAtMs >= othersMs ? `its ${own?.verb}` : 'the last command given to it';
    return {
      reason: 'AwaitingPoll',
      message: `Waiting for a poll that begins after ${verb} ended.`,
      requeueAfterMs: POLL_RECHECK_MS,
    };
  }
  if (own !== undefined && awaitsEffect(own, sight.phase)) {
    const untilMs = endedAtMs + EFFECT_WAIT_MS;
    return {
      reason: 'AwaitingEffect',
      message: `Its ${own.verb} succeeded; until it is seen, or until ${new Date(untilMs).toISOString()}, nothing else is given.`,
      requeueAfterMs: Math.min(POLL_RECHECK_MS, Math.max(1, untilMs - nowMs)),
      sameAimOnly: true,
    };
  }
  const believableAtMs = believableAfterMs({ own, endedAtMs, othersMs, sight, cloud, workerId: status.workerId });
  if (sight.polledAtMs >= believableAtMs) return undefined;
  return {
    reason: 'Settling',
    message: `What is seen may be the past: waiting for a poll that begins after ${new Date(believableAtMs).toISOString()}.`,
    requeueAfterMs: Math.max(POLL_RECHECK_MS, believableAtMs - nowMs),
    sameAimOnly: true,
  };
}

/** From when on a poll must have begun for what it shows to be acted on; -Infinity if it can be at once. */
function believableAfterMs(o: {
  own: GivenCommand | undefined;
  endedAtMs: number;
  othersMs: number;
  sight: Sight;
  cloud: boolean;
  workerId: string | undefined;
}): number {
  const { own, endedAtMs, othersMs, sight, cloud, workerId } = o;
  const absent = sight.phase === 'absent';
  const afterOthersMs = cloud && absent ? othersMs + CLOUD_LAG_MS : -Infinity;
  if (own === undefined) return afterOthersMs;
  const makes = goalOf(own.verb) === 'running';
  let doubtful: boolean;
  if (!cloud) {
    // A script says what is; but one whose end nobody saw may still be at work.
    doubtful = absent && makes && own.outcome === 'lost';
  } else if (absent) {
    // Named as gone by its source, it is gone. Not being listed proves it only later; nor does the end of an older
    // machine say anything of one that was just made.
    const named = workerId !== undefined && sight.ended.includes(workerId);
    doubtful = makes ? !hasMadeAndLost(own, sight) : !named;
  } else {
    // Seen as it was meant to be, and now otherwise: more likely an old answer than a new fact.
    doubtful = own.effect === 'seen' && progressOf(own, sight.phase) === 'contrary';
  }
  if (!doubtful) return afterOthersMs;
  const actsUntilMs = own.outcome === 'lost' ? endedAtMs + LOST_SCRIPT_MS : endedAtMs;
  return Math.max(afterOthersMs, cloud ? actsUntilMs + CLOUD_LAG_MS : actsUntilMs);
}

/**
 * Whether the machine that a command made is named as gone: the newest that is known, and launched after all that were
 * known when the command was given, by the same clock. One command makes one machine; but the script of a lost runner may
 * not have come to that yet.
 */
function hasMadeAndLost({ verb, outcome, newestLaunch, requestedAt }: GivenCommand, sight: Sight): boolean {
  if (goalOf(verb) !== 'running' || outcome === undefined || outcome === 'lost' || !sight.newestHasEnded) return false;
  return sight.phase === 'absent' && sight.newestLaunchMs > Date.parse(newestLaunch ?? requestedAt);
}

function awaitsEffect(command: GivenCommand, phase: ObservedPhase): boolean {
  return command.outcome === 'succeeded' && command.effect === undefined && progressOf(command, phase) === 'contrary';
}

/** How far a phase is on the way that a verb leads. */
function progressOf(command: GivenCommand, phase: ObservedPhase): 'reached' | 'underway' | 'contrary' {
  const goal = goalOf(command.verb);
  if (goal === undefined) return 'reached';
  // A script may make a machine without starting it: then it is there, and `start` is next.
  if (command.verb === 'provision' && phase === 'stopped') return 'reached';
  if (goal === 'running') return phase === 'running' ? 'reached' : phase === 'pending' ? 'underway' : 'contrary';
  if (goal === 'stopped' && phase === 'pending') return 'contrary';
  const step = stepTo(goal, phase, false).kind;
  return step === 'verb' ? 'contrary' : step;
}

function endOf(command: GivenCommand): number {
  return command.endedAt === undefined ? -Infinity : Date.parse(command.endedAt);
}
