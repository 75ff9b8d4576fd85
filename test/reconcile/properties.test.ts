/** What holds for every plan, whatever it is made from. */
import type { SeenWorker, WorkerResource, WorkerResourceStatus } from '@carrierarr/protocol';
import {
  type ExecutionView,
  isReady,
  phaseOfRecord,
  planPool,
  planWorker,
  sightOf,
  templateHashOf,
  wantedNow,
  type WorkerView,
} from '@carrierarr/reconcile';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ended,
  given,
  iso,
  member,
  NOW_MS,
  pool,
  record,
  scriptRecord,
  templateSpec,
  view,
  worker,
} from './builders.js';

const agesMs = fc.constantFrom(0, 1, 500, 30_000, 61_000, 125_000, 3_600_000, 90_000_000);
const verbs = fc.constantFrom('provision', 'start', 'stop', 'terminate');
const outcomes = fc.constantFrom('succeeded', 'failed', 'lost', 'killed', 'timed-out', 'rejected');

const records = fc.array(
  fc.oneof(
    fc.constantFrom('pending', 'running', 'stopping', 'stopped', 'shutting-down', 'terminated', 'odd').chain((state) =>
      fc
        .record({
          id: fc.constantFrom('i-1', 'i-2', 'i-3'),
          gone: fc.boolean(),
          stale: fc.boolean(),
          idle: fc.boolean(),
        })
        .map(({ id, gone, stale, idle }): SeenWorker =>
          record(state, {
            id,
            ...(gone && { gone_at: iso(NOW_MS) }),
            ...(stale && { stale: true }),
            ...(idle && { idle_seconds: 10_000 }),
          }),
        ),
    ),
    fc.constantFrom('absent', 'running', 'stopped', 'unknown').map((state) => scriptRecord(state)),
  ),
  { maxLength: 3 },
);

const lastCommands = fc
  .record({
    verb: verbs,
    ageMs: agesMs,
    generation: fc.constantFrom(1, 2),
    outcome: fc.option(outcomes, { nil: undefined }),
    effect: fc.option(fc.constantFrom('seen' as const, 'missing' as const), { nil: undefined }),
    known: fc.boolean(),
  })
  .map(({ verb, ageMs, generation, outcome, effect, known }) =>
    given({
      ...{ verb, generation, token: `cr:uid-w1:${generation}:1:${verb}`, requestedAt: iso(NOW_MS - ageMs) },
      ...(outcome !== undefined && {
        outcome,
        exitCode: outcome === 'succeeded' ? 0 : 1,
        endedAt: iso(NOW_MS - ageMs),
        execution: 'e1',
      }),
      ...(outcome === undefined && known && { execution: 'e1' }),
      ...(outcome === 'succeeded' && effect !== undefined && { effect }),
    }),
  );

const executions: fc.Arbitrary<ExecutionView> = fc.oneof(
  fc.constant({ state: 'none' as const }),
  fc.constantFrom('queued' as const, 'running' as const).map((state) => ({ state, id: 'e1' })),
  fc.record({ outcome: outcomes, ageMs: agesMs }).map(({ outcome, ageMs }) => ended(outcome as 'lost', NOW_MS - ageMs)),
);

const statuses = fc
  .record({
    failures: fc.nat(5),
    wasReady: fc.boolean(),
    observedGeneration: fc.constantFrom(1, 2),
    idleStopped: fc.boolean(),
    backoffMs: fc.option(fc.nat(100_000), { nil: undefined }),
    lastCommand: fc.option(lastCommands, { nil: undefined }),
  })
  .map(({ failures, wasReady, observedGeneration, idleStopped, backoffMs, lastCommand }): WorkerResourceStatus => ({
    ...{ observedGeneration, phase: 'Unknown', target: 'w1', attempts: 1, failures },
    conditions: idleStopped
      ? [
          {
            type: 'IdleStopped',
            status: 'True',
            reason: 'IdleTimeout',
            message: 'x',
            lastTransitionTime: iso(NOW_MS - 900_000),
            observedGeneration,
          },
        ]
      : [],
    ...(wasReady && { wasReady }),
    ...(backoffMs !== undefined && { backoffUntil: iso(NOW_MS + backoffMs) }),
    ...(lastCommand !== undefined && { lastCommand }),
  }));

const workers = fc
  .record({
    ...{
      desired: fc.constantFrom('running' as const, 'stopped' as const, 'absent' as const),
      paused: fc.boolean(),
      deleted: fc.boolean(),
    },
    ...{
      source: fc.constantFrom('auto' as const, 'ec2' as const, 'script' as const),
      maxRetries: fc.nat(4),
      idles: fc.boolean(),
    },
    ...{
      scheduled: fc.constantFrom(undefined, '0 8 * * *', '0 20 * * *'),
      status: fc.option(statuses, { nil: undefined }),
    },
  })
  .map(({ desired, paused, deleted, source, maxRetries, idles, scheduled, status }) =>
    worker({
      spec: {
        ...{ desired, paused, source, maxRetries },
        ...(idles && { idleStopAfter: '15m' }),
        ...(scheduled !== undefined && {
          schedule: { timeZone: 'UTC', windows: [{ start: scheduled, duration: '6h' }] },
        }),
      },
      metadata: { generation: 2, ...(deleted && { deletionTimestamp: iso(NOW_MS) }) },
      ...(status !== undefined && { status }),
    }),
  );

const views: fc.Arbitrary<WorkerView> = fc
  .record({
    ...{
      worker: workers,
      records,
      execution: executions,
      busy: fc.boolean(),
      halted: fc.boolean(),
      fresh: fc.boolean(),
    },
    ...{
      pollAgeMs: fc.option(agesMs, { nil: undefined }),
      jitter: fc.double({ min: 0, max: 0.999, noNaN: true }),
      othersAgeMs: fc.option(agesMs, { nil: undefined }),
    },
  })
  .map(({ worker: each, records: seen, execution, busy, halted, fresh, pollAgeMs, jitter, othersAgeMs }) =>
    view({
      ...{
        worker: each,
        execution: each.status?.lastCommand === undefined ? { state: 'none' } : execution,
        busy,
        jitter,
      },
      ...(halted && { halted: 'too many' }),
      ...(othersAgeMs !== undefined && { othersEndedAtMs: NOW_MS - othersAgeMs }),
      observation: { workers: seen, fresh, polledAtMs: pollAgeMs === undefined ? undefined : NOW_MS - pollAgeMs },
    }),
  );

const always = (check: (each: WorkerView) => void) => fc.assert(fc.property(views, check), { numRuns: 3_000 });

describe('a plan for a Worker', () => {
  it('does nothing on what is stale, unknown or was never seen', () => {
    always((each) => {
      const { observation } = each;
      const best = sightOf(observation);
      const sure = observation.fresh && observation.polledAtMs !== undefined && best.phase !== 'unknown';
      const stale = observation.workers.some((seen) => seen.stale === true && seen.gone_at === undefined);
      if (sure && !stale) return;
      expect(planWorker(each)).not.toHaveProperty('command');
      expect(planWorker(each)).not.toHaveProperty('finalized');
    });
  });

  it('does nothing while it is paused', () => {
    always((each) => {
      if (each.worker.spec.paused) expect(planWorker(each)).not.toHaveProperty('command');
      expect(planWorker({ ...each, poolPaused: true })).not.toHaveProperty('command');
    });
  });

  it("gives nothing while any command, its own or somebody's, is on its way", () => {
    always((each) => {
      const { lastCommand } = each.worker.status ?? {};
      const own =
        lastCommand !== undefined &&
        lastCommand.outcome === undefined &&
        (each.execution.state === 'queued' || each.execution.state === 'running');
      if (own || each.busy) expect(planWorker(each)).not.toHaveProperty('command');
    });
  });

  it('repairs nothing that was ready while repair is halted', () => {
    always((each) => {
      const { status, metadata } = each.worker;
      if (each.halted === undefined || status?.wasReady !== true || status.observedGeneration !== metadata.generation)
        return;
      expect(['provision', 'start']).not.toContain(planWorker(each).command?.verb);
    });
  });

  it('makes no machine where one is seen', () => {
    always((each) => {
      if (planWorker(each).command?.verb !== 'provision') return;
      expect(each.observation.workers.map(phaseOfRecord).every((phase) => phase === 'absent')).toBe(true);
    });
  });

  it('gives no new command before a poll that began after the last one ended', () => {
    always((each) => {
      const { command } = planWorker(each);
      const { lastCommand } = each.worker.status ?? {};
      if (command === undefined || lastCommand === undefined || command.token === lastCommand.token) return;
      const endedAtMs = lastCommand.endedAt === undefined ? undefined : Date.parse(lastCommand.endedAt);
      if (endedAtMs !== undefined) expect(each.observation.polledAtMs).toBeGreaterThan(endedAtMs);
    });
  });

  it('writes down whatever it gives, under its token', () => {
    always((each) => {
      const { command, status } = planWorker(each);
      if (command === undefined) return;
      const { lastCommand } = status ?? each.worker.status ?? {};
      expect(lastCommand).toMatchObject({ token: command.token, verb: command.verb });
      expect(lastCommand?.outcome).toBeUndefined();
    });
  });

  it('is the same when it is made again before anything has happened, and writes and tells nothing more', () => {
    always((each) => {
      const first = planWorker(each);
      if (first.finalized) return;
      const next: WorkerResource = { ...each.worker, ...(first.status !== undefined && { status: first.status }) };
      const same = next.status?.lastCommand?.token === each.worker.status?.lastCommand?.token;
      const again = planWorker({ ...each, worker: next, ...(!same && { execution: { state: 'none' as const } }) });
      expect(again.status).toEqual(again.command === undefined ? undefined : next.status);
      expect(again.events).toEqual([]);
      expect(again.command).toEqual(first.command);
    });
  });

  it('brings a worker that can be brought anywhere to where it is wanted', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('running' as const, 'stopped' as const, 'absent' as const),
        fc.constantFrom('running', 'stopped', 'terminated', 'none'),
        fc.array(fc.boolean(), { maxLength: 4 }),
        (desired, begin, luck) => {
          let state: string = begin;
          let nowMs = NOW_MS;
          let each = worker({ spec: { desired, source: 'ec2' } });
          let execution: ExecutionView = { state: 'none' };
          for (let round = 0; round < 20; round += 1) {
            nowMs += 130_000;
            const seen = state === 'none' ? [] : [record(state)];
            const plan = planWorker(
              view({
                worker: each,
                execution,
                nowMs,
                observation: { workers: seen, fresh: true, polledAtMs: nowMs - 1 },
              }),
            );
            if (plan.status !== undefined) each = { ...each, status: plan.status };
            if (plan.command === undefined) continue;
            const works = luck.pop() ?? true;
            execution = ended(works ? 'succeeded' : 'failed', nowMs + 1);
            if (works)
              state =
                { provision: 'running', start: 'running', stop: 'stopped', terminate: 'terminated' }[
                  plan.command.verb
                ] ?? state;
          }
          const phase = sightOf({ workers: state === 'none' ? [] : [record(state)], fresh: true, polledAtMs: 1 }).phase;
          expect(phase === desired || (desired === 'stopped' && phase === 'absent')).toBe(true);
          expect(wantedNow(each, nowMs).state).toBe(desired);
          expect(each.status?.conditions.find((condition) => condition.type === 'Synced')?.status).toBe('True');
        },
      ),
    );
  });
});

describe('a plan for a WorkerPool', () => {
  const pools = fc
    .record({
      ...{
        replicas: fc.nat(6),
        minReady: fc.nat(4),
        maxUnavailable: fc.integer({ min: 1, max: 3 }),
        remade: fc.boolean(),
      },
      scaleIn: fc.constantFrom('highest' as const, 'idle-longest' as const, 'newest' as const, 'oldest' as const),
    })
    .map(({ remade, ...over }) => {
      const args = remade ? { provision: ['new'] } : {};
      return pool({ ...over, template: { metadata: { labels: {} }, spec: templateSpec({ args }) } });
    });
  const members = (hash: string) =>
    fc
      .uniqueArray(fc.nat(9), { maxLength: 8 })
      .chain((ordinals) =>
        fc.tuple(
          ...ordinals.map((ordinal) =>
            fc
              .record({ ready: fc.boolean(), deleting: fc.boolean(), old: fc.boolean() })
              .map(({ old, ...over }) => member(ordinal, old ? 'old' : hash, over)),
          ),
        ),
      );
  const cases = pools.chain((each) => fc.tuple(fc.constant(each), members(templateHashOf(each.spec.template))));
  const planned = (each: ReturnType<typeof pool>, owned: WorkerResource[]) =>
    planPool({
      pool: each,
      workers: owned,
      otherAt: () => undefined,
      idleSeconds: (of) => of.metadata.name.length,
      launchedAtMs: () => NOW_MS,
      nowMs: NOW_MS,
    });

  it('never makes more workers than there are to be, nor one twice', () => {
    fc.assert(
      fc.property(cases, ([each, owned]) => {
        const { create } = planned(each, owned);
        const names = new Set([...owned.map(({ metadata }) => metadata.name), ...create.map(({ name }) => name)]);
        expect(names.size).toBe(owned.length + create.length);
        expect(names.size).toBeLessThanOrEqual(Math.max(each.spec.replicas, owned.length));
      }),
    );
  });

  it('never takes more than it may: what is to stay ready stays, and few are replaced at once', () => {
    fc.assert(
      fc.property(cases, ([each, owned]) => {
        const { delete: deleted } = planned(each, owned);
        const staying = owned.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
        const ready = staying.filter(isReady).map(({ metadata }) => metadata.name);
        const lost = ready.filter((name) => deleted.includes(name)).length;
        if (lost > 0)
          expect(ready.length - lost).toBeGreaterThanOrEqual(Math.min(each.spec.minReady, each.spec.replicas));
        expect(deleted.length).toBeLessThanOrEqual(
          Math.max(0, staying.length - each.spec.replicas) + each.spec.maxUnavailable,
        );
      }),
    );
  });

  it('comes to be what it is to be, one plan after the other', () => {
    fc.assert(
      fc.property(cases, ([each, begin]) => {
        const hash = templateHashOf(each.spec.template);
        let owned: WorkerResource[] = begin;
        for (let round = 0; round < 30; round += 1) {
          const { create, update, delete: deleted } = planned(each, owned);
          // Whatever was under way is done: the deleted are gone, the others are ready.
          const gone = new Set([
            ...deleted,
            ...owned
              .filter(({ metadata }) => metadata.deletionTimestamp !== undefined)
              .map(({ metadata }) => metadata.name),
          ]);
          const fresh = new Set([...create, ...update].map(({ name }) => name));
          owned = [
            ...owned
              .filter(({ metadata }) => !gone.has(metadata.name) && !fresh.has(metadata.name))
              .map(({ metadata, spec }) =>
                member(Number(metadata.name.slice(2)), metadata.templateHash ?? '', { spec }),
              ),
            ...[...create, ...update]
              .filter(({ name }) => !gone.has(name))
              .map(({ name, spec }) => member(Number(name.slice(2)), hash, { spec })),
          ];
        }
        expect(owned.length).toBe(each.spec.replicas);
        // What may not be touched, as all of it is to stay ready, stays as it was.
        const frozen = each.spec.minReady >= each.spec.replicas;
        if (!frozen) expect(owned.every(({ metadata }) => metadata.templateHash === hash)).toBe(true);
      }),
    );
  });
});
