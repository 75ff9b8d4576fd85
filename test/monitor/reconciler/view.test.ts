/** Whose word counts for a Worker, and when not seeing it means that it is not there. */
import { createResource } from '@carrierarr/store';
import { manifestSchema, RESOURCE_API_VERSION, type SourceReport, type WorkerResource } from '@carrierarr/protocol';
import { describe, expect, it } from 'vitest';
import { Fleet } from '../../../apps/monitor/src/reconciler/fleet.js';
import { Observed, TAKEOVER_MS } from '../../../apps/monitor/src/reconciler/observed.js';
import { Views } from '../../../apps/monitor/src/reconciler/view.js';
import { EC2, machine } from './support.js';

const WEST = 'ec2/us-west-2';
const NOW_MS = Date.UTC(2025, 0, 1);
const nobody = { resources: { get: () => undefined, list: () => [], resourceVersion: '0' }, onChange: () => () => {} };

function worker(spec: Record<string, unknown> = {}, name = 'w1'): WorkerResource {
  const manifest = manifestSchema.parse({ apiVersion: RESOURCE_API_VERSION, kind: 'Worker', metadata: { name }, spec });
  return createResource(manifest, { uid: 'u', nowIso: new Date(NOW_MS).toISOString() }) as WorkerResource;
}

function setUp(cloudSources: string[] = [EC2]) {
  const observed = new Observed();
  const views = new Views({
    fleet: new Fleet(nobody),
    observed,
    cloudSources: () => cloudSources,
    nowMs: () => NOW_MS,
  });
  let version = 0;
  const report = (source: string, ageMs: number): SourceReport => ({
    ...{ source, ok: true, interval_ms: 10_000, calls: 1, workers: 0 },
    polled_at: new Date(NOW_MS - ageMs).toISOString(),
  });
  return {
    observed,
    views,
    poll: (source: string, ageMs: number, ...upserts: ReturnType<typeof machine>[]) =>
      observed.apply({ report: report(source, ageMs), upserts, removed: [] }, (version += 1)),
    script: (ageMs: number, state: string, target = 'w1') => {
      const record = machine(target, state, { id: target, source: 'script', provider: 'script' });
      const seen = { [target]: NOW_MS - ageMs };
      observed.apply({ report: report('script', 0), upserts: [record], removed: [], seen }, (version += 1));
    },
  };
}

describe('a Worker of a cloud', () => {
  it('is known for absent only when every source of its kind has been heard lately', () => {
    const { views, poll } = setUp([EC2, WEST]);
    const ec2 = worker({ source: 'ec2' });
    poll(EC2, 1_000);
    expect(views.observationOf(ec2)).toMatchObject({ fresh: false, polledAtMs: undefined });
    poll(WEST, 40_000);
    expect(views.observationOf(ec2)).toMatchObject({ fresh: false, detail: expect.stringContaining(WEST) as string });
    poll(WEST, 5_000);
    expect(views.observationOf(ec2)).toEqual({ workers: [], fresh: true, polledAtMs: NOW_MS - 5_000 });
  });

  it('is judged by the source that shows it, however silent another one is', () => {
    const { views, poll } = setUp([EC2, WEST]);
    poll(EC2, 1_000, machine('w1'));
    const seen = views.observationOf(worker({ source: 'ec2' }));
    expect(seen).toMatchObject({ fresh: true, polledAtMs: NOW_MS - 1_000 });
    expect(seen.workers.map(({ id }) => id)).toEqual(['i-w1']);
    poll(EC2, 31_000);
    expect(views.observationOf(worker({ source: 'ec2' }))).toMatchObject({ fresh: false });
  });

  it('whose machine is a tombstone may come back anywhere', () => {
    const { views, poll } = setUp([EC2, WEST]);
    poll(EC2, 1_000, machine('w1', 'gone', { gone_at: new Date(NOW_MS).toISOString() }));
    expect(views.observationOf(worker({ source: 'ec2' }))).toMatchObject({ fresh: false });
    poll(WEST, 2_000);
    expect(views.observationOf(worker({ source: 'ec2' }))).toMatchObject({ fresh: true, polledAtMs: NOW_MS - 2_000 });
  });

  it('is not known for anything when its kind is not watched', () => {
    const { views, poll } = setUp();
    poll(EC2, 0);
    const seen = views.observationOf(worker({ source: 'ecs' }));
    expect(seen).toMatchObject({ fresh: false, detail: expect.stringContaining('No ECS is watched') as string });
  });

  it('has the machine of its target, or the machines with all of its tags, newest first', () => {
    const { views, poll } = setUp();
    const tagged = (id: string, launch_time: string, tags: Record<string, string>) =>
      machine(id, 'running', { launch_time, tags });
    poll(EC2, 0, tagged('a', '2025-01-01T00:00:00Z', { role: 'gpu', env: 'prod' }));
    const selecting = worker({ selector: { tags: { role: 'gpu', env: 'prod' } } });
    expect(views.observationOf(selecting).workers.map(({ id }) => id)).toEqual(['i-a']);
    // The index by tags is there now; it has to be kept.
    poll(
      EC2,
      0,
      tagged('b', '2025-01-02T00:00:00Z', { role: 'gpu', env: 'prod' }),
      tagged('c', '2025-01-03T00:00:00Z', { role: 'gpu' }),
    );
    expect(views.observationOf(selecting).workers.map(({ id }) => id)).toEqual(['i-b', 'i-a']);
    poll(EC2, 0, tagged('a', '2025-01-01T00:00:00Z', { role: 'cpu', env: 'prod' }));
    expect(views.observationOf(selecting).workers.map(({ id }) => id)).toEqual(['i-b']);
    expect(views.observationOf(worker({}, 'c')).workers.map(({ id }) => id)).toEqual(['i-c']);
  });
});

describe('a Worker of nobody in particular', () => {
  it('is asked of its script until a cloud shows it', () => {
    const { views, poll, script } = setUp();
    poll(EC2, 0);
    expect(views.isScripted(worker())).toBe(true);
    script(2_000, 'stopped');
    expect(views.observationOf(worker())).toMatchObject({ fresh: true, polledAtMs: NOW_MS - 2_000 });
    poll(EC2, 1_000, machine('w1'));
    expect(views.isScripted(worker())).toBe(false);
    expect(views.observationOf(worker()).workers.map(({ source }) => source)).toEqual([EC2]);
  });

  it('is not believed to its script while a cloud that may have it is silent', () => {
    const { views, poll, script } = setUp();
    script(0, 'absent');
    expect(views.observationOf(worker())).toMatchObject({ fresh: false });
    poll(EC2, 0);
    expect(views.observationOf(worker())).toMatchObject({ fresh: true });
    poll(EC2, 31_000);
    expect(views.observationOf(worker())).toMatchObject({ fresh: false });
  });

  it('is believed to its script alone where no cloud is watched, as long as that is no older than three polls', () => {
    const { views, script } = setUp([]);
    expect(views.observationOf(worker())).toMatchObject({ fresh: false, polledAtMs: undefined });
    script(30_000, 'running');
    expect(views.observationOf(worker())).toMatchObject({ fresh: true, polledAtMs: NOW_MS - 30_000 });
    script(30_001, 'running');
    expect(views.observationOf(worker())).toMatchObject({ fresh: false });
  });
});

it('what a leader saw before it died holds for a moment where three of its polls would be over, until another polls', () => {
  const { observed, views, poll } = setUp();
  const report = (ageMs: number) => ({
    ...{ source: EC2, ok: true, interval_ms: 1_000, calls: 1, workers: 1 },
    polled_at: new Date(NOW_MS - ageMs).toISOString(),
  });
  const seen = { ...machine('w1'), version: 1, observed_at: new Date(NOW_MS).toISOString() };
  observed.load({ workers: [seen], sources: [report(TAKEOVER_MS)] });
  expect(views.observationOf(worker())).toMatchObject({ fresh: true, polledAtMs: NOW_MS - TAKEOVER_MS });
  observed.load({ workers: [seen], sources: [report(TAKEOVER_MS + 1_000)] });
  expect(views.observationOf(worker())).toMatchObject({ fresh: false });
  observed.load({ workers: [seen], sources: [report(5_000)] });
  observed.apply({ report: { ...report(5_000), ok: false }, upserts: [], removed: [] }, 2);
  expect(views.observationOf(worker())).toMatchObject({ fresh: false });
  poll(EC2, 0);
  expect(views.observationOf(worker())).toMatchObject({ fresh: true });
});
