/**
 * One look at one WorkerPool. Its plan is about resources only: Workers to make, to change and to delete. What becomes of
 * their machines is each Worker's own affair. Making a Worker twice is making it once, since its name is the pool's and
 * an ordinal; so whoever dies in the middle leaves nothing that the next look would not find and go on from.
 */
import { randomUUID } from 'node:crypto';
import {
  type Manifest,
  POOL_LABEL,
  RESOURCE_API_VERSION,
  type WorkerPoolResource,
  type WorkerResource,
} from '@carrierarr/protocol';
import { planPool, type PoolPlan } from '@carrierarr/reconcile';
import { createResource, markDeleted, updateResource } from '@carrierarr/store';
import type { Effects } from './effects.js';
import type { Fleet } from './fleet.js';
import type { StepResult } from './step-result.js';
import type { Views } from './view.js';

/** Workers made, changed and deleted in one look, at most; the next look goes on. */
export const CHANGES_MAX = 256;
/** Look again this soon after a Worker could not be made, as something had its name or its target. */
const CONFLICT_RECHECK_MS = 1_000;
/** Of these, on their way to Redis at once. */
const WRITES_AT_ONCE = 16;

export interface PoolStepOptions {
  fleet: Fleet;
  views: Views;
  effects: Effects;
  nowMs: () => number;
  /** Why the repair of a pool's Workers is halted, if it is. */
  haltOf: (group: string) => string | undefined;
  /** A Worker's uid; random by default. */
  uid?: () => string;
}

export class PoolStep {
  readonly #o: PoolStepOptions;

  constructor(options: PoolStepOptions) {
    this.#o = options;
  }

  run(name: string): StepResult | Promise<StepResult> {
    const pool = this.#o.fleet.get('WorkerPool', name);
    if (pool === undefined) return {};
    const plan = planPool(this.#o.views.poolView(pool, this.#o.haltOf(name)));
    return isNothing(plan) ? resultOf(plan) : this.#act(pool, plan);
  }

  async #act(pool: WorkerPoolResource, plan: PoolPlan): Promise<StepResult> {
    const { effects } = this.#o;
    const { name, resourceVersion } = pool.metadata;
    if (plan.status !== undefined) {
      const answer = await effects.write({ ...pool, status: plan.status }, resourceVersion);
      // Somebody may have scaled it: nothing is done to its Workers on the word of an old spec.
      if (answer === 'conflict') return { again: true };
    }
    let hasConflict = false;
    const changes = [
      ...plan.create.map((made) => async () => {
        if ((await this.#create(pool, made)) === 'conflict') hasConflict = true;
      }),
      ...plan.update.map((changed) => () => this.#update(pool, changed)),
      ...plan.delete.map((victim) => () => this.#delete(victim)),
    ];
    await inTurns(changes.slice(0, CHANGES_MAX));
    effects.tell('WorkerPool', name, plan.events);
    if (plan.finalized === true && (await effects.remove(pool)) === 'conflict') return { again: true };
    if (changes.length > CHANGES_MAX) return { again: true };
    // Where it is somebody else's Worker, nothing that becomes of it brings the pool back here.
    return hasConflict ? { requeueAfterMs: CONFLICT_RECHECK_MS } : resultOf(plan);
  }

  async #create(pool: WorkerPoolResource, made: PoolPlan['create'][number]): Promise<'written' | 'conflict'> {
    const { effects, nowMs, uid = randomUUID } = this.#o;
    const { name, uid: poolUid } = pool.metadata;
    const worker = createResource(manifestOf(pool, made), {
      uid: uid(),
      nowIso: new Date(nowMs()).toISOString(),
      owner: { kind: 'WorkerPool', name, uid: poolUid },
      templateHash: made.templateHash,
    });
    // A conflict: it is there already, and is known now; or its target is another's, which is heard of soon.
    return effects.write(worker, '0');
  }

  /** A conflict leaves it as it is; the change that caused it brings the pool back here. */
  async #update(pool: WorkerPoolResource, changed: PoolPlan['update'][number]): Promise<void> {
    const worker = this.#o.fleet.get('Worker', changed.name);
    if (worker === undefined) return;
    const { metadata, ...rest } = updateResource(worker, manifestOf(pool, changed));
    const next: WorkerResource = { ...rest, metadata: { ...metadata, templateHash: changed.templateHash } };
    await this.#o.effects.write(next, metadata.resourceVersion);
  }

  async #delete(name: string): Promise<void> {
    const worker = this.#o.fleet.get('Worker', name);
    if (worker === undefined || worker.metadata.deletionTimestamp !== undefined) return;
    const marked = markDeleted(worker, new Date(this.#o.nowMs()).toISOString(), false);
    await this.#o.effects.write(marked, worker.metadata.resourceVersion);
  }
}

function manifestOf(pool: WorkerPoolResource, { name, labels, spec }: PoolPlan['create'][number]) {
  return {
    apiVersion: RESOURCE_API_VERSION,
    kind: 'Worker',
    metadata: { name, labels: { ...labels, [POOL_LABEL]: pool.metadata.name } },
    spec,
  } satisfies Manifest;
}

/** Runs all of them, a few at a time; when one fails, those that have not begun do not. */
async function inTurns(changes: readonly (() => Promise<void>)[]): Promise<void> {
  const line = [...changes];
  const work = async () => {
    for (let next = line.shift(); next !== undefined; next = line.shift()) await next();
  };
  try {
    await Promise.all(Array.from({ length: WRITES_AT_ONCE }, work));
  } finally {
    line.length = 0;
  }
}

function isNothing({ status, create, update, delete: victims, events, finalized }: PoolPlan): boolean {
  return (
    status === undefined &&
    finalized === undefined &&
    create.length + update.length + victims.length + events.length === 0
  );
}

function resultOf({ requeueAfterMs }: PoolPlan): StepResult {
  return requeueAfterMs === undefined ? {} : { requeueAfterMs };
}
