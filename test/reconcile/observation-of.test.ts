/** Whose word counts for a Worker, and when not seeing it means that it is not there. */
import type { SeenWorker, SourceReport, WorkerSpec, WorkerAgent } from '@carrierarr/protocol';
import { hasTags, idleMsOf, isMachineOf, machineFacts, observationOf } from '@carrierarr/reconcile';
import { describe, expect, it } from 'vitest';
import { iso, NOW_MS, record, scriptRecord, worker } from './builders.js';

const EAST = 'ec2/eu-central-1';
const WEST = 'ec2/us-west-2';
const ECS = 'ecs/eu-central-1/prod';
const INTERVAL_MS = 10_000;
const STALE_MS = 3 * INTERVAL_MS;

interface Known {
  records?: SeenWorker[];
  /** Sources to how long ago their last complete poll began, ms; undefined: there was none. */
  polled?: Record<string, number | undefined>;
  clouds?: string[];
  /** How long ago the script told, ms. */
  toldAgoMs?: number;
  toldAtMs?: number;
}

function observed(spec: Partial<WorkerSpec>, known: Known) {
  const { records = [], polled = {}, toldAgoMs } = known;
  const { clouds = Object.keys(polled).filter((name) => name !== 'script') } = known;
  const toldAtMs = known.toldAtMs ?? (toldAgoMs === undefined ? undefined : NOW_MS - toldAgoMs);
  const report = (name: string): Pick<SourceReport, 'polled_at' | 'interval_ms'> | undefined => {
    if (!Object.hasOwn(polled, name)) return undefined;
    const agoMs = polled[name];
    return { interval_ms: INTERVAL_MS, ...(agoMs !== undefined && { polled_at: iso(NOW_MS - agoMs) }) };
  };
  return observationOf(worker({ spec }), records, { clouds: () => clouds, report, toldAtMs: () => toldAtMs }, NOW_MS);
}

describe('a Worker of a cloud', () => {
  const ec2 = { source: 'ec2' } as const;

  it('is known for absent only when every source of its kind has been heard lately', () => {
    const never = observed(ec2, { polled: { [EAST]: 0, [WEST]: undefined } });
    expect(never).toEqual({
      ...{ workers: [], fresh: false, polledAtMs: undefined, detail: `${WEST} has not answered completely yet.` },
    });
    expect(observed(ec2, { polled: { [EAST]: 0, [WEST]: STALE_MS + 1 } })).toEqual({
      ...{ workers: [], fresh: false, polledAtMs: NOW_MS - STALE_MS - 1 },
      detail: `${WEST} has not been heard of for three polls.`,
    });
    const heard = observed(ec2, { polled: { [EAST]: STALE_MS, [WEST]: 0, [ECS]: undefined } });
    expect(heard).toEqual({ workers: [], fresh: true, polledAtMs: NOW_MS - STALE_MS });
  });

  it('waits for a source that is polled and has never reported', () => {
    expect(observed(ec2, { polled: { [EAST]: 0 }, clouds: [EAST, WEST] })).toMatchObject({ fresh: false });
  });

  it('does not wait for a source that reported once and is not polled any more', () => {
    expect(observed(ec2, { polled: { [EAST]: 0, [WEST]: 10 * STALE_MS }, clouds: [EAST] })).toMatchObject({
      ...{ fresh: true, polledAtMs: NOW_MS },
    });
  });

  it('is judged by the sources that show it, all of them and no others', () => {
    const [east, west] = [record('running'), record('running', { id: 'i-2', source: WEST })];
    const polled = { [EAST]: 1_000, [WEST]: STALE_MS + 1 };
    expect(observed(ec2, { records: [east], polled })).toMatchObject({ fresh: true, polledAtMs: NOW_MS - 1_000 });
    expect(observed(ec2, { records: [east, west], polled })).toMatchObject({ fresh: false });
    // The record is known to have come from a source of which nothing else is known.
    expect(observed(ec2, { records: [east, west], polled: { [EAST]: 0 } })).toMatchObject({
      detail: `${WEST} has not answered completely yet.`,
    });
  });

  it('whose machine is a tombstone may come back anywhere', () => {
    const gone = record('running', { gone_at: iso(NOW_MS) });
    const seen = observed(ec2, { records: [gone], polled: { [EAST]: 0, [WEST]: STALE_MS + 1 } });
    expect(seen).toMatchObject({ workers: [gone], fresh: false });
    const heard = observed(ec2, { records: [gone], polled: { [EAST]: 0, [WEST]: 5 } });
    expect(heard).toEqual({ workers: [gone], fresh: true, polledAtMs: NOW_MS - 5 });
  });

  it('is not known for anything when its kind is not watched, and is told how to watch it', () => {
    const seen = observed({ source: 'ecs' }, { polled: { [EAST]: 0 } });
    expect(seen).toMatchObject({ fresh: false, polledAtMs: undefined, detail: expect.stringContaining('--ecs-*') });
  });

  it('has none of the machines that another kind of source shows at its target', () => {
    const records = [record('RUNNING', { id: 'arn', source: ECS }), scriptRecord('running')];
    expect(observed(ec2, { records, polled: { [EAST]: 0, [ECS]: 0, script: 0 } }).workers).toEqual([]);
  });

  it('has its machines newest first, those of unknown age last', () => {
    const launched = (id: string, launch_time?: string) =>
      record('running', { id, ...(launch_time !== undefined && { launch_time }) });
    const records = [
      launched('a', 'yesterday'),
      launched('b', iso(NOW_MS - 2)),
      launched('c'),
      launched('d', iso(NOW_MS)),
    ];
    const { workers } = observed(ec2, { records, polled: { [EAST]: 0 } });
    expect(workers.map(({ id }) => id)).toEqual(['d', 'b', 'a', 'c']);
  });
});

describe('a Worker of a script', () => {
  const script = { source: 'script' } as const;
  const records = [record('running'), scriptRecord('stopped')];

  it('is what its script told, for three polls', () => {
    const told = { workers: [records[1]], fresh: true, polledAtMs: NOW_MS - STALE_MS };
    expect(observed(script, { records, polled: { script: 0 }, toldAgoMs: STALE_MS })).toEqual(told);
    expect(observed(script, { records, polled: { script: 0 }, toldAgoMs: STALE_MS + 1 })).toMatchObject({
      ...{ fresh: false, detail: 'Its control script has not told its state for three polls.' },
    });
  });

  it('is not known for anything before its script has told, whatever the source says of itself', () => {
    const unknown = { fresh: false, polledAtMs: undefined };
    expect(observed(script, { records, polled: { script: 0 } })).toMatchObject(unknown);
    expect(observed(script, { records, polled: { script: 0 }, toldAtMs: 0 })).toMatchObject(unknown);
    expect(observed(script, { records: [], polled: { script: 0 }, toldAgoMs: 0 })).toMatchObject(unknown);
    expect(observed(script, { records, toldAgoMs: 0 })).toMatchObject(unknown);
  });
});

describe('a Worker of nobody in particular', () => {
  it('is what a cloud shows, else what its script told', () => {
    const [machine, told] = [record('running'), scriptRecord('stopped')];
    const polled = { [EAST]: 0, script: 0 };
    expect(observed({}, { records: [told, machine], polled, toldAgoMs: 0 }).workers).toEqual([machine]);
    const gone = { ...machine, gone_at: iso(NOW_MS) };
    expect(observed({}, { records: [told, gone], polled, toldAgoMs: 0 }).workers).toEqual([gone]);
    expect(observed({}, { records: [told], polled, toldAgoMs: 5 })).toEqual({
      ...{ workers: [told], fresh: true, polledAtMs: NOW_MS - 5 },
    });
  });

  it('is not believed to its script while a cloud that may have it is silent', () => {
    const silent = { [EAST]: 0, [ECS]: STALE_MS + 1, script: 0 };
    const seen = observed({}, { records: [scriptRecord('absent')], polled: silent, toldAgoMs: 0 });
    expect(seen).toMatchObject({ fresh: false, detail: expect.stringContaining(ECS) });
  });

  it('is believed to its script alone where no cloud is watched', () => {
    const seen = observed({}, { records: [scriptRecord('running')], polled: { script: 0 }, toldAgoMs: 7 });
    expect(seen).toMatchObject({ fresh: true, polledAtMs: NOW_MS - 7 });
  });

  it('is never asked of a script if it selects by tags', () => {
    const spec = { selector: { tags: { role: 'gpu' } } };
    const records = [scriptRecord('running', { tags: { role: 'gpu' } })];
    const polled = { script: 0 };
    expect(observed(spec, { records, polled, toldAgoMs: 0 })).toEqual({
      ...{ workers: [], fresh: false, polledAtMs: undefined, detail: 'No cloud is watched.' },
    });
    expect(observed(spec, { records, polled: { ...polled, [EAST]: 3 }, toldAgoMs: 0 })).toEqual({
      ...{ workers: [], fresh: true, polledAtMs: NOW_MS - 3 },
    });
  });
});

describe('a machine', () => {
  it('is that of the Worker at whose target it is, or that selects its tags', () => {
    const machine = record('running', { tags: { role: 'gpu', env: 'prod' } });
    expect(isMachineOf(worker({}), machine)).toBe(true);
    expect(isMachineOf(worker({ name: 'w2' }), machine)).toBe(false);
    expect(isMachineOf(worker({ name: 'w2', spec: { target: 'w1' } }), machine)).toBe(true);
    const selecting = (tags: Record<string, string>) => worker({ name: 'w2', spec: { selector: { tags } } });
    expect(isMachineOf(selecting({ role: 'gpu', env: 'prod' }), machine)).toBe(true);
    expect(isMachineOf(selecting({ role: 'gpu', env: 'test' }), machine)).toBe(false);
    expect(isMachineOf(worker({ spec: { selector: { tags: { role: 'cpu' } } } }), machine)).toBe(false);
  });

  it('has tags by key and value, and none by what only looks like them', () => {
    expect(hasTags({ tags: { 'a=b': 'c' } }, { a: 'b=c' })).toBe(false);
    expect(hasTags({}, { constructor: 'Object' })).toBe(false);
    expect(hasTags({ tags: { a: 'b' } }, {})).toBe(false);
  });

  it('that is there tells a pool how idle and how old it is', () => {
    const gone = record('running', { gone_at: iso(NOW_MS), idle_seconds: 1, launch_time: iso(NOW_MS) });
    const there = record('running', { idle_seconds: 60, launch_time: iso(NOW_MS - 5) });
    const facts = (...workers: SeenWorker[]) => machineFacts({ workers, fresh: true, polledAtMs: NOW_MS }, NOW_MS);
    expect(facts(gone, there)).toEqual({ idleSeconds: 60, launchedAtMs: NOW_MS - 5 });
    const unknown = { idleSeconds: undefined, launchedAtMs: undefined };
    expect(facts(gone)).toEqual(unknown);
    // A script may call anything a time.
    expect(facts(record('running', { launch_time: 'yesterday' }))).toEqual(unknown);
  });
});

describe('idleness', () => {
  const agent: WorkerAgent = {
    ...{ node: 'host', connected: true, instead_of: {} },
    liveness: 'healthy',
    type: 'NODE_TYPE_UNSPECIFIED',
    health: 'HEALTH_STATE_HEALTHY',
  };
  const since = { idle_since: iso(NOW_MS - 60_000) };
  const idle = (fields: Partial<SeenWorker>) => idleMsOf(record('running', fields), NOW_MS);

  it('is what the machine says, or since when its agent says so', () => {
    expect(idle({})).toBeUndefined();
    expect(idle({ idle_seconds: 7 })).toBe(7_000);
    expect(idle({ agent, ...since })).toBe(60_000);
    expect(idle({ agent, ...since, idle_seconds: 7 })).toBe(60_000);
    expect(idleMsOf(undefined, NOW_MS)).toBeUndefined();
  });

  it('ends when an agent with a stream does not say so any more, whatever else is said', () => {
    expect(idle({ agent, idle_seconds: 7 })).toBeUndefined();
    expect(idle({ agent: { ...agent, connected: false }, idle_seconds: 7 })).toBe(7_000);
  });

  it.each(['stale', 'dead'] as const)('of an agent that is %s is not known', (liveness) => {
    expect(idle({ agent: { ...agent, liveness }, ...since })).toBeUndefined();
  });
});
