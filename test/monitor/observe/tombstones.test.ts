import type { SeenWorker, WorkerRecord } from '@carrierarr/protocol';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Fleet,
  GONE,
  merge,
  type Merged,
  restoreFleet,
  TOMBSTONE_MS,
  TOMBSTONES_MAX,
  YOUNG_MS,
} from '../../../apps/monitor/src/observe/tombstones.js';
import { recordsOf, worker } from './support.js';

const NOW_MS = Date.UTC(2025, 0, 1);
const nowIso = new Date(NOW_MS).toISOString();
const none: Fleet = new Map();
const poll = (fleet: Fleet, records: WorkerRecord[], nowMs = NOW_MS, hasTombstones = true): Merged =>
  merge(fleet, records, { nowMs, hasTombstones });

/** Polls one after the other; returns what the last one changed. */
function polls(...answers: WorkerRecord[][]): Merged {
  let merged: Merged = { upserts: [], removed: [], next: none };
  for (const records of answers) merged = poll(merged.next, records);
  return merged;
}

const a = worker('a');
const b = worker('b');

describe('a complete poll', () => {
  it('publishes what is new', () => {
    expect(polls([a, b])).toMatchObject({ upserts: [a, b], removed: [] });
  });

  it('publishes nothing when nothing changed, whatever the order of workers and fields', () => {
    const turned = Object.fromEntries(Object.entries(a).toReversed()) as WorkerRecord;
    expect(polls([a, b], [b, turned])).toMatchObject({ upserts: [], removed: [] });
  });

  it('publishes only what changed', () => {
    const changed = { ...b, state: 'stopping' };
    expect(polls([a, b], [a, changed]).upserts).toEqual([changed]);
    expect(polls([{ ...a, tags: { x: '1' } }], [{ ...a, tags: { x: '2' } }]).upserts).toHaveLength(1);
  });

  it('takes a worker that is listed twice for one, by its later facts', () => {
    const later = { ...a, state: 'stopped' };
    expect(polls([a, later]).upserts).toEqual([later]);
  });
});

describe('a worker that is missing', () => {
  it('is kept as it was when one poll misses it', () => {
    const merged = polls([a, b], [a]);
    expect(merged).toMatchObject({ upserts: [], removed: [] });
    expect(recordsOf(merged.next)).toEqual([a, b]);
  });

  it('is not counted as missed in its first minute, in which clouds may not show it yet', () => {
    const young = worker('young', { launch_time: nowIso });
    const seen = poll(none, [young]);
    const early = [1_000, 30_000, 59_000].reduce((merged, ms) => poll(merged.next, [], NOW_MS + ms), seen);
    expect(early).toMatchObject({ upserts: [], removed: [] });
    const once = poll(early.next, [], NOW_MS + YOUNG_MS);
    expect(once.upserts).toEqual([]);
    expect(poll(once.next, [], NOW_MS + YOUNG_MS).upserts).toMatchObject([{ id: 'young', state: GONE }]);
  });

  it('is as if nothing had been when the next poll lists it again', () => {
    const merged = polls([a, b], [a], [a, b], [a]);
    expect(merged).toMatchObject({ upserts: [], removed: [] });
    expect(recordsOf(merged.next)).toContainEqual(b);
  });

  it('becomes a tombstone with its last facts when two polls in a row miss it', () => {
    const facts = { ...b, public_ip: '203.0.113.7', tags: { Name: 'b' }, reason: 'why not' };
    const { upserts, next } = polls([a, facts], [a], [a]);
    expect(upserts).toEqual([{ ...facts, state: GONE, gone_at: nowIso }]);
    expect(next.size).toBe(2);
  });

  it.each(['terminated', 'STOPPED'])('keeps the state %s, which was its last', (state) => {
    expect(polls([{ ...a, state }], [], []).upserts).toEqual([{ ...a, state, gone_at: nowIso }]);
  });

  it('is told of once, not at every poll', () => {
    expect(polls([a], [], [], [], [])).toMatchObject({ upserts: [], removed: [] });
  });

  it('is forgotten after a day', () => {
    const tomb = polls([a], [], []).next;
    expect(poll(tomb, [], NOW_MS + TOMBSTONE_MS - 1).removed).toEqual([]);
    const { removed, next } = poll(tomb, [], NOW_MS + TOMBSTONE_MS);
    expect(removed).toEqual(['a']);
    expect(next.size).toBe(0);
  });

  it('comes back to life when it is listed again', () => {
    const { upserts, next } = polls([a], [], [], [a]);
    expect(upserts).toEqual([a]);
    expect(recordsOf(next)).toEqual([a]);
  });

  it('has nothing announced or measured any more', () => {
    const busy = worker('a', {
      interruption: { kind: 'spot', detail: 'soon' },
      metrics: { cpu_percent: 3, measured_at: nowIso },
    });
    expect(polls([busy], [], []).upserts).toEqual([{ ...a, state: GONE, gone_at: nowIso }]);
  });

  it('is forgotten at once by a source without tombstones', () => {
    const { next } = poll(none, [a, b], NOW_MS, false);
    expect(poll(next, [a], NOW_MS, false)).toMatchObject({ upserts: [], removed: ['b'] });
  });
});

it('a fleet that shrinks to zero is published as gone, all of it', () => {
  const { upserts } = polls([a, b], [], []);
  expect(upserts.map(({ id, gone_at: goneAt }) => [id, goneAt])).toEqual([
    ['a', nowIso],
    ['b', nowIso],
  ]);
});

it('there are never more tombstones than the bound; the oldest go', () => {
  let fleet: Fleet = none;
  const old = Array.from({ length: TOMBSTONES_MAX }, (_, at) => worker(`old-${at}`));
  fleet = poll(fleet, old, NOW_MS).next;
  fleet = poll(fleet, [a], NOW_MS + 1).next;
  fleet = poll(fleet, [a], NOW_MS + 2).next;
  expect(fleet.size).toBe(TOMBSTONES_MAX + 1);
  fleet = poll(fleet, [], NOW_MS + 3).next;
  const { upserts, removed, next } = poll(fleet, [], NOW_MS + 4);
  expect(upserts.map(({ id }) => id)).toEqual(['a']);
  expect(removed).toHaveLength(1);
  expect(removed[0]).toMatch(/^old-/);
  expect(next.size).toBe(TOMBSTONES_MAX);
});

it('what the changes add up to is what is known, whatever the polls say', () => {
  const id = fc.constantFrom('a', 'b', 'c');
  const state = fc.constantFrom('pending', 'running', 'terminated');
  const answer = fc.array(fc.tuple(id, state), { maxLength: 4 });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(answer, fc.integer({ min: 1, max: 2 * TOMBSTONE_MS })), { maxLength: 20 }),
      (steps) => {
        let fleet: Fleet = none;
        let nowMs = NOW_MS;
        const published = new Map<string, WorkerRecord>();
        for (const [listed, pauseMs] of steps) {
          nowMs += pauseMs;
          const merged = poll(
            fleet,
            listed.map(([name, is]) => worker(name, { state: is })),
            nowMs,
          );
          for (const record of merged.upserts) published.set(record.id, record);
          for (const gone of merged.removed) expect(published.delete(gone)).toBe(true);
          fleet = merged.next;
          expect(new Map([...fleet].map(([key, { record }]) => [key, record]))).toEqual(published);
          // Listed means present: never a tombstone.
          for (const [name] of listed) expect(published.get(name)?.gone_at).toBeUndefined();
        }
      },
    ),
  );
});

it('a new leader goes on from what is published of its source', () => {
  const seen = (record: WorkerRecord): SeenWorker => ({
    ...record,
    ...{ version: 7, observed_at: nowIso, stale: true, age_seconds: 9 },
  });
  const tomb = { ...b, state: GONE, gone_at: nowIso };
  const fleet = restoreFleet([seen(a), seen(tomb), seen(worker('c', { source: 'ec2/other' }))], 'ec2/test');
  expect(recordsOf(fleet)).toEqual([a, tomb]);
  expect(poll(fleet, [a])).toMatchObject({ upserts: [], removed: [] });
  // Its first poll is the first that misses anything.
  expect(poll(fleet, [])).toMatchObject({ upserts: [], removed: [] });
});
