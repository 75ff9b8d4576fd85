/** What is wanted of a Worker now: by its spec, its schedule, its idleness, or because it is to be deleted. */
import { type DesiredState, TERMINATE_FINALIZER, type WorkerResource } from '@carrierarr/protocol';
import { checkSchedule, scheduleAt } from './schedule.js';

export interface Wanted {
  state: DesiredState;
  /** Why that state, as one word and a sentence. */
  reason: 'Spec' | 'Schedule' | 'Idle' | 'Deletion';
  message: string;
  /** The schedule changes its mind then. */
  changesAtMs?: number;
  /** Start of the window that opened last, if one is open. */
  openedAtMs?: number;
}

/** Why nobody can tell what is wanted. */
export interface Unclear {
  state: 'unclear';
  message: string;
}

/** What the spec asks for now, whether or not the worker is idle. */
export function wantedNow(worker: Pick<WorkerResource, 'metadata' | 'spec'>, nowMs: number): Wanted | Unclear {
  const { metadata, spec } = worker;
  if (metadata.deletionTimestamp !== undefined && metadata.finalizers.includes(TERMINATE_FINALIZER))
    return { state: 'absent', reason: 'Deletion', message: 'It is being deleted, and its machine goes first.' };
  if (spec.desired !== 'running' || spec.schedule === undefined)
    return { state: spec.desired, reason: 'Spec', message: `Its spec asks for ${spec.desired}.` };
  const problem = checkSchedule(spec.schedule);
  if (problem !== undefined) return { state: 'unclear', message: `spec.schedule.${problem}.` };
  const now = scheduleAt(spec.schedule, nowMs);
  const changes = now.changesAtMs === undefined ? {} : { changesAtMs: now.changesAtMs };
  if (now.open) {
    const until = new Date(now.changesAtMs).toISOString();
    return {
      ...{ state: 'running', reason: 'Schedule', message: `A window of its schedule is open until ${until}.` },
      ...{ ...changes, openedAtMs: now.openedAtMs },
    };
  }
  const next = now.changesAtMs === undefined ? 'never again' : `at ${new Date(now.changesAtMs).toISOString()}`;
  return {
    ...{ state: 'stopped', reason: 'Schedule', message: `No window of its schedule is open; the next opens ${next}.` },
    ...changes,
  };
}
