/** When repair of a group stops, and when it goes on. */
import { haltMemberOf, judgeHalts, NO_HALTS } from '@carrierarr/reconcile';
import { describe, expect, it } from 'vitest';
import { NOW_MS, record, sees, Told, worker } from './builders.js';

const MINUTE = 60_000;
const fleet = (size: number, bad: number, group = 'p') =>
  Array.from({ length: size }, (_, index) => ({ name: `${group}-${index}`, group, wasReady: true, bad: index < bad }));
const halted = (size: number, bad: number) => judgeHalts(fleet(size, bad), NO_HALTS, NOW_MS).halted.has('p');

describe('a group', () => {
  it.each([
    [1, 1, false],
    [3, 1, false],
    [3, 2, true],
    [10, 2, false],
    [10, 3, true],
    [100, 20, false],
    [100, 21, true],
  ])('of %i with %i gone bad at once: halted is %s', (size, bad, is) => expect(halted(size, bad)).toBe(is));

  it('is judged by itself', () => {
    const { halted: groups } = judgeHalts([...fleet(5, 3, 'p'), ...fleet(5, 1, '')], NO_HALTS, NOW_MS);
    expect([...groups.keys()]).toEqual(['p']);
  });

  it('does not count what never was ready', () => {
    const members = fleet(10, 10).map((member) => ({ ...member, wasReady: false }));
    expect(judgeHalts(members, NO_HALTS, NOW_MS).halted.size).toBe(0);
  });

  it('counts together what went bad within ten minutes, and not what went bad long ago', () => {
    const first = judgeHalts(fleet(10, 2), NO_HALTS, NOW_MS);
    expect(judgeHalts(fleet(10, 3), first.memory, NOW_MS + 9 * MINUTE).halted.has('p')).toBe(true);
    expect(judgeHalts(fleet(10, 3), first.memory, NOW_MS + 11 * MINUTE).halted.has('p')).toBe(false);
  });

  it('stays halted, however long, until enough are back', () => {
    let { memory } = judgeHalts(fleet(10, 5), NO_HALTS, NOW_MS);
    const later = judgeHalts(fleet(10, 5), memory, NOW_MS + 600 * MINUTE);
    expect(later.halted.has('p')).toBe(true);
    ({ memory } = later);
    expect(judgeHalts(fleet(10, 3), memory, NOW_MS + 601 * MINUTE).halted.has('p')).toBe(true);
    expect(judgeHalts(fleet(10, 2), memory, NOW_MS + 601 * MINUTE).halted.has('p')).toBe(false);
  });
});

describe('a worker counts as bad', () => {
  const ready = () => {
    const told = new Told(worker({ spec: { idleStopAfter: '15m' } }));
    told.plan({ sees: [record('running')] });
    return told.worker;
  };
  const bad = (seen: ReturnType<typeof sees>, of = ready()) =>
    haltMemberOf({ worker: of, observation: seen, nowMs: NOW_MS });

  it('when it was ready and surely does not run any more', () => {
    expect(bad(sees(record('stopped')))).toEqual({ name: 'w1', group: '', wasReady: true, bad: true });
    expect(bad(sees(record('running'))).bad).toBe(false);
    expect(bad(sees(record('pending'))).bad).toBe(false);
  });

  it('not when nobody knows', () => {
    expect(bad({ workers: [], fresh: false, polledAtMs: 1 }).bad).toBe(false);
  });

  it('not when it was stopped on purpose, or its spec was touched', () => {
    const told = new Told(ready());
    told.plan({ sees: [record('running', { idle_seconds: 1_000 })] });
    expect(bad(sees(record('stopped')), told.worker).wasReady).toBe(false);
    expect(bad(sees(record('stopped')), new Told(ready()).change({ maxRetries: 3 }).worker).wasReady).toBe(false);
  });
});
