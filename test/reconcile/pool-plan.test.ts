/** What is done about one WorkerPool. */
import { idleStopHold, planPool, type PoolView, templateHashOf } from '@carrierarr/reconcile';
import type { WorkerPoolResource, WorkerResource } from '@carrierarr/protocol';
import { describe, expect, it } from 'vitest';
import { iso, member, NOW_MS, pool, templateSpec } from './builders.js';

const HASH = templateHashOf(pool().spec.template);
const members = (...ordinals: number[]) => ordinals.map((ordinal) => member(ordinal, HASH));

function plan(resource: WorkerPoolResource, workers: WorkerResource[], over: Partial<PoolView> = {}) {
  return planPool({
    pool: resource,
    workers,
    otherAt: () => undefined,
    idleSeconds: () => undefined,
    launchedAtMs: () => undefined,
    nowMs: NOW_MS,
    ...over,
  });
}
const names = (planned: { name: string }[]) => planned.map(({ name }) => name);

describe('the number of workers', () => {
  it('is made up from the lowest free ordinals', () => {
    const { create } = plan(pool({ replicas: 4 }), members(1));
    expect(names(create)).toEqual(['p-0', 'p-2', 'p-3']);
    expect(create[0]).toMatchObject({ templateHash: HASH, labels: {}, spec: { desired: 'running', paused: false } });
  });

  it('counts those that are being deleted until they are gone', () => {
    const going = member(2, HASH, { deleting: true });
    expect(plan(pool({ replicas: 3 }), [...members(0, 1), going])).toMatchObject({ create: [], delete: [] });
    expect(names(plan(pool({ replicas: 4 }), [...members(0, 1), going]).create)).toEqual(['p-3']);
  });

  it('is not made up where holes are and enough are there', () => {
    expect(plan(pool({ replicas: 2 }), members(1, 2))).toMatchObject({ create: [], delete: [] });
  });

  it('is nothing to be done about when it is right', () => {
    const first = plan(pool(), members(0, 1, 2));
    const settled = { ...pool(), ...(first.status && { status: first.status }) };
    expect(first.status).toMatchObject({ replicas: 3, ready: 3, updated: 3, unavailable: 0 });
    expect(plan(settled, members(0, 1, 2), { nowMs: NOW_MS + 60_000 })).toMatchObject({
      status: undefined,
      create: [],
      update: [],
      delete: [],
      events: [],
    });
  });
});

describe('a name that is taken', () => {
  const foreign = (name: string, over: Parameters<typeof member>[2] = {}): WorkerResource => {
    const { metadata, ...rest } = member(1, HASH, over);
    const { owner: _, ...own } = metadata;
    return { ...rest, metadata: { ...own, name, labels: {} } };
  };
  const at = (others: Record<string, WorkerResource>): Partial<PoolView> => ({ otherAt: (name) => others[name] });

  it('is left to its owner, who is named, and the pool goes on with the others', () => {
    const view = at({ 'p-1': foreign('p-1') });
    const { create, status, events, requeueAfterMs } = plan(pool({ replicas: 4 }), members(0), view);
    // No higher ordinal in its place.
    expect(names(create)).toEqual(['p-2', 'p-3']);
    const message =
      'p-1 is a Worker that no pool owns. Delete or rename those, or the pool stays short of its workers.';
    const synced = status?.conditions.find(({ type }) => type === 'Synced');
    expect(synced).toMatchObject({ status: 'False', reason: 'NameTaken', message });
    expect(events).toContainEqual({ type: 'Warning', reason: 'NameTaken', message });
    expect(requeueAfterMs).toBeGreaterThan(1_000);
  });

  it('is told once, and again when somebody else has it', () => {
    const short = at({ 'p-1': foreign('p-1') });
    const first = plan(pool({ replicas: 2 }), members(0), short);
    const told = { ...pool({ replicas: 2 }), ...(first.status && { status: first.status }) };
    expect(plan(told, members(0), short)).toMatchObject({ status: undefined, events: [], create: [] });
    const { events } = plan(told, members(0), at({ 'p-1': foreign('x') }));
    expect(events).toMatchObject([
      {
        reason: 'NameTaken',
        message: expect.stringMatching(/^p-1 is the target of the Worker x that no pool/) as unknown,
      },
    ]);
  });

  it('is had as soon as it is free', () => {
    const first = plan(pool({ replicas: 2 }), members(0), at({ 'p-1': foreign('p-1') }));
    const told = { ...pool({ replicas: 2 }), ...(first.status && { status: first.status }) };
    const { create, status } = plan(told, members(0));
    expect(names(create)).toEqual(['p-1']);
    expect(status?.conditions.find(({ type }) => type === 'Synced')).toMatchObject({ reason: 'Changing' });
  });
});

it('has a status to write first whenever anything is done, even if it says nothing new', () => {
  const short = plan(pool({ replicas: 4 }), members(0, 1, 2));
  const written = { ...pool({ replicas: 4 }), ...(short.status && { status: short.status }) };
  expect(plan(written, members(0, 1, 2))).toMatchObject({ status: short.status, create: [{ name: 'p-3' }] });
});

describe('scaling in', () => {
  const one = (scaleIn: 'highest' | 'idle-longest' | 'newest' | 'oldest', over: Partial<PoolView>) =>
    plan(pool({ replicas: 2, scaleIn }), members(0, 1, 2), over).delete;
  const number = (worker: WorkerResource) => Number(worker.metadata.name.at(-1));

  it('takes the highest ordinal', () => expect(one('highest', {})).toEqual(['p-2']));
  it('sorts ordinals as numbers', () => {
    expect(plan(pool({ replicas: 2 }), members(0, 9, 10)).delete).toEqual(['p-10']);
  });
  it('takes what is idle for longest, and what says nothing of it last', () => {
    const idle = [30, 90, undefined];
    expect(one('idle-longest', { idleSeconds: (worker) => idle[number(worker)] })).toEqual(['p-1']);
  });
  it('takes the newest, or what has no machine yet', () => {
    expect(one('newest', { launchedAtMs: (worker) => 10 - number(worker) })).toEqual(['p-0']);
    expect(one('newest', { launchedAtMs: (worker) => (number(worker) === 1 ? undefined : 5) })).toEqual(['p-1']);
  });
  it('takes the oldest', () => {
    expect(one('oldest', { launchedAtMs: (worker) => 10 + number(worker) })).toEqual(['p-0']);
  });

  it('takes what is not ready where fewer than minReady would be left', () => {
    const workers = [member(0, HASH, { ready: false }), ...members(1, 2)];
    expect(plan(pool({ replicas: 2, minReady: 2 }), workers).delete).toEqual(['p-0']);
  });

  it('goes on although minReady is more than the pool is to have', () => {
    expect(plan(pool({ replicas: 1, minReady: 5 }), members(0, 1, 2)).delete).toEqual(['p-2', 'p-1']);
  });
});

describe('a changed template', () => {
  const changed = (args: Record<string, string[]>, over: Parameters<typeof pool>[0] = {}) =>
    pool({ template: { metadata: { labels: {} }, spec: templateSpec({ args }) }, ...over });

  it('changes all in place when no machine has to be made anew; whether they are paused stays theirs', () => {
    const paused = member(1, HASH, { spec: { paused: true } });
    const { update, delete: deleted } = plan(changed({ start: ['--fast'] }), [
      member(0, HASH),
      paused,
      member(2, HASH),
    ]);
    expect(names(update)).toEqual(['p-0', 'p-1', 'p-2']);
    expect(update.map((each) => each.spec.paused)).toEqual([false, true, false]);
    expect(deleted).toEqual([]);
  });

  it('replaces one at a time where the machine was made otherwise', () => {
    expect(plan(changed({ provision: ['--big'] }), members(0, 1, 2))).toMatchObject({
      delete: ['p-0'],
      update: [],
      create: [],
    });
  });

  it('replaces as many as may be unavailable', () => {
    expect(plan(changed({ provision: ['--big'] }, { maxUnavailable: 2 }), members(0, 1, 2)).delete).toEqual([
      'p-0',
      'p-1',
    ]);
  });

  it('waits until those that were replaced are as wanted', () => {
    const resource = changed({ provision: ['--big'] });
    const hash = templateHashOf(resource.spec.template);
    const going = member(0, HASH, { deleting: true });
    expect(plan(resource, [going, ...members(1, 2)]).delete).toEqual([]);
    const starting = member(0, hash, { ready: false, spec: { args: { provision: ['--big'] } } });
    expect(plan(resource, [starting, ...members(1, 2)]).delete).toEqual([]);
    expect(plan(resource, [member(0, hash), ...members(1, 2)]).delete).toEqual(['p-1']);
  });

  it('replaces what is not ready first, and never one more than minReady allows', () => {
    const broken = member(2, HASH, { ready: false });
    expect(plan(changed({ provision: ['--big'] }), [...members(0, 1), broken]).delete).toEqual(['p-2']);
    expect(plan(changed({ provision: ['--big'] }, { minReady: 3 }), members(0, 1, 2)).delete).toEqual([]);
  });

  it('changes in place what has no machine', () => {
    const empty = member(0, HASH, { ready: false, phase: 'Absent' });
    expect(names(plan(changed({ provision: ['--big'] }), [empty, ...members(1, 2)]).update)).toEqual(['p-0']);
  });

  it('of a pool that is to be stopped is not held up by minReady', () => {
    const template = {
      metadata: { labels: {} },
      spec: templateSpec({ desired: 'stopped', args: { provision: ['--big'] } }),
    };
    expect(plan(pool({ minReady: 3, template }), members(0, 1, 2)).delete).toEqual(['p-0']);
  });
});

describe('a paused pool', () => {
  it('is neither filled nor emptied nor changed', () => {
    for (const replicas of [0, 5])
      expect(plan(pool({ replicas, paused: true }), members(0, 1))).toMatchObject({
        create: [],
        update: [],
        delete: [],
      });
  });
});

describe('deletion', () => {
  const deleted = (over: Parameters<typeof pool>[0] = {}) => pool(over, { deletionTimestamp: iso(NOW_MS) });

  it('deletes all workers once and is done when they are gone', () => {
    expect(plan(deleted(), [member(0, HASH, { deleting: true }), member(1, HASH)]).delete).toEqual(['p-1']);
    expect(plan(deleted(), [member(0, HASH, { deleting: true })])).toMatchObject({ delete: [], create: [] });
    expect(plan(deleted(), [])).toMatchObject({ finalized: true, create: [] });
  });

  it('waits while the pool is paused', () => {
    expect(plan(deleted({ paused: true }), members(0)).delete).toEqual([]);
  });
});

describe('the status', () => {
  it('says how many are ready, and whether that is enough', () => {
    const { status } = plan(pool({ minReady: 2 }), [member(0, HASH), member(1, 'old', { ready: false })]);
    expect(status).toMatchObject({ observedGeneration: 1, replicas: 2, ready: 1, updated: 1, unavailable: 2 });
    expect(status?.conditions).toMatchObject([
      { type: 'Available', status: 'False', reason: 'TooFewReady' },
      { type: 'Synced', status: 'False', reason: 'Changing' },
    ]);
  });

  it('says once that repair is halted', () => {
    const first = plan(pool(), members(0, 1, 2), { halted: 'too many' });
    expect(first.events).toMatchObject([{ type: 'Warning', reason: 'RepairHalted', message: 'too many' }]);
    const halted = { ...pool(), ...(first.status && { status: first.status }) };
    expect(plan(halted, members(0, 1, 2), { halted: 'too many' }).events).toEqual([]);
    expect(plan(halted, members(0, 1, 2)).status?.conditions.at(-1)).toMatchObject({ type: 'Halted', status: 'False' });
  });
});

it('holds back an idle stop that would leave fewer than minReady', () => {
  expect(idleStopHold(pool({ minReady: 3 }), members(0, 1, 2))).toContain('3 workers ready');
  expect(idleStopHold(pool({ minReady: 2 }), members(0, 1, 2))).toBeUndefined();
});

it('names equal templates alike, in whatever order their keys are', () => {
  const spec = templateSpec({ args: { start: ['a'], stop: ['b'] } });
  const turned = Object.fromEntries(Object.entries(spec).toReversed()) as typeof spec;
  expect(templateHashOf({ spec: turned, metadata: { labels: {} } })).toBe(
    templateHashOf({ metadata: { labels: {} }, spec }),
  );
});
