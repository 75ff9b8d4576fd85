/**
 * When many workers go bad at once, the cause is hardly the workers: a zone is down, a key was revoked, a source
 * lies. Starting them all again then makes things worse and costs money, so repair of their group stops until they
 * are back or somebody touches their specs.
 */
import { sightOf } from './sight.js';
import { wantedNow } from './desired.js';
import type { WorkerView } from './worker-view.js';

/** Workers that went bad within this time went bad at once. */
export const HALT_WINDOW_MS = 10 * 60_000;
/** Share of a group that may be bad at once; one worker may always be. */
export const HALT_SHARE = 0.2;

export interface HaltMember {
  name: string;
  /** Its pool; '' for Workers outside pools. */
  group: string;
  /** It was running as desired, and nobody has stopped it on purpose since, or touched its spec. */
  wasReady: boolean;
  /** It is wanted running and surely is not. */
  bad: boolean;
}

/** What is carried from one judgement to the next. A new leader begins with an empty one, and then errs by halting. */
export interface HaltMemory {
  /** When each bad worker was first seen bad, epoch ms. */
  badSinceMs: ReadonlyMap<string, number>;
  halted: ReadonlySet<string>;
}

export const NO_HALTS: HaltMemory = { badSinceMs: new Map(), halted: new Set() };

export interface Halts {
  /** Why, by group. */
  halted: ReadonlyMap<string, string>;
  memory: HaltMemory;
}

/** Most bad workers that a group of a size may have at once. */
export function haltLimitOf(groupSize: number): number {
  return Math.max(1, Math.floor(groupSize * HALT_SHARE));
}

/** Judges all Workers together; `members` is the whole fleet each time. */
export function judgeHalts(members: readonly HaltMember[], memory: HaltMemory, nowMs: number): Halts {
  const badSinceMs = new Map<string, number>();
  const groups = new Map<string, { size: number; bad: number; recent: number }>();
  for (const { name, group, wasReady, bad } of members) {
    const counts = groups.get(group) ?? { size: 0, bad: 0, recent: 0 };
    groups.set(group, counts);
    counts.size += 1;
    if (!wasReady || !bad) continue;
    const sinceMs = memory.badSinceMs.get(name) ?? nowMs;
    badSinceMs.set(name, sinceMs);
    counts.bad += 1;
    if (nowMs - sinceMs < HALT_WINDOW_MS) counts.recent += 1;
  }
  const halted = new Map<string, string>();
  for (const [group, { size, bad, recent }] of groups) {
    const limit = haltLimitOf(size);
    // Once halted, time alone does not end it: the workers must come back.
    if (recent > limit || (memory.halted.has(group) && bad > limit)) halted.set(group, reasonOf(group, limit));
  }
  return { halted, memory: { badSinceMs, halted: new Set(halted.keys()) } };
}

/** Holds no count of the bad ones: it is written into conditions, and would be written again with each change. */
function reasonOf(group: string, limit: number): string {
  const whose = group === '' ? 'the workers outside pools' : `pool ${group}`;
  return `More than ${limit} of ${whose} went bad within ten minutes: find out why, then change their specs, or bring them back by hand.`;
}

/** A Worker as {@link judgeHalts} counts it; call it for all Workers with what is seen now, before any is planned. */
export function haltMemberOf({
  worker,
  observation,
  nowMs,
}: Pick<WorkerView, 'worker' | 'observation' | 'nowMs'>): HaltMember {
  const { metadata, status } = worker;
  const sight = sightOf(observation);
  const down = sight.phase !== 'running' && sight.phase !== 'pending';
  return {
    name: metadata.name,
    group: metadata.owner?.name ?? '',
    wasReady: status?.wasReady === true && status.observedGeneration === metadata.generation,
    bad: sight.trusted && down && wantedNow(worker, nowMs).state === 'running',
  };
}
