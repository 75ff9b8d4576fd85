/**
 * What a complete poll changes. Clouds answer late and sometimes leave a machine out of one answer, so a worker that is
 * missing once is kept as it was; missing from two complete polls in a row makes it a tombstone: its last known facts,
 * with the time, for a day. A failed poll never gets here. Pure.
 */
import { isDeepStrictEqual } from 'node:util';
import type { SeenWorker, WorkerRecord } from '@carrierarr/protocol';
import { recordOf } from './source.js';

/** Complete polls in a row that must miss a worker before it counts as gone. */
export const MISSES_UNTIL_GONE = 2;
/**
 * How long after its launch a worker that is not listed is not counted as missed, ms: clouds show what is new late, and in
 * between not at all. Taken for gone, it would be made a second time.
 */
export const YOUNG_MS = 60_000;
/** How long a tombstone is kept, ms. */
export const TOMBSTONE_MS = 24 * 3_600_000;
/** Tombstones of one source at most; the oldest go first. A task that fails each ten seconds leaves 8,640 a day. */
export const TOMBSTONES_MAX = 10_000;
/** State of a worker that vanished before it said that it had ended. */
export const GONE = 'gone';

/** Last states of EC2 and ECS: what vanishes after one of them has ended as said. */
const TERMINAL_STATES = new Set(['terminated', 'STOPPED']);

export interface KnownWorker {
  readonly record: WorkerRecord;
  /** Complete polls in a row that did not list it. */
  readonly misses: number;
}
/** What is known of a source's workers, by id. */
export type Fleet = ReadonlyMap<string, KnownWorker>;

export interface Merged {
  /** Records that are new or say something else than before. */
  readonly upserts: WorkerRecord[];
  /** Ids to forget. */
  readonly removed: string[];
  readonly next: Fleet;
}

export interface MergeOptions {
  /** Epoch ms. */
  readonly nowMs: number;
  /** Without tombstones, what is not listed is forgotten at once. */
  readonly hasTombstones: boolean;
}

/** Takes a complete answer into account. */
export function merge(before: Fleet, records: readonly WorkerRecord[], options: MergeOptions): Merged {
  const next = new Map<string, KnownWorker>();
  const upserts: WorkerRecord[] = [];
  const removed: string[] = [];
  for (const record of records) {
    next.set(record.id, { record, misses: 0 });
  }
  for (const { record } of next.values()) {
    const known = before.get(record.id);
    if (!known || !isDeepStrictEqual(known.record, record)) upserts.push(record);
  }
  for (const [id, known] of before) {
    if (next.has(id)) continue;
    const after = missed(known, options);
    if (after === undefined) {
      removed.push(id);
      continue;
    }
    next.set(id, after);
    if (after.record !== known.record) upserts.push(after.record);
  }
  const surplus = surplusTombstones(next);
  if (surplus.size === 0) return { upserts, removed, next };
  for (const id of surplus) next.delete(id);
  // One that became a tombstone just now may be among them; it is removed, not published.
  return { upserts: upserts.filter(({ id }) => !surplus.has(id)), removed: [...removed, ...surplus], next };
}

/** Ids of the oldest tombstones above the bound. */
function surplusTombstones(fleet: Fleet): Set<string> {
  const tombstones = [...fleet.values()].flatMap(({ record: { id, gone_at: goneAt } }) =>
    goneAt === undefined ? [] : [{ id, goneAt }],
  );
  if (tombstones.length <= TOMBSTONES_MAX) return new Set();
  // Times are of one form and zone, so they sort as text.
  tombstones.sort((a, b) => (a.goneAt < b.goneAt ? -1 : 1));
  return new Set(tombstones.slice(0, tombstones.length - TOMBSTONES_MAX).map(({ id }) => id));
}

/** A worker after a complete poll that did not list it; undefined when it is to be forgotten. */
function missed({ record, misses }: KnownWorker, { nowMs, hasTombstones }: MergeOptions): KnownWorker | undefined {
  if (!hasTombstones) return undefined;
  if (record.gone_at !== undefined) {
    return nowMs - Date.parse(record.gone_at) >= TOMBSTONE_MS ? undefined : { record, misses };
  }
  // Also if the launch seems to lie ahead: clocks differ by seconds.
  if (Math.abs(nowMs - Date.parse(record.launch_time ?? '')) < YOUNG_MS) return { record, misses };
  if (misses + 1 < MISSES_UNTIL_GONE) return { record, misses: misses + 1 };
  const state = TERMINAL_STATES.has(record.state) ? record.state : GONE;
  // What was about to happen to it has happened; what it measured is over.
  const { interruption: _, metrics: __, ...facts } = record;
  return { record: { ...facts, state, gone_at: new Date(nowMs).toISOString() }, misses: misses + 1 };
}

/** What one source had published, as the next leader reads it back. */
export function restoreFleet(seen: readonly SeenWorker[], source: string): Fleet {
  const fleet = new Map<string, KnownWorker>();
  for (const worker of seen) {
    if (worker.source !== source) continue;
    fleet.set(worker.id, { record: recordOf(worker), misses: 0 });
  }
  return fleet;
}
