/** What plans are made from, put together out of memory. Whose word counts is libs/reconcile's to say. */
import type { WorkerPoolResource, WorkerResource } from '@carrierarr/protocol';
import { targetOf } from '@carrierarr/protocol';
import {
  type ExecutionView,
  idleStopHold,
  isCloudSource,
  machineFacts,
  type Observation,
  observationOf,
  type OthersWork,
  type PoolView,
  type SourcesView,
  type WorkerView,
} from '@carrierarr/reconcile';
import type { Fleet } from './fleet.js';
import type { Observed } from './observed.js';

export interface ViewsOptions {
  fleet: Fleet;
  observed: Observed;
  /** Names of the cloud sources that are polled now, such as `ec2/eu-central-1`. */
  cloudSources: () => readonly string[];
  /** Epoch ms, by the clock that observations and executions are dated with. */
  nowMs: () => number;
  random?: () => number;
}

/** What the view of a Worker has beside what was seen of it. */
export interface Surroundings {
  execution: ExecutionView;
  /** The pool that owns it. */
  pool: WorkerPoolResource | undefined;
  others: OthersWork | undefined;
  /** Why repair of its group is halted. */
  halted: string | undefined;
  /** Workers that are about to be stopped, though none of their status says so yet. */
  stopping: ReadonlySet<string>;
}

export class Views {
  readonly #o: ViewsOptions;
  readonly #sources: SourcesView;

  constructor(options: ViewsOptions) {
    const { observed, cloudSources } = options;
    this.#o = options;
    this.#sources = {
      clouds: cloudSources,
      report: (name) => observed.report(name),
      toldAtMs: ({ id }) => observed.seenMs(id),
    };
  }

  /** What is known of the machine of a Worker. */
  observationOf(worker: WorkerResource): Observation {
    const { observed, nowMs } = this.#o;
    const { selector } = worker.spec;
    const records = selector === undefined ? observed.at(targetOf(worker)) : observed.withTags(selector.tags);
    return observationOf(worker, records, this.#sources, nowMs());
  }

  /** The whole view of a Worker. Without `others` nobody else is at work on it. */
  workerView(worker: WorkerResource, more: Surroundings): WorkerView {
    const { nowMs, random = Math.random } = this.#o;
    const { execution, others, halted, pool } = more;
    const keepReady = this.#keepReady(worker, more);
    return {
      worker,
      observation: this.observationOf(worker),
      ...{ execution, busy: others?.busy ?? false },
      ...(others?.endedAtMs !== undefined && { othersEndedAtMs: others.endedAtMs }),
      ...(others?.closedUntilMs !== undefined && { closedUntilMs: others.closedUntilMs }),
      ...(halted !== undefined && { halted }),
      ...(pool?.spec.paused === true && { poolPaused: true }),
      ...(keepReady !== undefined && { keepReady }),
      nowMs: nowMs(),
      jitter: random(),
    };
  }

  /** `halted`: why repair of its Workers is. */
  poolView(pool: WorkerPoolResource, halted: string | undefined): PoolView {
    const { fleet, nowMs } = this.#o;
    const factsOf = (worker: WorkerResource) => machineFacts(this.observationOf(worker), nowMs());
    return {
      pool,
      workers: fleet.workersOf(pool),
      otherAt: (name) => this.#otherAt(pool, name),
      idleSeconds: (worker) => factsOf(worker).idleSeconds,
      launchedAtMs: (worker) => factsOf(worker).launchedAtMs,
      ...(halted !== undefined && { halted }),
      nowMs: nowMs(),
    };
  }

  /** Whoever is in the way of a pool's new Worker, whose target is its name. */
  #otherAt(pool: WorkerPoolResource, name: string): WorkerResource | undefined {
    const { fleet } = this.#o;
    const others = [name, ...fleet.namesAt(name)].map((each) => fleet.get('Worker', each));
    return others.find((worker) => worker !== undefined && worker.metadata.owner?.uid !== pool.metadata.uid);
  }

  /** Whether the status of a Worker is asked of its script. */
  isScripted(worker: WorkerResource): boolean {
    const { selector, source } = worker.spec;
    if (source === 'script') return true;
    if (source !== 'auto' || selector !== undefined) return false;
    return !this.#o.observed.at(targetOf(worker)).some((each) => isCloudSource(each.source));
  }

  /** Why an idle Worker is to go on running for its pool. */
  #keepReady({ metadata, spec }: WorkerResource, { pool, stopping }: Surroundings): string | undefined {
    if (pool === undefined || spec.idleStopAfter === undefined || pool.spec.minReady === 0) return undefined;
    const others = this.#o.fleet
      .workersOf(pool)
      .filter(({ metadata: { name } }) => name === metadata.name || !stopping.has(name));
    return idleStopHold(pool, others);
  }
}
