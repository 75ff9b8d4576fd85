/**
 * One run from one number: a few minutes in which everything goes wrong, then peace, in which all must come to be as
 * wanted. Promises are checked wherever they could be broken; the first broken one is thrown.
 */
import {
  RESOURCE_API_VERSION,
  type WorkerPoolResource,
  type WorkerResource,
  type WorkerSpec,
} from '@carrierarr/protocol';
import { isTrue } from '@carrierarr/reconcile';
import { Agenda } from './agenda.js';
import { Broken } from './broken.js';
import { Cloud, stateAt } from './cloud.js';
import { IDLE_STOP_MS, Monitor, newWorker } from './monitor.js';
import { Random } from './random.js';
import { type Breaks, ModelRedis } from './redis.js';
import { Runner } from './runner.js';

const START_MS = Date.UTC(2026, 0, 5);
/** Faults last up to this. */
const TROUBLE_MS = 5 * 60_000;
/** All is as wanted this long after the last fault: the longest backoff, lost scripts and the cloud's lag, twice. */
export const CONVERGED_MS = 20 * 60_000;

/** What happened in a run, to see that runs contain what they are to test. */
export interface Run {
  commands: number;
  lost: number;
  machines: number;
  leaders: number;
  removed: number;
  idleStops: number;
}

export function simulate(seed: number, breaks: Breaks = {}, print?: (line: string) => void): Run {
  const random = new Random(seed);
  const agenda = new Agenda(START_MS, print);
  const troubleEndsMs = START_MS + random.between(TROUBLE_MS / 2, TROUBLE_MS);
  const faulty = () => agenda.nowMs < troubleEndsMs;
  const redis = new ModelRedis(agenda, random, breaks);
  const cloud = new Cloud(random);
  cloud.skewMs = random.between(-5_000, 5_000);
  const scripted = random.chance(0.2);
  const runner = new Runner({ agenda, random, redis, cloud, faulty });
  runner.scripted = scripted;
  redis.flakiness = random.pick([0, 0, 0.02, 0.1]);
  const shared = { agenda, random, redis, cloud, scripted, faulty, breaks };
  const monitors = Array.from({ length: random.between(2, 3) }, (_, number) => new Monitor({ ...shared, number }));
  for (const monitor of monitors) monitor.start();

  const users = new Users(agenda, random, redis, cloud, scripted);
  users.begin();
  const trouble = () => {
    if (!faulty()) return;
    agenda.after(random.between(1_000, 20_000), trouble);
    const luck = random.next();
    if (luck < 0.15) random.pick(monitors).crash(random.between(1_000, 40_000));
    else if (luck < 0.4) random.pick(monitors).freeze(random.between(1_000, 40_000));
    else if (luck < 0.5) redis.awayUntilMs = agenda.nowMs + random.between(1_000, 30_000);
    else if (luck < 0.55) cloud.awayUntilMs = agenda.nowMs + random.between(10_000, 120_000);
    else if (luck < 0.65) cloud.work(agenda.nowMs);
    else users.act();
  };
  agenda.after(random.between(1_000, 20_000), trouble);

  agenda.runUntil(troubleEndsMs, () => false);
  agenda.tell(() => 'the trouble is over');
  redis.flakiness = 0;
  redis.awayUntilMs = 0;
  cloud.awayUntilMs = 0;
  users.settle();
  let calmSinceMs: number | undefined;
  let why: string | undefined = 'nothing was looked at';
  const look = () => {
    why = whyNotConverged(redis, cloud, agenda.nowMs);
    calmSinceMs = why === undefined ? (calmSinceMs ?? agenda.nowMs) : undefined;
    agenda.after(5_000, look);
  };
  look();
  // As wanted, and still so after a while.
  const isCalm = () => calmSinceMs !== undefined && agenda.nowMs - calmSinceMs > 30_000;
  agenda.runUntil(troubleEndsMs + CONVERGED_MS, isCalm);
  if (!isCalm()) throw new Broken(`not as wanted ${CONVERGED_MS / 60_000} minutes after the last fault: ${why}`);
  return {
    commands: redis.commands.length,
    lost: redis.commands.filter((command) => command.outcome === 'lost').length,
    machines: cloud.machines.length,
    leaders: redis.lease.fence,
    removed: redis.removed,
    idleStops: monitors.reduce((sum, monitor) => sum + monitor.idleStops, 0),
  };
}

function whyNotConverged(redis: ModelRedis, cloud: Cloud, nowMs: number): string | undefined {
  const { pool } = redis;
  const workers = [...redis.workers.values()];
  if (pool !== undefined) {
    const hash = new Set(workers.map((worker) => worker.metadata.templateHash));
    if (workers.length !== pool.spec.replicas) return `the pool has ${workers.length} of ${pool.spec.replicas} workers`;
    if (hash.size > 1) return 'the pool has workers of several templates';
    if (pool.status?.ready !== workers.filter((worker) => isTrue(worker.status?.conditions ?? [], 'Ready')).length)
      return 'the status of the pool is not that of its workers';
  }
  for (const { metadata, spec, status } of workers) {
    const { name } = metadata;
    if (metadata.deletionTimestamp !== undefined) return `${name} is still being deleted`;
    const living = cloud.living(name, nowMs);
    const state = living[0] === undefined ? 'absent' : stateAt(living[0], nowMs);
    if (living.length > 1) return `${name} has ${living.length} machines`;
    if (status === undefined || !isTrue(status.conditions, 'Synced'))
      return `${name} is not synced: ${JSON.stringify(status)}`;
    const stopped = spec.desired === 'stopped' || isTrue(status.conditions, 'IdleStopped');
    const right =
      spec.desired === 'absent'
        ? state === 'absent'
        : stopped
          ? state === 'stopped' || state === 'absent'
          : state === 'running';
    if (!right) return `${name} is ${state}, and is to be ${spec.desired}`;
  }
  const orphan = cloud.machines.find(
    (machine) => cloud.living(machine.target, nowMs).includes(machine) && !redis.workers.has(machine.target),
  );
  return orphan && `${orphan.id} of ${orphan.target} is left over`;
}

/** People, who change their minds and do things by hand. */
class Users {
  readonly #agenda: Agenda;
  readonly #random: Random;
  readonly #redis: ModelRedis;
  readonly #cloud: Cloud;
  readonly #scripted: boolean;
  #number = 0;

  constructor(agenda: Agenda, random: Random, redis: ModelRedis, cloud: Cloud, scripted: boolean) {
    this.#agenda = agenda;
    this.#random = random;
    this.#redis = redis;
    this.#cloud = cloud;
    this.#scripted = scripted;
  }

  begin(): void {
    if (this.#random.chance(0.4)) this.#redis.pool = this.#newPool();
    else for (let index = this.#random.between(1, 2); index > 0; index -= 1) this.#create(`w${index}`);
  }

  act(): void {
    const random = this.#random;
    const worker = random.pick([...this.#redis.workers.values()]);
    const luck = random.next();
    if (worker === undefined) {
      if (this.#redis.pool === undefined) this.#create('w1');
      return;
    }
    if (luck < 0.25) this.#behindItsBack(worker.metadata.name);
    else if (luck < 0.45) this.#byHand(worker.metadata.name);
    else if (this.#redis.pool !== undefined) this.#changePool(this.#redis.pool);
    else if (luck < 0.8)
      this.#changeSpec(worker, { desired: random.pick(['running', 'running', 'stopped', 'absent'] as const) });
    else if (luck < 0.9) this.#changeSpec(worker, { paused: !worker.spec.paused });
    else this.#delete(worker);
  }

  /** In the end nothing is paused, or nothing would come of it. */
  settle(): void {
    for (const worker of this.#redis.workers.values())
      if (worker.spec.paused) this.#changeSpec(worker, { paused: false });
    const { pool } = this.#redis;
    if (pool?.spec.paused === true) this.#writePool(pool, { paused: false });
  }

  #spec(): WorkerSpec {
    return {
      desired: 'running',
      source: this.#scripted ? 'script' : 'ec2',
      args: {},
      maxRetries: 1_000,
      paused: false,
      ...(this.#random.chance(0.3) && { idleStopAfter: `${IDLE_STOP_MS / 1000}s` }),
    };
  }

  #create(name: string): void {
    this.#agenda.tell(() => `a user makes ${name}`);
    this.#redis.putWorker(newWorker(name, this.#spec(), this.#agenda.nowMs, `u${this.#redis.nextRevision()}`), '0');
  }

  #delete(worker: WorkerResource): void {
    const metadata = { ...worker.metadata, deletionTimestamp: new Date(this.#agenda.nowMs).toISOString() };
    this.#redis.putWorker({ ...worker, metadata }, undefined);
    this.#agenda.tell(() => `a user deletes ${metadata.name}`);
    // Somebody wants it back as soon as it is gone.
    const again = () => {
      const now = this.#redis.workers.get(metadata.name);
      if (now === undefined) this.#create(metadata.name);
      else if (now.metadata.uid === metadata.uid) this.#agenda.after(2_000, again);
    };
    if (this.#random.chance(0.5)) this.#agenda.after(2_000, again);
  }

  #changeSpec(worker: WorkerResource, change: Partial<WorkerSpec>): void {
    const metadata = { ...worker.metadata, generation: worker.metadata.generation + 1 };
    this.#redis.putWorker({ ...worker, metadata, spec: { ...worker.spec, ...change } }, undefined);
    this.#agenda.tell(() => `a user changes ${metadata.name}: ${JSON.stringify(change)}`);
  }

  #byHand(target: string): void {
    this.#number += 1;
    const verb = this.#random.pick(['start', 'stop', 'terminate', 'job', 'job']);
    this.#redis.submit({ token: `user-${this.#number}`, target, verb, args: [], fence: undefined });
  }

  #behindItsBack(target: string): void {
    this.#agenda.tell(() => `behind its back: ${target}`);
    for (const machine of this.#cloud.living(target, this.#agenda.nowMs))
      if (this.#random.chance(0.5)) this.#cloud.stop(machine, this.#agenda.nowMs);
      else this.#cloud.terminate(machine, this.#agenda.nowMs);
  }

  #newPool(): WorkerPoolResource {
    const { paused: _, ...spec } = this.#spec();
    return {
      apiVersion: RESOURCE_API_VERSION,
      kind: 'WorkerPool',
      metadata: {
        ...{ name: 'p', labels: {}, uid: 'pool', generation: 1, resourceVersion: this.#redis.nextRevision() },
        ...{ creationTimestamp: new Date(this.#agenda.nowMs).toISOString(), finalizers: [] },
      },
      spec: {
        ...{
          replicas: this.#random.between(1, 3),
          minReady: this.#random.between(0, 1),
          maxUnavailable: 1,
          paused: false,
        },
        ...{ scaleIn: this.#random.pick(['highest', 'oldest'] as const), template: { metadata: { labels: {} }, spec } },
      },
    };
  }

  #changePool(pool: WorkerPoolResource): void {
    const luck = this.#random.next();
    const { template } = pool.spec;
    if (luck < 0.5) this.#writePool(pool, { replicas: this.#random.between(0, 3) });
    else if (luck < 0.75) {
      const args = { provision: [`v${this.#random.between(1, 9)}`] };
      this.#writePool(pool, { template: { ...template, spec: { ...template.spec, args } } });
    } else if (luck < 0.9)
      this.#writePool(pool, {
        template: {
          ...template,
          spec: { ...template.spec, desired: this.#random.pick(['running', 'stopped'] as const) },
        },
      });
    else this.#writePool(pool, { paused: !pool.spec.paused });
  }

  #writePool(pool: WorkerPoolResource, change: Partial<WorkerPoolResource['spec']>): void {
    const metadata = {
      ...pool.metadata,
      generation: pool.metadata.generation + 1,
      resourceVersion: this.#redis.nextRevision(),
    };
    this.#redis.pool = { ...pool, metadata, spec: { ...pool.spec, ...change } };
    this.#agenda.tell(() => `a user changes the pool: ${JSON.stringify(change)}`);
  }
}
