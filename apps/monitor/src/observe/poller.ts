/**
 * Polls one source for ever: one poll at a time, at a rhythm that follows what happens, each with a deadline.
 *
 * What a poll found is merged with what was published before and handed on; only when that was taken does it count as
 * known. So while Redis is away the poller tries to hand on the same result again, and the next poll is compared with what
 * frontends really have.
 */
import { backoffMs, type Clock, type Logger } from '@carrierarr/platform';
import type { SourceReport, WorkerRecord } from '@carrierarr/protocol';
import type { ObserveMetrics } from './metrics.js';
import { isTransition, nextPollMs } from './poll-rhythm.js';
import { type PollResult, type Source, SourceError } from './source.js';
import { type Fleet, merge } from './tombstones.js';

/** A nudged poll begins this long after the one before at the earliest, ms. */
export const NUDGE_MS_MIN = 1_000;
/** After {@link Poller.expectChange} the rhythm is fast for this long, ms. */
export const EXPECT_MS = 60_000;
/** A poll may take this many intervals, */
const DEADLINE_INTERVALS = 4;
/** but at least this long, ms: large clusters wait for their API budget. */
export const DEADLINE_MS_MIN = 120_000;
/** Between two tries to publish: first and longest bound, ms. */
const PUBLISH_BACKOFF = { baseMs: 250, capMs: 5_000 };

/** What changed by a poll. Empty after a failed one. */
export interface StatusChange {
  readonly upserts: WorkerRecord[];
  readonly removed: string[];
  /** For workers that are looked at one by one: when each was seen last, epoch ms. */
  readonly seen?: Readonly<Record<string, number>>;
}

export interface PollerOptions {
  readonly source: Source;
  /** Configured time between polls, and its bound for a quiet fleet, ms. */
  readonly pollMs: number;
  readonly pollMsMax: number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Pick<ObserveMetrics, 'pollSeconds' | 'pollErrors' | 'publishErrors' | 'workers' | 'showAge'>;
  /**
   * Takes the outcome of each poll. When it rejects, it is called again with the same outcome until it resolves or the
   * poller is stopped.
   */
  readonly onPoll: (report: SourceReport, change: StatusChange) => Promise<void>;
  /** Uniform in [0, 1). */
  readonly random?: () => number;
}

export class Poller {
  readonly #options: PollerOptions;
  readonly #random: () => number;
  readonly #stopping = new AbortController();
  /** Of the poll that goes on. */
  #current: AbortController | undefined;
  /** A poll that was given up may take its time to end. */
  #isPolling = false;
  #fleet: Fleet = new Map();
  #loop: Promise<void> | undefined;
  #hideAge: (() => void) | undefined;
  /** Ends the pause between two polls. */
  #wake: (() => void) | undefined;
  #isNudged = false;
  #expectUntilMs = -Infinity;
  #changedMs: number;
  #failures = 0;
  /** One throw for each pause, though its length is asked for again whenever somebody wakes it. */
  #jitter = 0;
  #polledAtMs: number | undefined;
  /** Of the last complete poll, as reports have it. */
  #intervalMs: number;
  #lastWarning: string | undefined;
  #shownStates: ReadonlySet<string> = new Set();

  constructor(options: PollerOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#changedMs = options.clock.monotonicMs();
    this.#intervalMs = options.pollMs;
  }

  get source(): string {
    return this.#options.source.name;
  }

  /** What was published last. */
  get fleet(): Fleet {
    return this.#fleet;
  }

  /** Begins to poll, at once. `known`, `report`: what is published of this source, by whoever polled it before. */
  start(known: Fleet, report?: SourceReport): void {
    if (this.#loop) throw new Error(`The poller of ${this.source} was started already.`);
    this.#fleet = known;
    if (report?.polled_at !== undefined) {
      // If the first poll fails, all stays as old as it is.
      this.#polledAtMs = Date.parse(report.polled_at);
      this.#intervalMs = report.interval_ms;
    }
    const age = () =>
      this.#polledAtMs === undefined ? undefined : (this.#options.clock.now() - this.#polledAtMs) / 1000;
    this.#hideAge = this.#options.metrics.showAge(this.source, age);
    this.#loop = this.#run();
  }

  /** Ends a poll that is under way. Resolves when nothing is done any more. */
  async stop(): Promise<void> {
    const reason = new Error(`The poller of ${this.source} was stopped.`);
    this.#stopping.abort(reason);
    this.#current?.abort(reason);
    await this.#loop;
    this.#hideAge?.();
    // The next leader shows them now.
    const { workers } = this.#options.metrics;
    for (const state of this.#shownStates) workers.remove({ source: this.source, state });
    this.#shownStates = new Set();
  }

  /** Polls soon. Several calls are one; during a poll it means another one after it. `target`: what it is about. */
  nudge(target?: string): void {
    if (target !== undefined) this.#options.source.expectChange?.(target);
    this.#isNudged = true;
    this.#wake?.();
  }

  /** A command was given, to that target: polls at the fast rhythm for a while. */
  expectChange(target?: string): void {
    if (target !== undefined) this.#options.source.expectChange?.(target);
    this.#expectUntilMs = this.#options.clock.monotonicMs() + EXPECT_MS;
    this.#wake?.();
  }

  async #run(): Promise<void> {
    const { clock } = this.#options;
    while (!this.#stopping.signal.aborted) {
      this.#isNudged = false;
      const beganMs = clock.monotonicMs();
      const isOk = await this.#turn();
      const endedMs = clock.monotonicMs();
      await this.#pause(() => this.#nextMs(isOk ? beganMs : endedMs, beganMs));
    }
  }

  /** When the next poll is due, by the monotonic clock. */
  #nextMs(fromMs: number, beganMs: number): number {
    const dueMs = fromMs + this.#delayMs(this.#fleet);
    return this.#isNudged ? Math.min(dueMs, beganMs + NUDGE_MS_MIN) : dueMs;
  }

  #delayMs(fleet: Fleet): number {
    const { pollMs, pollMsMax, clock } = this.#options;
    const nowMs = clock.monotonicMs();
    return nextPollMs({
      pollMs,
      pollMsMax,
      isInTransition: nowMs < this.#expectUntilMs || hasTransition(fleet),
      quietForMs: nowMs - this.#changedMs,
      failures: this.#failures,
      jitter: this.#jitter,
    });
  }

  /** Waits until `due`, which may come nearer when somebody wakes it. */
  async #pause(due: () => number): Promise<void> {
    const { signal } = this.#stopping;
    this.#jitter = this.#random();
    for (;;) {
      const leftMs = due() - this.#options.clock.monotonicMs();
      if (leftMs <= 0 || signal.aborted) return;
      await new Promise<void>((resolve) => {
        const finish = () => {
          timer.cancel();
          signal.removeEventListener('abort', finish);
          this.#wake = undefined;
          resolve();
        };
        const timer = this.#options.clock.setTimeout(finish, leftMs);
        signal.addEventListener('abort', finish, { once: true });
        this.#wake = finish;
      });
    }
  }

  /** One poll and what follows from it. True when it was complete. */
  async #turn(): Promise<boolean> {
    const { source, clock, metrics } = this.#options;
    const beganAtMs = clock.now();
    const beganMs = clock.monotonicMs();
    const outcome = await this.#poll();
    if (this.#stopping.signal.aborted) return false;
    const tookMs = clock.monotonicMs() - beganMs;
    metrics.pollSeconds.observe({ source: source.name }, tookMs / 1000);
    if ('error' in outcome) {
      await this.#takeFailure(outcome.error);
      return false;
    }
    await this.#takeResult(outcome.result, { beganAtMs, tookMs });
    return true;
  }

  /** Within the deadline, also when the source does not heed the signal. */
  async #poll(): Promise<{ result: PollResult } | { error: Error }> {
    const { source, pollMs, clock } = this.#options;
    if (this.#isPolling) {
      const text = `The poll of ${source.name} before this one was given up and has not ended yet.`;
      return { error: new SourceError(`${text} If that goes on, restart the monitor.`, { calls: 0 }) };
    }
    const deadlineMs = Math.max(DEADLINE_MS_MIN, DEADLINE_INTERVALS * pollMs);
    // One for each poll: a signal that lives as long as the poller would gather what listens to it.
    const { signal } = (this.#current = new AbortController());
    const abort = (reason: Error) => this.#current?.abort(reason);
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    });
    const timer = clock.setTimeout(() => {
      const text = `The poll of ${source.name} was given up after ${deadlineMs / 1000} s.`;
      abort(new SourceError(`${text} Check the network, or poll less at once.`, { calls: 0 }));
    }, deadlineMs);
    this.#isPolling = true;
    const polled = source.poll(signal).finally(() => {
      this.#isPolling = false;
    });
    try {
      return { result: await Promise.race([polled, aborted]) };
    } catch (error) {
      return { error: error instanceof Error ? error : new Error(String(error)) };
    } finally {
      timer.cancel();
      this.#current = undefined;
    }
  }

  async #takeFailure(error: Error): Promise<void> {
    const { source, logger, metrics } = this.#options;
    this.#failures += 1;
    metrics.pollErrors.inc({ source: source.name });
    logger.warn({ source: source.name, failures: this.#failures, err: error }, 'a poll failed; nothing is changed');
    const calls = error instanceof SourceError ? error.calls : 0;
    const facts = { ok: false, calls, workers: count(this.#fleet), error: error.message };
    const report = this.#report(facts, this.#polledAtMs);
    await this.#publish(report, { upserts: [], removed: [] });
  }

  async #takeResult(result: PollResult, poll: { beganAtMs: number; tookMs: number }): Promise<void> {
    const { source, clock, pollMs } = this.#options;
    this.#warn(result.warning);
    if (this.#failures > 0) this.#options.logger.info({ source: source.name }, 'polls succeed again');
    this.#failures = 0;
    const options = { nowMs: clock.now(), hasTombstones: source.hasTombstones };
    const { upserts, removed, next } = merge(this.#fleet, result.records, options);
    const isChanged = upserts.length > 0 || removed.length > 0;
    if (isChanged) this.#changedMs = clock.monotonicMs();
    // Freshness is measured in intervals, so a fast one must not make a single failed poll look like a long silence.
    this.#intervalMs = Math.max(pollMs, this.#delayMs(next), poll.tookMs);
    const report = this.#report({ ok: true, calls: result.calls, workers: count(next) }, poll.beganAtMs);
    const seen = result.seenAtMs === undefined ? {} : { seen: result.seenAtMs };
    if (!(await this.#publish(report, { upserts, removed, ...seen }))) return;
    // Only now: what could not be published is not known to anybody.
    this.#polledAtMs = poll.beganAtMs;
    this.#fleet = next;
    this.#showWorkers();
  }

  #report(
    facts: Pick<SourceReport, 'ok' | 'calls' | 'workers' | 'error'>,
    polledAtMs: number | undefined,
  ): SourceReport {
    return {
      source: this.source,
      ...facts,
      ...(polledAtMs === undefined ? {} : { polled_at: new Date(polledAtMs).toISOString() }),
      interval_ms: Math.round(this.#intervalMs),
    };
  }

  /** Hands an outcome on, again and again until it is taken; false when the poller was stopped before. */
  async #publish(report: SourceReport, change: StatusChange): Promise<boolean> {
    const { onPoll, clock, logger, metrics } = this.#options;
    const { signal } = this.#stopping;
    for (let attempt = 0; ; attempt++) {
      try {
        await onPoll(report, change);
        return true;
      } catch (error) {
        if (signal.aborted) return false;
        metrics.publishErrors.inc({ source: this.source });
        // The first one says it; what follows is in the metric.
        if (attempt === 0) logger.warn({ source: this.source, err: error }, 'status could not be published; retrying');
        const dueMs = clock.monotonicMs() + backoffMs({ ...PUBLISH_BACKOFF, attempt, random: this.#random });
        await this.#pause(() => dueMs);
        if (signal.aborted) return false;
      }
    }
  }

  /** Once each time it changes: a permission that is missing is missing at every poll. */
  #warn(warning: string | undefined): void {
    if (warning !== undefined && warning !== this.#lastWarning) {
      this.#options.logger.warn({ source: this.source, warning }, 'a poll was complete but for some details');
    }
    this.#lastWarning = warning;
  }

  #showWorkers(): void {
    const { workers } = this.#options.metrics;
    const states = new Map<string, number>();
    for (const { record } of this.#fleet.values()) states.set(record.state, (states.get(record.state) ?? 0) + 1);
    for (const state of this.#shownStates) if (!states.has(state)) workers.remove({ source: this.source, state });
    for (const [state, number] of states) workers.set({ source: this.source, state }, number);
    this.#shownStates = new Set(states.keys());
  }
}

/** Workers that are not tombstones. */
function count(fleet: Fleet): number {
  let sum = 0;
  for (const { record } of fleet.values()) if (record.gone_at === undefined) sum += 1;
  return sum;
}

function hasTransition(fleet: Fleet): boolean {
  for (const { record } of fleet.values()) if (record.gone_at === undefined && isTransition(record.state)) return true;
  return false;
}
