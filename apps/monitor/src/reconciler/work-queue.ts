/**
 * What is to be looked at: keys, not events, so that a hundred changes of one thing are one look (S1). The same rules as
 * in client-go's work queue: a key waits at most once; while it is being worked on it is not handed out again, and a
 * key added meanwhile is handed out once more afterwards. Beyond that, urgent keys go first, a key can be added for
 * later, and one that fails is added again after a time that doubles.
 *
 * It knows no more keys than KEYS_MAX. What it refuses is looked at in the next resync.
 */
import { backoffMs, type Clock, type Timer } from '@carrierarr/platform';
import { Delays } from './delays.js';
import type { QueueMetrics } from './metrics.js';

/** Why somebody wants a look, the most urgent first. */
export const PRIORITIES = ['user', 'interruption', 'drift', 'resync'] as const;
export type Priority = (typeof PRIORITIES)[number];

/** Keys in all of the queue: far more than the Workers of an installation. */
export const KEYS_MAX = 200_000;
export const RETRY_BASE_MS = 250;
export const RETRY_CAP_MS = 300_000;

export interface WorkQueueOptions {
  clock: Clock;
  metrics: QueueMetrics;
  /** There is a key to {@link WorkQueue.take}. May be called more often than that. */
  onReady: () => void;
  random?: () => number;
  keysMax?: number;
}

interface Lane {
  /** Key to when it was added, in order. */
  readonly waiting: Map<string, number>;
  /** Stays where it is while keys come and go, so that the first key is found without passing the holes before it. */
  first: MapIterator<string>;
}

export class WorkQueue {
  readonly #o: WorkQueueOptions;
  readonly #lanes = new Map<Priority, Lane>(
    PRIORITIES.map((priority) => {
      const waiting = new Map<string, number>();
      return [priority, { waiting, first: waiting.keys() }];
    }),
  );
  readonly #priorityOf = new Map<string, Priority>();
  /** Key to when its work began. */
  readonly #processing = new Map<string, number>();
  /** Keys that were added while they were worked on. */
  readonly #again = new Map<string, Priority>();
  readonly #failures = new Map<string, number>();
  readonly #delays = new Delays();
  readonly #delayedPriority = new Map<string, Priority>();
  #timer: { dueMs: number; timer: Timer } | undefined;
  #isClosed = false;

  constructor(options: WorkQueueOptions) {
    this.#o = options;
    options.metrics.watch(this);
  }

  /** Keys that wait to be taken. */
  get depth(): number {
    return this.#priorityOf.size;
  }

  /** Keys that are being worked on, with when that began (monotonic ms). */
  get processing(): ReadonlyMap<string, number> {
    return this.#processing;
  }

  /** Keys that are due later. */
  get delayed(): number {
    return this.#delays.size;
  }

  /** Wants a look at a key soon. A key that waits already moves up if this is more urgent. */
  add(key: string, priority: Priority): void {
    if (this.#isClosed) return;
    const { metrics, onReady, clock } = this.#o;
    if (this.#processing.has(key)) {
      this.#again.set(key, moreUrgent(priority, this.#again.get(key)));
      return;
    }
    const before = this.#priorityOf.get(key);
    if (before !== undefined && moreUrgent(priority, before) === before) return;
    if (before === undefined && !this.#hasRoom(key)) return;
    const sinceMs = before === undefined ? clock.monotonicMs() : this.#leave(key, before);
    if (before === undefined) metrics.adds.inc();
    this.#lane(priority).waiting.set(key, sinceMs);
    this.#priorityOf.set(key, priority);
    onReady();
  }

  /** Wants a look at a key after a time. Of several times the earliest counts, with the most urgent reason. */
  addAfter(key: string, delayMs: number, priority: Priority): void {
    if (this.#isClosed) return;
    if (delayMs <= 0) return this.add(key, priority);
    if (!this.#hasRoom(key)) return;
    this.#delays.set(key, this.#o.clock.monotonicMs() + delayMs);
    this.#delayedPriority.set(key, moreUrgent(priority, this.#delayedPriority.get(key)));
    this.#arm();
  }

  /** Wants another look at a key whose work failed: later each time, until {@link WorkQueue.forget}. */
  retry(key: string, priority: Priority): void {
    const attempt = this.#failures.get(key) ?? 0;
    this.#failures.set(key, attempt + 1);
    this.#o.metrics.retries.inc();
    const { random = Math.random } = this.#o;
    this.addAfter(key, backoffMs({ attempt, baseMs: RETRY_BASE_MS, capMs: RETRY_CAP_MS, random }), priority);
  }

  /** The key's work went well: its next failure is its first. */
  forget(key: string): void {
    this.#failures.delete(key);
  }

  /** The most urgent key, to be worked on until {@link WorkQueue.done}; undefined if none waits. */
  take(): { key: string; priority: Priority } | undefined {
    if (this.#isClosed) return undefined;
    for (const priority of PRIORITIES) {
      const key = this.#firstOf(this.#lane(priority));
      if (key === undefined) continue;
      const sinceMs = this.#leave(key, priority);
      this.#priorityOf.delete(key);
      const nowMs = this.#o.clock.monotonicMs();
      this.#processing.set(key, nowMs);
      this.#o.metrics.queueDuration.observe((nowMs - sinceMs) / 1000);
      return { key, priority };
    }
  }

  /** The work on a key has ended, well or not. */
  done(key: string): void {
    const beganMs = this.#processing.get(key);
    if (beganMs === undefined) throw new Error(`Expected a key that is being worked on, got ${JSON.stringify(key)}.`);
    this.#processing.delete(key);
    this.#o.metrics.workDuration.observe((this.#o.clock.monotonicMs() - beganMs) / 1000);
    const again = this.#again.get(key);
    if (again === undefined) return;
    this.#again.delete(key);
    this.add(key, again);
  }

  /** Hands out nothing any more. */
  close(): void {
    this.#isClosed = true;
    this.#timer?.timer.cancel();
    this.#o.metrics.unwatch(this);
  }

  #hasRoom(key: string): boolean {
    const { keysMax = KEYS_MAX, metrics } = this.#o;
    // Each key is in each of the collections once at most, so this bounds all of them.
    if (this.#delayedPriority.has(key) || this.depth + this.delayed < keysMax) return true;
    metrics.refused.inc();
    return false;
  }

  #lane(priority: Priority): Lane {
    return this.#lanes.get(priority) as Lane;
  }

  /** Takes a key out of its lane; since when it has waited. */
  #leave(key: string, priority: Priority): number {
    const { waiting } = this.#lane(priority);
    const sinceMs = waiting.get(key) as number;
    waiting.delete(key);
    return sinceMs;
  }

  #firstOf(lane: Lane): string | undefined {
    if (lane.waiting.size === 0) return undefined;
    let next = lane.first.next();
    if (next.done) {
      lane.first = lane.waiting.keys();
      next = lane.first.next();
    }
    return next.value;
  }

  #arm(): void {
    const dueMs = this.#delays.nextMs;
    if (this.#isClosed || dueMs === undefined || (this.#timer !== undefined && this.#timer.dueMs <= dueMs)) return;
    this.#timer?.timer.cancel();
    const { clock } = this.#o;
    // Timers may fire up to a millisecond early.
    const timer = clock.setTimeout(() => this.#fire(), Math.max(1, Math.ceil(dueMs - clock.monotonicMs())));
    this.#timer = { dueMs, timer };
  }

  #fire(): void {
    this.#timer = undefined;
    const nowMs = this.#o.clock.monotonicMs();
    for (let key = this.#delays.take(nowMs); key !== undefined; key = this.#delays.take(nowMs)) {
      const priority = this.#delayedPriority.get(key) ?? 'resync';
      this.#delayedPriority.delete(key);
      this.add(key, priority);
    }
    this.#arm();
  }
}

function moreUrgent(one: Priority, other: Priority | undefined): Priority {
  return other !== undefined && PRIORITIES.indexOf(other) < PRIORITIES.indexOf(one) ? other : one;
}
