/**
 * Which machine a Worker is, out of the records of its target, and whether what was seen may be acted on. Seeing
 * nothing and not seeing are different things: only a complete, fresh view says that a machine is not there.
 */
import type { SeenWorker } from '@carrierarr/protocol';
import { type ObservedPhase, phaseOfRecord } from './phases.js';
import type { Observation } from './worker-view.js';

export interface Sight {
  /** May be acted on. */
  trusted: boolean;
  /** Why not, as reason and sentence. */
  doubt?: { reason: 'NotYetObserved' | 'Stale' | 'UnknownState'; message: string };
  phase: ObservedPhase;
  /** The record that stands for the Worker; of a machine that is gone, its last one. */
  record?: SeenWorker;
  /** Ids of the machines that are there, when there are several. */
  duplicates: string[];
  /** Ids of machines that their source names as gone: more than not being listed any more. */
  ended: string[];
  /** When the newest machine that is known was launched, by the clock of its cloud; -Infinity if none is. */
  newestLaunchMs: number;
  /** Its source names that newest one as gone. */
  newestHasEnded: boolean;
  /** When the newest complete poll began. */
  polledAtMs: number;
}

/**
 * Which of several machines is meant: one that works before one that may soon, before one whose state nobody knows
 * (it could be running: nothing may be started beside it), before those that need a start, before the gone.
 */
const ORDER: readonly ObservedPhase[] = [
  'running',
  'pending',
  'stopping',
  'unknown',
  'stopped',
  'terminating',
  'absent',
];

export function sightOf(observation: Observation): Sight {
  const seen = observation.workers.map((record) => ({ record, phase: phaseOfRecord(record) }));
  // Newest launch first, so the first of the best phase is the newest.
  const best = ORDER.map((phase) => seen.find((each) => each.phase === phase)).find((each) => each !== undefined);
  const living = seen.filter(({ phase }) => phase !== 'absent' && phase !== 'terminating');
  const phase = best?.phase ?? 'absent';
  const doubt = doubtOf(observation, phase, best?.record);
  const ended = seen
    .filter(({ record, phase: each }) => each === 'absent' && record.gone_at === undefined)
    .map(({ record }) => record.id);
  const newest = observation.workers[0];
  return {
    trusted: doubt === undefined,
    ...(doubt !== undefined && { doubt }),
    phase,
    ...(best !== undefined && { record: best.record }),
    duplicates: living.length > 1 ? living.map(({ record }) => record.id).toSorted() : [],
    ended,
    newestLaunchMs: Date.parse(newest?.launch_time ?? '') || -Infinity,
    newestHasEnded: newest !== undefined && ended.includes(newest.id),
    polledAtMs: observation.polledAtMs ?? -Infinity,
  };
}

function doubtOf(observation: Observation, phase: ObservedPhase, record: SeenWorker | undefined): Sight['doubt'] {
  if (observation.polledAtMs === undefined)
    return { reason: 'NotYetObserved', message: observation.detail ?? 'No complete poll of its source was seen yet.' };
  if (!observation.fresh)
    return { reason: 'Stale', message: observation.detail ?? 'Its source has not been heard of for three polls.' };
  const stale = observation.workers.find((each) => each.stale === true && each.gone_at === undefined);
  if (stale !== undefined)
    return { reason: 'Stale', message: `${stale.source} has not been heard of for three polls.` };
  if (phase === 'unknown')
    return {
      reason: 'UnknownState',
      message: `Its state ${JSON.stringify(record?.state ?? '')}, as ${record?.source ?? 'its source'} tells it, is not one that can be acted on.`,
    };
  return undefined;
}
