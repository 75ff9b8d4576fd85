/** Short ways to write Workers, pools, records and views. */
import {
  type GivenCommand,
  POOL_LABEL,
  RESOURCE_API_VERSION,
  type SeenWorker,
  TERMINATE_FINALIZER,
  type WorkerPoolResource,
  type WorkerPoolSpec,
  type WorkerResource,
  type WorkerResourceStatus,
  type WorkerSpec,
} from '@carrierarr/protocol';
import { conditionOf, type ConditionType, planWorker, type WorkerPlan, type WorkerView } from '@carrierarr/reconcile';

/** A Monday, noon UTC. */
export const NOW_MS = Date.UTC(2026, 5, 1, 12);
export const iso = (timeMs: number) => new Date(timeMs).toISOString();

export function spec(over: Partial<WorkerSpec> = {}): WorkerSpec {
  return { desired: 'running', source: 'auto', args: {}, maxRetries: 10, paused: false, ...over };
}

export function worker(over: {
  name?: string;
  spec?: Partial<WorkerSpec>;
  status?: WorkerResourceStatus;
  metadata?: Partial<WorkerResource['metadata']>;
}): WorkerResource {
  return {
    apiVersion: RESOURCE_API_VERSION,
    kind: 'Worker',
    metadata: {
      name: over.name ?? 'w1',
      labels: {},
      uid: `uid-${over.name ?? 'w1'}`,
      generation: 1,
      resourceVersion: '1',
      creationTimestamp: iso(NOW_MS),
      finalizers: [TERMINATE_FINALIZER],
      ...over.metadata,
    },
    spec: spec(over.spec),
    ...(over.status !== undefined && { status: over.status }),
  };
}

export function record(state: string, over: Partial<SeenWorker> = {}): SeenWorker {
  return {
    id: 'i-1',
    provider: 'ec2',
    state,
    target: 'w1',
    mapped_by: 'tag:carrierarr:target',
    source: 'ec2/eu-central-1',
    version: 1,
    observed_at: iso(NOW_MS),
    ...over,
  };
}

export const scriptRecord = (state: string, over: Partial<SeenWorker> = {}) =>
  record(state, { id: 'w1', provider: 'script', source: 'script', mapped_by: 'resource', ...over });

export function view(over: Partial<WorkerView> = {}): WorkerView {
  return {
    worker: worker({}),
    observation: { workers: [], fresh: true, polledAtMs: NOW_MS - 1_000 },
    execution: { state: 'none' },
    busy: false,
    nowMs: NOW_MS,
    jitter: 0.5,
    ...over,
  };
}

/** What a fresh poll shows, that began a moment before. */
export const sees = (...workers: SeenWorker[]) => ({ workers, fresh: true, polledAtMs: NOW_MS - 1_000 });

export function condition(plan: WorkerPlan, type: ConditionType) {
  return conditionOf(plan.status?.conditions ?? [], type);
}

export function pool(over: Partial<WorkerPoolSpec> = {}, metadata: Partial<WorkerPoolResource['metadata']> = {}) {
  const resource: WorkerPoolResource = {
    apiVersion: RESOURCE_API_VERSION,
    kind: 'WorkerPool',
    metadata: {
      name: 'p',
      labels: {},
      uid: 'uid-p',
      generation: 1,
      resourceVersion: '1',
      creationTimestamp: iso(NOW_MS),
      finalizers: [],
      ...metadata,
    },
    spec: {
      replicas: 3,
      minReady: 0,
      maxUnavailable: 1,
      scaleIn: 'highest',
      paused: false,
      template: { metadata: { labels: {} }, spec: templateSpec() },
      ...over,
    },
  };
  return resource;
}

export function templateSpec(over: Partial<WorkerSpec> = {}): WorkerPoolSpec['template']['spec'] {
  const { paused: _, ...rest } = spec(over);
  return rest;
}

/** A Worker of a pool, as far as pools look at them. */
export function member(
  ordinal: number,
  templateHash: string,
  over: { ready?: boolean; deleting?: boolean; spec?: Partial<WorkerSpec>; phase?: WorkerResourceStatus['phase'] } = {},
): WorkerResource {
  const { ready = true, deleting = false } = over;
  const state = ready ? ('True' as const) : ('False' as const);
  const about = { reason: 'x', message: 'x', lastTransitionTime: iso(NOW_MS), observedGeneration: 1 };
  return worker({
    name: `p-${ordinal}`,
    spec: over.spec ?? {},
    metadata: {
      templateHash,
      labels: { [POOL_LABEL]: 'p' },
      owner: { kind: 'WorkerPool', name: 'p', uid: 'uid-p' },
      ...(deleting && { deletionTimestamp: iso(NOW_MS) }),
    },
    status: {
      observedGeneration: 1,
      phase: over.phase ?? (ready ? 'Running' : 'Starting'),
      conditions: [
        { type: 'Ready', status: state, ...about },
        { type: 'Synced', status: state, ...about },
      ],
      target: `p-${ordinal}`,
      attempts: 1,
      failures: 0,
      lastCommand: given({ outcome: 'succeeded', effect: 'seen' }),
    },
  });
}

export function given(over: Partial<GivenCommand> = {}): GivenCommand {
  return {
    verb: 'provision',
    token: 'cr:uid-w1:1:1:provision',
    generation: 1,
    attempt: 1,
    reason: 'x',
    requestedAt: iso(NOW_MS - 300_000),
    ...over,
  };
}

/** A Worker whose history is a number of plans, each with a view; the status is written after each. */
export class Told {
  worker: WorkerResource;
  nowMs = NOW_MS;
  last: WorkerPlan | undefined;

  constructor(from: WorkerResource) {
    this.worker = from;
  }

  after(delayMs: number): this {
    this.nowMs += delayMs;
    return this;
  }

  /** Plans with what is seen now and writes the status. */
  plan(over: Partial<WorkerView> & { sees?: SeenWorker[]; pollAgeMs?: number } = {}): WorkerPlan {
    const { sees: seen = [], pollAgeMs = 100, ...rest } = over;
    const plan = planWorker(
      view({
        worker: this.worker,
        observation: { workers: seen, fresh: true, polledAtMs: this.nowMs - pollAgeMs },
        nowMs: this.nowMs,
        ...rest,
      }),
    );
    if (plan.status !== undefined) this.worker = { ...this.worker, status: plan.status };
    this.last = plan;
    return plan;
  }

  /** A new spec, as the store would write it. */
  change(over: Partial<WorkerSpec>): this {
    const { metadata } = this.worker;
    this.worker = {
      ...this.worker,
      metadata: { ...metadata, generation: metadata.generation + 1 },
      spec: { ...this.worker.spec, ...over },
    };
    return this;
  }

  get status(): WorkerResourceStatus {
    if (this.worker.status === undefined) throw new Error('nothing was planned yet');
    return this.worker.status;
  }
}

export function ended(
  outcome: 'succeeded' | 'failed' | 'killed' | 'timed-out' | 'lost' | 'rejected',
  endedAtMs: number,
  exitCode?: number,
) {
  return {
    state: 'ended' as const,
    id: 'e1',
    outcome,
    exitCode: exitCode ?? (outcome === 'succeeded' ? 0 : 1),
    endedAtMs,
  };
}
