/**
 * The loop of one term. What changes, or was seen, puts keys into a queue; each key is looked at with all that is known
 * then (S1). A look that has nothing to do is a plan made from memory, a few microseconds; many of them run in one go,
 * with pauses so that everything else of this process is served. Looks that write or give commands run beside each other,
 * up to a bound.
 *
 * No error of one look ends the loop: the key comes back later. Only an answer that says another leads ends the term.
 */
import type { Clock, Logger, Timer } from '@carrierarr/platform';
import type { Resource, SourceReport } from '@carrierarr/protocol';
import type { ExecutionView } from '@carrierarr/reconcile';
import { DeposedError } from '@carrierarr/store';
import type { Fleet, FleetChange } from './fleet.js';
import type { Halts } from './halts.js';
import { keyOf, partsOf } from './keys.js';
import type { ControllerName, QueueMetrics, ReconcileMetrics, ReconcileResult } from './metrics.js';
import type { Observed, ObservedChange } from './observed.js';
import type { StepResult } from './step-result.js';
import { type Priority, WorkQueue } from './work-queue.js';

/** Looks run in one go for this long, ms; then everything else gets its turn. */
const SLICE_MS = 10;
/** A pool is looked at this long after one of its Workers changed, ms: rarely alone. */
const POOL_AFTER_MS = 200;
/** Halts are judged this long after Workers changed, ms. */
const JUDGE_AFTER_MS = 1_000;
/** Between two warnings about looks that fail, ms; the metric counts them all. */
const WARN_EVERY_MS = 10_000;

/** What looks at one resource. */
export interface Step {
  run(name: string): StepResult | Promise<StepResult>;
}

export interface ReconcilerOptions {
  /** Aborts when the term is over. */
  signal: AbortSignal;
  onDeposed: (error: DeposedError) => void;
  fleet: Fleet;
  observed: Observed;
  halts: Halts;
  steps: { worker: Step; pool: Step };
  concurrency: number;
  resyncMs: number;
  clock: Clock;
  logger: Pick<Logger, 'warn' | 'debug' | 'info'>;
  metrics: { queue: QueueMetrics; reconcile: ReconcileMetrics };
  random?: () => number;
}

export class Reconciler {
  readonly #o: ReconcilerOptions;
  readonly #queue: WorkQueue;
  /** Looks that wait for Redis. */
  readonly #active = new Set<Promise<void>>();
  /** Workers that wait for something that a poll may show, though it changes no record. */
  readonly #unsettled = new Set<string>();
  #isPumpDue = false;
  #unlisten: (() => void) | undefined;
  readonly #timers = new Map<'resync' | 'judge', Timer>();
  #warnedMs = Number.NEGATIVE_INFINITY;

  constructor(options: ReconcilerOptions) {
    this.#o = options;
    const { clock, metrics, random } = options;
    const onReady = () => this.#wake();
    this.#queue = new WorkQueue({ clock, metrics: metrics.queue, onReady, ...(random && { random }) });
  }

  /** Looks at everything, and from then on at what changes. */
  start(): void {
    const { fleet, signal, halts } = this.#o;
    this.#unlisten = fleet.onChange((change) => this.#changed(change));
    signal.addEventListener('abort', () => this.#close(), { once: true });
    halts.lookAtAll();
    this.#judge();
    for (const key of fleet.keys()) this.#queue.add(key, 'resync');
    this.#scheduleResync();
  }

  /** Resolves when no look is under way any more. The signal must have been given. */
  async drained(): Promise<void> {
    this.#close();
    while (this.#active.size > 0) await Promise.all(this.#active);
  }

  /** A poll was published. */
  published(report: SourceReport, { records }: ObservedChange, wasOk: boolean): void {
    if (this.#o.signal.aborted) return;
    const { halts } = this.#o;
    if (wasOk !== report.ok) halts.lookAtAll();
    for (const record of records) {
      const priority = record.interruption === undefined ? 'drift' : 'interruption';
      for (const name of this.#ownersOf(record)) {
        halts.look(name);
        this.#queue.add(keyOf('Worker', name), priority);
      }
    }
    // Before any plan is made from what was seen.
    if (records.length > 0 || wasOk !== report.ok) this.#judge();
    if (wasOk !== report.ok) for (const key of this.#o.fleet.keys()) this.#queue.add(key, 'resync');
    if (!report.ok) return;
    const waiting = [...this.#unsettled];
    for (const key of waiting) this.#queue.add(key, 'drift');
  }

  /** The command of a Worker has begun or ended. */
  commandChanged(worker: string, view: ExecutionView): void {
    if (view.state === 'ended') this.#queue.add(keyOf('Worker', worker), 'drift');
    else this.#queue.addAfter(keyOf('Worker', worker), POOL_AFTER_MS, 'drift');
  }

  #ownersOf({ target, tags }: ObservedChange['records'][number]): string[] {
    const { fleet } = this.#o;
    return [...fleet.namesAt(target), ...fleet.namesSelecting(tags)];
  }

  #changed(change: FleetChange | 'reset'): void {
    const { halts } = this.#o;
    if (change === 'reset') {
      halts.lookAtAll();
      this.#judge();
      for (const key of this.#o.fleet.keys()) this.#queue.add(key, 'user');
      return;
    }
    const { key, before, after, isOwn } = change;
    if (!isOwn || isAskedAnew(before, after)) this.#queue.add(key, 'user');
    const changed = after ?? before;
    if (changed?.kind === 'Worker') {
      halts.look(changed.metadata.name);
      const owner = changed.metadata.owner;
      if (owner !== undefined) this.#queue.addAfter(keyOf('WorkerPool', owner.name), POOL_AFTER_MS, 'drift');
      this.#judgeSoon();
    } else if (changed?.kind === 'WorkerPool' && isAskedAnew(before, after)) {
      // Its Workers are paused with it, and kept ready for it.
      for (const { metadata } of this.#o.fleet.workersOf(changed))
        this.#queue.add(keyOf('Worker', metadata.name), 'user');
    }
  }

  #judge(): void {
    const { halts, fleet, metrics, logger } = this.#o;
    this.#timers.get('judge')?.cancel();
    this.#timers.delete('judge');
    const changed = new Set(halts.judge());
    metrics.reconcile.halted.set(halts.groups);
    if (changed.size === 0) return;
    for (const group of changed) {
      const why = halts.reasonOf(group);
      if (why === undefined) logger.info({ group }, 'repair goes on');
      else logger.warn({ group, why }, 'repair is halted');
    }
    for (const group of changed) if (group !== '') this.#queue.add(keyOf('WorkerPool', group), 'drift');
    for (const { metadata } of fleet.workers()) {
      if (changed.has(metadata.owner?.name ?? '')) this.#queue.add(keyOf('Worker', metadata.name), 'drift');
    }
  }

  #judgeSoon(): void {
    if (this.#timers.has('judge') || this.#o.signal.aborted) return;
    this.#timers.set(
      'judge',
      this.#o.clock.setTimeout(() => this.#judge(), JUDGE_AFTER_MS),
    );
  }

  /** Everything is looked at again, once in each half of the time, and at random in it so that no moment has much to do. */
  #scheduleResync(): void {
    const { clock, fleet, halts, resyncMs, random = Math.random } = this.#o;
    const halfMs = resyncMs / 2;
    for (const key of fleet.keys()) this.#queue.addAfter(key, halfMs * random(), 'resync');
    this.#timers.set(
      'resync',
      clock.setTimeout(() => {
        // What changes by time alone: a source grows stale, a window opens, a fleet that is bad for long is not bad at once.
        halts.lookAtAll();
        this.#judge();
        this.#scheduleResync();
      }, halfMs),
    );
  }

  #wake(): void {
    if (this.#isPumpDue) return;
    this.#isPumpDue = true;
    // Not at once: who adds one key often adds more, and the most urgent one is to be first.
    setImmediate(() => {
      this.#isPumpDue = false;
      this.#pump();
    });
  }

  #pump(): void {
    const { clock, concurrency, signal } = this.#o;
    const untilMs = clock.monotonicMs() + SLICE_MS;
    while (this.#active.size < concurrency && !signal.aborted) {
      const item = this.#queue.take();
      if (item === undefined) return;
      this.#look(item.key, item.priority);
      if (clock.monotonicMs() >= untilMs) return this.#wake();
    }
  }

  #look(key: string, priority: Priority): void {
    const { steps, metrics, clock } = this.#o;
    const { kind, name } = partsOf(key);
    const controller: ControllerName = kind === 'Worker' ? 'worker' : 'workerpool';
    const beganMs = clock.monotonicMs();
    const finish = (outcome: () => ReconcileResult) => {
      const result = outcome();
      metrics.reconcile[controller].seconds.observe((clock.monotonicMs() - beganMs) / 1000);
      metrics.reconcile[controller].totals[result].inc();
      this.#queue.done(key);
    };
    let running: StepResult | Promise<StepResult>;
    try {
      running = (kind === 'Worker' ? steps.worker : steps.pool).run(name);
    } catch (error) {
      return finish(() => this.#failed(key, controller, priority, error));
    }
    if (!(running instanceof Promise)) {
      const result = running;
      return finish(() => this.#succeeded(key, priority, result));
    }
    metrics.reconcile[controller].active.inc();
    const ended: Promise<void> = running
      .then(
        (result) => finish(() => this.#succeeded(key, priority, result)),
        (error: unknown) => finish(() => this.#failed(key, controller, priority, error)),
      )
      .finally(() => {
        metrics.reconcile[controller].active.dec();
        this.#active.delete(ended);
        this.#wake();
      });
    this.#active.add(ended);
  }

  #succeeded(key: string, priority: Priority, { again, requeueAfterMs }: StepResult): ReconcileResult {
    this.#queue.forget(key);
    if (requeueAfterMs === undefined) this.#unsettled.delete(key);
    else this.#unsettled.add(key);
    if (again) {
      this.#queue.add(key, priority);
      return 'requeue';
    }
    if (requeueAfterMs === undefined) return 'success';
    this.#queue.addAfter(key, Math.max(1, requeueAfterMs), 'drift');
    return 'requeue_after';
  }

  #failed(key: string, controller: ControllerName, priority: Priority, error: unknown): ReconcileResult {
    const { metrics, logger, clock, signal, onDeposed } = this.#o;
    if (error instanceof DeposedError) onDeposed(error);
    if (signal.aborted) return 'error';
    metrics.reconcile[controller].errors.inc();
    const isQuiet = clock.monotonicMs() - this.#warnedMs < WARN_EVERY_MS;
    if (!isQuiet) this.#warnedMs = clock.monotonicMs();
    logger[isQuiet ? 'debug' : 'warn']({ err: error, key }, 'a look failed; it is repeated, later each time');
    this.#queue.retry(key, priority);
    return 'error';
  }

  #close(): void {
    this.#unlisten?.();
    this.#queue.close();
    for (const timer of this.#timers.values()) timer.cancel();
    this.#timers.clear();
  }
}

/** Whether something else is wanted of it than before. */
function isAskedAnew(before: Resource | undefined, after: Resource | undefined): boolean {
  return (
    before === undefined ||
    after === undefined ||
    before.metadata.generation !== after.metadata.generation ||
    before.metadata.deletionTimestamp !== after.metadata.deletionTimestamp
  );
}
