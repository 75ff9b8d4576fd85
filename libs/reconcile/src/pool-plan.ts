/**
 * What to do about one WorkerPool now: which of its Workers to create, change or delete. It never looks at machines;
 * each Worker brings its own into being and out of it. As Workers are named by ordinal and those that are on their
 * way out count until they are gone, there are never more than `replicas` because of anything done here.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Condition, WorkerPoolResource, WorkerPoolStatus, WorkerResource } from '@carrierarr/protocol';
import { conditionOf, isTrue, type Statement, withCondition } from './conditions.js';
import { isReady, isSettled, readyFloorOf, rolloutOf, specFrom } from './pool-rollout.js';
import { missingNames, ordinalOf, surplusOf } from './pool-scale.js';
import { sortedOut, TAKEN_RECHECK_MS } from './pool-taken.js';
import type { PlannedWorker, PoolPlan, PoolView } from './pool-view.js';
import { templateHashOf } from './template-hash.js';
import type { PlannedEvent } from './worker-view.js';

export type { PlannedWorker, PoolPlan, PoolView } from './pool-view.js';

/** Most Workers created or changed by one plan; the next plan goes on. */
export const POOL_STEP_MAX = 500;

export function planPool(view: PoolView): PoolPlan {
  const { pool } = view;
  if (pool.metadata.deletionTimestamp !== undefined) return planDeletion(view);
  const { spec } = pool;
  const templateHash = templateHashOf(spec.template);
  const active = byOrdinal(pool, view.workers.filter(isStaying));
  const nothing = { create: [], update: [], delete: [], events: [] };
  if (spec.paused) {
    const text = 'It is paused: nothing is created, changed or deleted.';
    return { ...nothing, status: statusIfNew(view, templateHash, no('Paused', text)), summary: text };
  }

  const going = surplusOf(view, active);
  const staying = active.filter((worker) => !going.includes(worker));
  // Those that are being deleted still have machines: their places are free only when they are gone.
  const missing = Math.max(0, spec.replicas - view.workers.length);
  const vacant = Math.max(0, spec.replicas - staying.length);
  const { update, replace } = rolloutOf({ spec, templateHash, staying, vacant });
  const taken = new Set(view.workers.map((worker) => worker.metadata.name));
  const wanted = missingNames(pool.metadata.name, taken, Math.min(missing, POOL_STEP_MAX));
  const { free, taken: takenText } = sortedOut(view, wanted);
  const create = free.map((name) => plannedWorker(pool, templateHash, name));
  const updated = update
    .slice(0, POOL_STEP_MAX)
    .map((worker) => plannedWorker(pool, templateHash, worker.metadata.name, worker));
  const deleted = [...going, ...replace].map((worker) => worker.metadata.name);
  const summary = summaryOf(view, create.length, updated.length, going.length, replace.length);
  const acts = create.length + updated.length + deleted.length > 0;
  const settled = !acts && isWhole(view, active, templateHash);
  const short = takenText === undefined ? undefined : no('NameTaken', takenText);
  const synced = short ?? (settled ? yes('AsWanted', summary) : no('Changing', summary));
  const status = statusIfNew(view, templateHash, synced, acts);
  const more = missing > wanted.length || update.length > updated.length;
  return {
    ...{ status, create, update: updated, delete: deleted },
    summary: takenText === undefined ? summary : acts ? `${summary} ${takenText}` : takenText,
    events: [
      ...eventsOf(create.length, updated.length, going, replace),
      ...takenEvents(pool, short),
      ...conditionEvents(pool, status),
    ],
    ...(more ? { requeueAfterMs: 1 } : short !== undefined && { requeueAfterMs: TAKEN_RECHECK_MS }),
  };
}

function planDeletion(view: PoolView): PoolPlan {
  const { pool, workers } = view;
  const nothing = { create: [], update: [], delete: [], events: [] };
  if (workers.length === 0) return { ...nothing, status: undefined, finalized: true, summary: 'Its workers are gone.' };
  const templateHash = templateHashOf(pool.spec.template);
  if (pool.spec.paused) {
    const text = 'It is being deleted, and paused: its workers stay until it is resumed.';
    return { ...nothing, status: statusIfNew(view, templateHash, no('Paused', text)), summary: text };
  }
  const text = 'It is being deleted, and waits for its workers to go.';
  const going = workers.filter(isStaying).map((worker) => worker.metadata.name);
  return {
    ...nothing,
    status: statusIfNew(view, templateHash, no('Deleting', text), going.length > 0),
    delete: going,
    summary: text,
  };
}

/**
 * Why a Worker of this pool must not be stopped for idleness now, as fewer than `minReady` would stay ready; undefined
 * if it may. Ask with what was written last: two at once that each ask with the other still ready would both go.
 */
export function idleStopHold(pool: WorkerPoolResource, workers: readonly WorkerResource[]): string | undefined {
  const ready = workers.filter((worker) => isStaying(worker) && isReady(worker)).length;
  const keep = readyFloorOf(pool.spec);
  return ready > keep ? undefined : `Pool ${pool.metadata.name} is to keep ${keep} workers ready.`;
}

function plannedWorker(
  pool: WorkerPoolResource,
  templateHash: string,
  name: string,
  before?: WorkerResource,
): PlannedWorker {
  const { template } = pool.spec;
  return { name, labels: { ...template.metadata.labels }, spec: specFrom(template, before), templateHash };
}

function isStaying(worker: WorkerResource): boolean {
  return worker.metadata.deletionTimestamp === undefined;
}

function byOrdinal(pool: WorkerPoolResource, workers: readonly WorkerResource[]): WorkerResource[] {
  const ordinal = (worker: WorkerResource) => ordinalOf(pool.metadata.name, worker.metadata.name) ?? Infinity;
  return workers.toSorted((a, b) => (ordinal(a) < ordinal(b) ? -1 : 1));
}

function isWhole(view: PoolView, active: readonly WorkerResource[], templateHash: string): boolean {
  const { replicas } = view.pool.spec;
  if (view.workers.length !== replicas || active.length !== replicas) return false;
  return active.every((worker) => worker.metadata.templateHash === templateHash && isSettled(worker));
}

/** The status if it is to be written: as it has changed, or as a plan that `acts` must fail if the pool has. */
function statusIfNew(
  view: PoolView,
  templateHash: string,
  synced: Statement,
  acts = false,
): WorkerPoolStatus | undefined {
  const { pool, workers, halted, nowMs } = view;
  const { generation } = pool.metadata;
  const ready = workers.filter((worker) => isStaying(worker) && isReady(worker)).length;
  const { replicas } = pool.spec;
  const at = { generation, nowMs };
  const before = pool.status?.conditions ?? [];
  let conditions: Condition[] = withCondition(before, 'Available', availableOf(ready, readyFloorOf(pool.spec)), at);
  conditions = withCondition(conditions, 'Synced', synced, at);
  if (halted !== undefined) conditions = withCondition(conditions, 'Halted', yes('TooManyBad', halted), at);
  else if (isTrue(conditions, 'Halted'))
    conditions = withCondition(conditions, 'Halted', no('NotHalted', 'Its workers may be repaired.'), at);
  const status: WorkerPoolStatus = {
    observedGeneration: generation,
    conditions,
    replicas: workers.length,
    ready,
    updated: workers.filter((worker) => isStaying(worker) && worker.metadata.templateHash === templateHash).length,
    unavailable: Math.max(0, replicas - ready),
  };
  return !acts && isDeepStrictEqual(status, pool.status) ? undefined : status;
}

function availableOf(ready: number, wanted: number): Statement {
  return ready >= wanted
    ? yes('EnoughReady', `At least ${wanted} workers are ready.`)
    : no('TooFewReady', `Fewer than ${wanted} workers are ready.`);
}

function summaryOf(view: PoolView, created: number, updated: number, going: number, replaced: number): string {
  const steps = [
    ...(created > 0 ? [`creates ${created}`] : []),
    ...(updated > 0 ? [`changes ${updated} in place`] : []),
    ...(going > 0 ? [`deletes ${going}, as there are too many`] : []),
    ...(replaced > 0 ? [`replaces ${replaced}`] : []),
  ];
  if (steps.length > 0) return `It ${steps.join(', ')}.`;
  const { replicas } = view.pool.spec;
  return view.workers.length === replicas
    ? `It has the ${replicas} workers it is to have.`
    : `It waits for workers to go: it has ${view.workers.length}, and is to have ${replicas}.`;
}

function eventsOf(
  created: number,
  updated: number,
  going: WorkerResource[],
  replaced: WorkerResource[],
): PlannedEvent[] {
  const names = (workers: WorkerResource[]) =>
    `${workers
      .slice(0, 5)
      .map(({ metadata }) => metadata.name)
      .join(', ')}${workers.length > 5 ? `, and ${workers.length - 5} more` : ''}`;
  const events: PlannedEvent[] = [];
  if (created > 0) events.push({ type: 'Normal', reason: 'ScalingOut', message: `Creates ${created} workers.` });
  if (updated > 0) events.push({ type: 'Normal', reason: 'Updating', message: `Changes ${updated} workers in place.` });
  if (going.length > 0) events.push({ type: 'Normal', reason: 'ScalingIn', message: `Deletes ${names(going)}.` });
  if (replaced.length > 0)
    events.push({ type: 'Normal', reason: 'Replacing', message: `Replaces ${names(replaced)}.` });
  return events;
}

function conditionEvents(pool: WorkerPoolResource, status: WorkerPoolStatus | undefined): PlannedEvent[] {
  const halted = status === undefined ? undefined : conditionOf(status.conditions, 'Halted');
  if (halted?.status !== 'True' || isTrue(pool.status?.conditions ?? [], 'Halted')) return [];
  return [{ type: 'Warning', reason: 'RepairHalted', message: halted.message }];
}

/** Told once for each thing there is to say. */
function takenEvents({ status }: WorkerPoolResource, short: Statement | undefined): PlannedEvent[] {
  if (short === undefined) return [];
  const before = conditionOf(status?.conditions ?? [], 'Synced');
  if (before?.reason === short.reason && before.message === short.message) return [];
  return [{ type: 'Warning', reason: short.reason, message: short.message }];
}

function yes(reason: string, message: string): Statement {
  return { status: 'True', reason, message };
}

function no(reason: string, message: string): Statement {
  return { status: 'False', reason, message };
}
