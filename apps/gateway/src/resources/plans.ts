/**
 * What the reconciler would do about a resource now, by the same pure functions that it uses, on what this gateway knows.
 * Nothing is written. The jitter is 0: waits are told at their shortest.
 */
import type { Clock } from '@carrierarr/platform';
import {
  type DryRunBody,
  type PlanBody,
  type Resource,
  targetOf,
  type WorkerPoolResource,
  type WorkerResource,
} from '@carrierarr/protocol';
import { conditionOf, idleStopHold, machineFacts, planPool, planWorker } from '@carrierarr/reconcile';
import type { ResourceFollow } from '@carrierarr/store';
import type { RedisHealth } from '../redis-health.js';
import type { StatusFeed } from '../status/status-feed.js';
import type { GivenCommands } from './given-commands.js';
import { observationIn, type Seen } from './observation.js';
import type { Proposal } from './resources.js';

/** Names that a plan of a pool lists of each kind. */
const NAMES_MAX = 100;

export interface PlansOptions {
  status: Pick<StatusFeed, 'observed'>;
  follow: Pick<ResourceFollow, 'resources'>;
  commands: GivenCommands;
  redis: RedisHealth;
  clock: Clock;
}

export class Plans {
  readonly #o: PlansOptions;

  constructor(options: PlansOptions) {
    this.#o = options;
  }

  /** Throws RedisAwayError. */
  async of(resource: Resource): Promise<PlanBody> {
    return this.#plan(resource, await this.#o.status.observed());
  }

  /** What writing them would change, and what would be done then. Throws RedisAwayError. */
  async ofProposals(proposals: readonly Proposal[]): Promise<DryRunBody> {
    const seen = await this.#o.status.observed();
    const items: DryRunBody['items'] = [];
    for (const { resource, change, paths } of proposals) {
      const { kind, metadata } = resource;
      items.push({ kind, name: metadata.name, change, paths, plan: await this.#plan(resource, seen) });
    }
    return { items };
  }

  async #plan(resource: Resource, seen: Seen): Promise<PlanBody> {
    return resource.kind === 'Worker' ? this.#ofWorker(resource, seen) : this.#ofPool(resource, seen);
  }

  async #ofWorker(worker: WorkerResource, seen: Seen): Promise<PlanBody> {
    const { commands, redis, clock, follow } = this.#o;
    const target = targetOf(worker);
    const { owner, name } = worker.metadata;
    const pool = owner && follow.resources.get('WorkerPool', owner.name);
    const [execution, others] = await redis.bounded(() =>
      Promise.all([commands.viewOf(target, worker.status?.lastCommand), commands.othersOn(target, worker)]),
    );
    const nowMs = clock.now();
    // Who is halted only the leader can judge, who saw what went bad; it says so in the status.
    const halted = haltOf(worker) ?? (pool && haltOf(pool));
    const keepReady = pool && idleStopHold(pool, this.#workersOf(pool));
    const { summary, command, status, events } = planWorker({
      ...{ worker, observation: observationIn(seen, worker, nowMs), execution, nowMs, jitter: 0, ...others },
      ...(halted !== undefined && { halted }),
      ...(pool?.spec.paused && { poolPaused: true }),
      ...(keepReady !== undefined && { keepReady }),
    });
    return {
      ...{ kind: 'Worker', name, summary, events },
      ...(command && { command: { verb: command.verb, args: command.args, target } }),
      ...(status && { status }),
    };
  }

  #ofPool(pool: WorkerPoolResource, seen: Seen): PlanBody {
    const nowMs = this.#o.clock.now();
    const factsOf = (worker: WorkerResource) => machineFacts(observationIn(seen, worker, nowMs), nowMs);
    const halted = haltOf(pool);
    const plan = planPool({
      ...{ pool, workers: this.#workersOf(pool), nowMs },
      otherAt: this.#othersOf(pool),
      idleSeconds: (worker) => factsOf(worker).idleSeconds,
      launchedAtMs: (worker) => factsOf(worker).launchedAtMs,
      ...(halted !== undefined && { halted }),
    });
    const { summary, status, events } = plan;
    const names = (workers: readonly { name: string }[]) => workers.slice(0, NAMES_MAX).map(({ name }) => name);
    return {
      ...{ kind: 'WorkerPool', name: pool.metadata.name, summary, events },
      ...{ create: names(plan.create), update: names(plan.update), delete: plan.delete.slice(0, NAMES_MAX) },
      ...(status && { status }),
    };
  }

  /** Who has a name, or has it for its target, and is not the pool's. Made once for all names of a plan. */
  #othersOf({ metadata: { uid } }: WorkerPoolResource): (name: string) => WorkerResource | undefined {
    const others = new Map<string, WorkerResource>();
    const all = this.#o.follow.resources.list('Worker').filter(({ metadata }) => metadata.owner?.uid !== uid);
    for (const worker of all) others.set(targetOf(worker), worker);
    for (const worker of all) others.set(worker.metadata.name, worker);
    return (name) => others.get(name);
  }

  #workersOf({ metadata: { uid } }: WorkerPoolResource): WorkerResource[] {
    return this.#o.follow.resources.list('Worker').filter(({ metadata }) => metadata.owner?.uid === uid);
  }
}

function haltOf({ status }: WorkerResource | WorkerPoolResource): string | undefined {
  const halted = conditionOf(status?.conditions ?? [], 'Halted');
  return halted?.status === 'True' ? halted.message : undefined;
}
