/**
 * A monitor: tries for the lease, and while it believes to have it polls the cloud, and plans and acts for each
 * Worker one step after the other. Between any two steps it may crash or be frozen, and a frozen one goes on with the
 * next step when it thaws, whoever leads by then. What it plans with may be older than what Redis has.
 */
import {
  POOL_LABEL,
  RESOURCE_API_VERSION,
  type SeenWorker,
  TERMINATE_FINALIZER,
  type WorkerPoolResource,
  type WorkerResource,
} from '@carrierarr/protocol';
import {
  CLOUD_LAG_MS,
  conditionOf,
  type ExecutionView,
  planPool,
  planWorker,
  type PlannedWorker,
  type WorkerPlan,
  type WorkerView,
} from '@carrierarr/reconcile';
import type { Agenda } from './agenda.js';
import { Broken } from './broken.js';
import { type Cloud, stateAt } from './cloud.js';
import type { Random } from './random.js';
import { LOST_SCRIPT_MS } from './runner.js';
import { type Breaks, type Command, Deposed, LEASE_MS, type ModelRedis, type Published, Unavailable } from './redis.js';

export const POLL_MS = 15_000;
const FRESH_MS = 3 * POLL_MS;
const TICK_MS = 3_000;

export interface MonitorOptions {
  number: number;
  agenda: Agenda;
  random: Random;
  redis: ModelRedis;
  cloud: Cloud;
  /** The workers are files of a script rather than machines of a cloud. */
  scripted: boolean;
  faulty: () => boolean;
  breaks: Breaks;
}

export class Monitor {
  readonly #o: MonitorOptions;
  idleStops = 0;
  #incarnation = 0;
  #frozenUntilMs = 0;
  #fence: number | undefined;
  #renewedAtMs = 0;
  #cache = new Map<string, WorkerResource>();
  #pool: WorkerPoolResource | undefined;
  readonly #atWork = new Set<string>();
  /** Keys that asked to be looked at again, with when. */
  readonly #wakeAtMs = new Map<string, number>();

  constructor(options: MonitorOptions) {
    this.#o = options;
  }

  start(): void {
    this.#fence = undefined;
    this.#cache = new Map();
    this.#pool = undefined;
    this.#atWork.clear();
    this.#wakeAtMs.clear();
    this.#later(this.#o.random.between(0, TICK_MS), () => this.#tick());
    this.#later(this.#o.random.between(0, POLL_MS), () => this.#pollLoop());
  }

  crash(downMs: number): void {
    this.#o.agenda.tell(() => `monitor ${this.#o.number} crashes`);
    this.#incarnation += 1;
    this.#o.agenda.after(downMs, () => this.start());
  }

  freeze(forMs: number): void {
    this.#o.agenda.tell(() => `monitor ${this.#o.number} freezes for ${forMs} ms`);
    this.#frozenUntilMs = Math.max(this.#frozenUntilMs, this.#o.agenda.nowMs + forMs);
  }

  /** Runs later, unless it has crashed by then; not before it has thawed. */
  #later(delayMs: number, run: () => void): void {
    const { agenda } = this.#o;
    const incarnation = this.#incarnation;
    const attempt = () => {
      if (this.#incarnation !== incarnation) return;
      if (agenda.nowMs < this.#frozenUntilMs) agenda.at(this.#frozenUntilMs, attempt);
      else run();
    };
    agenda.after(delayMs, attempt);
  }

  /** A call to Redis: its answer, or undefined if it failed; after some failures it does not lead any more. */
  #ask<T>(run: () => T): { answer: T } | undefined {
    try {
      return { answer: this.#o.redis.call(run) };
    } catch (error) {
      if (error instanceof Deposed) this.#fence = undefined;
      else if (!(error instanceof Unavailable)) throw error;
      return undefined;
    }
  }

  #tick(): void {
    const { agenda, redis, number } = this.#o;
    this.#later(TICK_MS, () => this.#tick());
    const held = this.#ask(() => redis.hold(number));
    if (held === undefined) {
      if (agenda.nowMs - this.#renewedAtMs > (LEASE_MS * 2) / 3) this.#fence = undefined;
      return;
    }
    this.#renewedAtMs = agenda.nowMs;
    const fence = held.answer;
    if (fence === undefined) this.#fence = undefined;
    // A new leader closes the door behind the old one before it does anything.
    else if (fence !== this.#fence) this.#fence = this.#ask(() => redis.raise(fence)) && fence;
  }

  #pollLoop(): void {
    const { random } = this.#o;
    this.#later(POLL_MS - random.between(0, 3_000), () => this.#pollLoop());
    if (this.#fence === undefined) return;
    const fence = this.#fence;
    const beganAtMs = this.#o.agenda.nowMs;
    const { cloud, faulty } = this.#o;
    const fails = beganAtMs < cloud.awayUntilMs || (faulty() && random.chance(0.15));
    const listed = fails ? undefined : this.#look();
    this.#later(random.between(10, 500), () => {
      if (listed !== undefined)
        this.#ask(() => {
          this.#o.redis.fenced(fence);
          this.#o.redis.published = published(this.#o.redis.published, listed, beganAtMs);
        });
      this.#planAll();
    });
  }

  #look(): SeenWorker[] {
    const { agenda, cloud, faulty, scripted, redis } = this.#o;
    const { nowMs } = agenda;
    const idleSeconds = (machine: { workedAtMs: number }, state: string | undefined) =>
      state === 'running' ? { idle_seconds: Math.floor((nowMs - machine.workedAtMs) / 1000) } : {};
    if (scripted)
      return [...redis.workers.keys()].map((target) => {
        const machine = cloud.living(target, nowMs)[0];
        const state = machine === undefined ? 'absent' : stateAt(machine, nowMs);
        return seen(
          {
            id: target,
            target,
            source: 'script',
            state: state ?? 'absent',
            ...(machine && idleSeconds(machine, state)),
          },
          nowMs,
        );
      });
    return cloud
      .list(nowMs, faulty(), (id) => redis.published?.records.get(id)?.missed === 0)
      .map(({ machine, state }) =>
        seen(
          {
            ...{ id: machine.id, target: machine.target, source: 'ec2/here', state },
            launch_time: new Date(machine.launchedAtMs).toISOString(),
            // Machines report their idleness themselves: that does not lag.
            ...idleSeconds(machine, stateAt(machine, nowMs)),
          },
          nowMs,
        ),
      );
  }

  #planAll(): void {
    if (this.#fence === undefined) return;
    const { redis, random } = this.#o;
    // Now and then it plans with what it knew before.
    if (this.#cache.size === 0 || !random.chance(0.2)) {
      if (this.#ask(() => undefined) === undefined) return;
      this.#cache = new Map(redis.workers);
      this.#pool = redis.pool;
    }
    if (this.#pool !== undefined) this.#workOn('', () => this.#planPool());
    for (const name of this.#cache.keys()) this.#planSoon(name);
  }

  #planSoon(name: string): void {
    this.#workOn(name, () => this.#planWorker(name));
  }

  /** One at a time for each key. */
  #workOn(key: string, step: () => void): void {
    if (this.#atWork.has(key)) return;
    this.#atWork.add(key);
    this.#later(this.#o.random.between(0, 300), step);
  }

  #done(key: string): void {
    this.#atWork.delete(key);
  }

  #planWorker(name: string): void {
    const { agenda, random, breaks } = this.#o;
    const worker = this.#cache.get(name);
    const fence = this.#fence;
    if (fence === undefined || worker === undefined) return this.#done(name);
    const asked = this.#ask(() => this.#viewOf(worker));
    if (asked === undefined) return this.#done(name);
    let view = asked.answer;
    if (breaks.noExpectations === true && worker.status?.lastCommand !== undefined) {
      const { lastCommand: _, ...status } = worker.status;
      view = { ...view, worker: { ...worker, status }, busy: false };
    }
    const plan = planWorker(view);
    this.#checkFreshness(name, plan);
    this.#checkIdleness(view, plan);
    agenda.tell(() => `monitor ${this.#o.number} plans ${name} seeing ${sightText(view)}: ${plan.summary}`);
    if (plan.requeueAfterMs !== undefined) this.#wake(name, plan.requeueAfterMs);
    if (plan.status === undefined && plan.command === undefined && plan.finalized === undefined)
      return this.#done(name);
    this.#later(random.between(1, 200), () => this.#write(worker, plan, fence));
  }

  #viewOf(worker: WorkerResource): WorkerView {
    const { agenda, redis, random, breaks } = this.#o;
    const { nowMs } = agenda;
    const target = worker.metadata.name;
    const mine = redis.byToken.get(worker.status?.lastCommand?.token ?? '');
    const others = redis.commands.filter((command) => command.target === target && command !== mine);
    const othersEndedAtMs = Math.max(-Infinity, ...others.map(openedAfterMs));
    const { published: status } = redis;
    const workers = [...(status?.records.values() ?? [])]
      .filter((record) => record.target === target)
      .toSorted((a, b) => ((a.launch_time ?? '') < (b.launch_time ?? '') ? 1 : -1));
    const fresh = status !== undefined && (breaks.actOnStale === true || nowMs - status.polledAtMs <= FRESH_MS);
    return {
      worker,
      observation: { workers, fresh, polledAtMs: breaks.trustOldPolls === true ? nowMs + 600_000 : status?.polledAtMs },
      execution: executionOf(mine),
      busy: others.some((command) => command.state !== 'ended' || openedAfterMs(command) > nowMs),
      ...(othersEndedAtMs > -Infinity && { othersEndedAtMs }),
      nowMs,
      jitter: random.next(),
    };
  }

  /** Whatever is done is done on something seen not long ago. */
  #checkFreshness(name: string, plan: WorkerPlan): void {
    if (plan.command === undefined && plan.finalized === undefined) return;
    const ageMs = this.#o.agenda.nowMs - (this.#o.redis.published?.polledAtMs ?? -Infinity);
    if (ageMs > FRESH_MS) throw new Broken(`${name} is acted on as it was ${ageMs} ms ago`);
  }

  /** Who is stopped for idleness was idle when it was looked at, that was not long ago, and nobody has given it work. */
  #checkIdleness(view: WorkerView, plan: WorkerPlan): void {
    const conditions = (plan.status ?? view.worker.status)?.conditions ?? [];
    if (plan.command?.verb !== 'stop' || conditionOf(conditions, 'IdleStopped')?.status !== 'True') return;
    if (view.worker.spec.desired !== 'running') return;
    this.idleStops += 1;
    const { cloud, agenda, redis } = this.#o;
    const target = view.worker.metadata.name;
    const polledAtMs = redis.published?.polledAtMs ?? -Infinity;
    if (view.busy) throw new Broken(`${target} is stopped for idleness with commands waiting`);
    for (const machine of cloud.living(target, agenda.nowMs)) {
      // What the last poll has left out is known from the one before.
      const wasListed = this.#o.scripted || redis.published?.records.get(machine.id)?.missed === 0;
      const idleMs = polledAtMs - machine.workedAtMs;
      if (wasListed && idleMs >= 0 && idleMs < IDLE_STOP_MS)
        throw new Broken(`${target} is stopped for idleness ${idleMs} ms after its last work`);
    }
  }

  #wake(name: string, delayMs: number): void {
    const { agenda } = this.#o;
    // Polls come often enough for whatever is later than the next one.
    if (delayMs >= POLL_MS) return;
    const atMs = agenda.nowMs + Math.max(delayMs, 1_000);
    if ((this.#wakeAtMs.get(name) ?? 0) > agenda.nowMs) return;
    this.#wakeAtMs.set(name, atMs);
    this.#later(atMs - agenda.nowMs, () => this.#planSoon(name));
  }

  #write(worker: WorkerResource, plan: WorkerPlan, fence: number): void {
    const { redis, random } = this.#o;
    const { name } = worker.metadata;
    const written = this.#ask(() => {
      redis.fenced(fence);
      if (plan.finalized) {
        if (redis.removeWorker(name, worker.metadata.resourceVersion)) this.#cache.delete(name);
        return undefined;
      }
      if (plan.status === undefined) return undefined;
      return redis.putWorker({ ...worker, status: plan.status }, worker.metadata.resourceVersion);
    })?.answer;
    if (written === undefined) return this.#done(name);
    this.#cache.set(name, written);
    const { command } = plan;
    if (command === undefined) return this.#done(name);
    // The worst moment to be held up.
    if (this.#o.faulty() && random.chance(0.05)) this.freeze(random.between(1_000, 30_000));
    this.#later(random.between(1, 200), () => {
      const submission = { ...command, target: name, fence };
      const answer = this.#ask(() => redis.submit(submission));
      // What seemed to fail may still be on its way.
      if (answer === undefined && random.chance(0.3)) this.#arriveLate(submission);
      if (answer === undefined) this.#later(1_000, () => this.#planSoon(name));
      this.#done(name);
    });
  }

  #arriveLate(submission: Parameters<ModelRedis['submit']>[0]): void {
    const { agenda, random, redis } = this.#o;
    agenda.after(random.between(100, 10_000), () => {
      if (agenda.nowMs < redis.awayUntilMs) return;
      try {
        redis.submit(submission);
      } catch (error) {
        if (!(error instanceof Deposed)) throw error;
      }
    });
  }

  #planPool(): void {
    const { redis, random, agenda } = this.#o;
    const pool = this.#pool;
    const fence = this.#fence;
    if (pool === undefined || fence === undefined) return this.#done('');
    const workers = [...this.#cache.values()].filter((each) => each.metadata.owner?.uid === pool.metadata.uid);
    const plan = planPool({
      pool,
      workers,
      otherAt: () => undefined,
      idleSeconds: () => undefined,
      launchedAtMs: () => undefined,
      nowMs: agenda.nowMs,
    });
    this.#later(random.between(1, 200), () => {
      this.#ask(() => {
        redis.fenced(fence);
        if (plan.status === undefined) return;
        // What was planned for another pool than there is by now is dropped.
        if (redis.pool?.metadata.resourceVersion !== pool.metadata.resourceVersion) return;
        const metadata = { ...pool.metadata, resourceVersion: redis.nextRevision() };
        this.#pool = redis.pool = { ...pool, metadata, status: plan.status };
        for (const name of plan.delete) this.#markDeleted(name);
        for (const planned of plan.update) this.#update(planned);
        for (const planned of plan.create) this.#create(pool, planned);
      });
      this.#done('');
    });
  }

  #markDeleted(name: string): void {
    const worker = this.#cache.get(name);
    if (worker === undefined || worker.metadata.deletionTimestamp !== undefined) return;
    const metadata = { ...worker.metadata, deletionTimestamp: new Date(this.#o.agenda.nowMs).toISOString() };
    this.#remember(this.#o.redis.putWorker({ ...worker, metadata }, worker.metadata.resourceVersion));
  }

  #update({ name, spec, templateHash }: PlannedWorker): void {
    const worker = this.#cache.get(name);
    if (worker === undefined) return;
    const metadata = { ...worker.metadata, templateHash, generation: worker.metadata.generation + 1 };
    this.#remember(this.#o.redis.putWorker({ ...worker, metadata, spec }, worker.metadata.resourceVersion));
  }

  #create(pool: WorkerPoolResource, { name, spec, templateHash }: PlannedWorker): void {
    const { redis, agenda } = this.#o;
    const made = redis.putWorker(
      newWorker(name, spec, agenda.nowMs, redis.nextRevision(), { owner: pool, templateHash }),
      '0',
    );
    if (made === undefined) return;
    this.#remember(made);
    const count = [...redis.workers.values()].filter((each) => each.metadata.owner?.uid === pool.metadata.uid).length;
    const { replicas } = redis.pool?.spec ?? { replicas: 0 };
    if (count > replicas) throw new Broken(`the pool has ${count} workers, and is to have ${replicas}`);
  }

  #remember(worker: WorkerResource | undefined): void {
    if (worker !== undefined) this.#cache.set(worker.metadata.name, worker);
  }
}

/** `idleStopAfter` of the Workers that have it. */
export const IDLE_STOP_MS = 60_000;

export function newWorker(
  name: string,
  spec: WorkerResource['spec'],
  nowMs: number,
  uid: string,
  of?: { owner: WorkerPoolResource; templateHash: string },
): WorkerResource {
  return {
    apiVersion: RESOURCE_API_VERSION,
    kind: 'Worker',
    metadata: {
      ...{ name, uid, generation: 1, resourceVersion: '', creationTimestamp: new Date(nowMs).toISOString() },
      ...{
        labels: of === undefined ? {} : { [POOL_LABEL]: of.owner.metadata.name },
        finalizers: [TERMINATE_FINALIZER],
      },
      ...(of !== undefined && {
        owner: { kind: 'WorkerPool' as const, name: of.owner.metadata.name, uid: of.owner.metadata.uid },
        templateHash: of.templateHash,
      }),
    },
    spec,
  };
}

function sightText({ observation, nowMs }: WorkerView): string {
  const records = observation.workers.map((each) => `${each.id} ${each.gone_at === undefined ? each.state : 'gone'}`);
  const age = observation.polledAtMs === undefined ? 'never' : `${nowMs - observation.polledAtMs} ms ago`;
  return `[${records.join(', ')}] ${age}`;
}

function seen(
  record: Pick<SeenWorker, 'id' | 'target' | 'source' | 'state'> & Partial<SeenWorker>,
  nowMs: number,
): SeenWorker {
  return { provider: 'x', mapped_by: 'id', version: 1, observed_at: new Date(nowMs).toISOString(), ...record };
}

/**
 * Keeps what is not listed for a second poll, then as a tombstone. What was launched a moment before is not missed: an
 * answer from the past and one that leaves it out would do for two.
 */
function published(before: Published | undefined, listed: SeenWorker[], polledAtMs: number): Published {
  const records = new Map<string, SeenWorker & { missed: number }>();
  for (const record of listed) records.set(record.id, { ...record, missed: 0 });
  for (const [id, record] of before?.records ?? []) {
    if (records.has(id)) continue;
    const isNew = polledAtMs - Date.parse(record.launch_time ?? '') < CLOUD_LAG_MS;
    const missed = isNew ? record.missed : record.missed + 1;
    const gone = missed >= 2 && record.gone_at === undefined ? { gone_at: new Date(polledAtMs).toISOString() } : {};
    records.set(id, { ...record, missed, ...gone });
  }
  return { polledAtMs, records };
}

/** When its target opened for the next command. */
function openedAfterMs({ endedAtMs, outcome }: Command): number {
  return (endedAtMs ?? -Infinity) + (outcome === 'lost' ? LOST_SCRIPT_MS : 0);
}

function executionOf(command: Command | undefined): ExecutionView {
  if (command === undefined) return { state: 'none' };
  const { id } = command;
  if (command.state !== 'ended') return { state: command.state, id };
  const { outcome = 'failed', endedAtMs = 0 } = command;
  return { state: 'ended', id, outcome, exitCode: outcome === 'succeeded' ? 0 : 1, endedAtMs };
}
