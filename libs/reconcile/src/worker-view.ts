/** What a plan for one Worker is made from, and what it consists of. All times are epoch ms. */
import type { Outcome, SeenWorker, WorkerResource, WorkerResourceStatus } from '@carrierarr/protocol';

/** What the status knows of one target. */
export interface Observation {
  /** The records mapped to the target, or matched by the selector; tombstones included, newest launch first. */
  workers: SeenWorker[];
  /** A complete and fresh view exists of the source that would know this target. */
  fresh: boolean;
  /** When the newest complete poll of that source began; undefined if there was none. */
  polledAtMs: number | undefined;
  /** Why it is not fresh, for the condition. Must not hold what moves (ages): it would be written each time. */
  detail?: string;
}

/** The execution of `status.lastCommand`, found by its token or its id. */
export type ExecutionView =
  | { state: 'none' }
  | { state: 'queued' | 'running'; id: string }
  | { state: 'ended'; id: string; outcome: Outcome; exitCode: number; endedAtMs: number };

export interface WorkerView {
  worker: WorkerResource;
  observation: Observation;
  execution: ExecutionView;
  /**
   * Another command than `lastCommand` runs or waits on the target, or the target is closed after the loss of a
   * runner. The monitor's own polls by a `status` verb are not meant.
   */
  busy: boolean;
  /** When the last of such commands ended (for a lost one: when the target opened again), if that is known. */
  othersEndedAtMs?: number;
  /** Until when the target is closed after the loss of a runner, if it is; it is busy then. */
  closedUntilMs?: number;
  /** Repair of what was ready is halted: why. */
  halted?: string;
  /** The pool that owns it is paused. */
  poolPaused?: boolean;
  /** Why it must not be stopped for idleness now, as its pool would have too few ready ({@link idleStopHold}). */
  keepReady?: string;
  nowMs: number;
  /** Uniform in [0, 1). */
  jitter: number;
}

/** Something worth telling people, once. */
export interface PlannedEvent {
  type: 'Normal' | 'Warning';
  reason: string;
  message: string;
}

export interface PlannedCommand {
  verb: string;
  args: string[];
  /** The idempotency id to submit it with. */
  token: string;
  /** It is given for idleness: to be refused where somebody's command came first. */
  onlyIfIdle?: true;
}

export interface WorkerPlan {
  /**
   * The next status, to be written (with optimistic concurrency) before the command is submitted; undefined =
   * nothing to write, and nothing to submit.
   */
  status: WorkerResourceStatus | undefined;
  /** To be submitted once the status is written, and never without that: an old plan must fail at the write. */
  command?: PlannedCommand;
  /** The Worker's finalizer is done: the resource can be removed. */
  finalized?: true;
  events: PlannedEvent[];
  /** Look again after this long at the latest, ms. */
  requeueAfterMs?: number;
  /** What is done, or why nothing is, in one sentence. */
  summary: string;
}
