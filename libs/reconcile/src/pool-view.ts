/** What a plan for one WorkerPool is made from, and what it consists of. */
import type { WorkerPoolResource, WorkerPoolStatus, WorkerResource, WorkerSpec } from '@carrierarr/protocol';
import type { PlannedEvent } from './worker-view.js';

export interface PoolView {
  pool: WorkerPoolResource;
  /** The Workers that the pool owns, those that are being deleted included. */
  workers: readonly WorkerResource[];
  /** The Worker that is not the pool's and has this name, or has it for its target. */
  otherAt: (name: string) => WorkerResource | undefined;
  /** How long a worker has been idle, as it reports; undefined if it does not, or not freshly. */
  idleSeconds: (worker: WorkerResource) => number | undefined;
  /** When its machine was launched, epoch ms. */
  launchedAtMs: (worker: WorkerResource) => number | undefined;
  /** Repair of its workers is halted: why. */
  halted?: string;
  nowMs: number;
}

export interface PlannedWorker {
  name: string;
  labels: Record<string, string>;
  spec: WorkerSpec;
  templateHash: string;
}

export interface PoolPlan {
  /**
   * To be written (with optimistic concurrency) before anything is done to Workers; undefined = nothing to write, and
   * nothing to do. The write fails where the pool was changed since, and then the plan is void.
   */
  status: WorkerPoolStatus | undefined;
  /** To be created if there is no resource of that name. */
  create: PlannedWorker[];
  /** To be changed in place. */
  update: PlannedWorker[];
  /** Names of Workers to be deleted (with their machines: through their finalizer). */
  delete: string[];
  events: PlannedEvent[];
  /** The pool is being deleted and its workers are gone: the resource can be removed. */
  finalized?: true;
  requeueAfterMs?: number;
  summary: string;
}
