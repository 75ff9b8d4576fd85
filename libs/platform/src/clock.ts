/** Time as a dependency, so that tests move it by hand instead of sleeping. */

export interface Timer {
  /** Harmless after the timer fired. */
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since 1970; jumps when the system's clock is set. */
  now(): number;
  /** Milliseconds since some fixed point; never goes back. For durations and deadlines. */
  monotonicMs(): number;
  setTimeout(callback: () => void, ms: number): Timer;
  setInterval(callback: () => void, ms: number): Timer;
}

/** Node fires a longer timer after 1 ms instead, so longer ones are cut to this (24.8 days). */
const TIMER_MS_MAX = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  setTimeout(callback, ms) {
    const timer = setTimeout(callback, Math.min(ms, TIMER_MS_MAX));
    return { cancel: () => clearTimeout(timer) };
  },
  setInterval(callback, ms) {
    const timer = setInterval(callback, Math.min(ms, TIMER_MS_MAX));
    return { cancel: () => clearInterval(timer) };
  },
};

/** Resolves after `ms`. */
export function sleep(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => void clock.setTimeout(resolve, ms));
}

interface FakeTimer {
  readonly callback: () => void;
  readonly everyMs: number | null;
  readonly order: number;
  dueMs: number;
}

/** A clock that stands still until a test advances it. */
export class FakeClock implements Clock {
  readonly #timers = new Set<FakeTimer>();
  readonly #startMs: number;
  #elapsedMs = 0;
  #order = 0;

  /** `startMs` is what `now()` begins with. */
  constructor(startMs = Date.UTC(2025, 0, 1)) {
    this.#startMs = startMs;
  }

  /** Timers that have yet to fire. */
  get pendingTimers(): number {
    return this.#timers.size;
  }

  now(): number {
    return this.#startMs + this.#elapsedMs;
  }

  monotonicMs(): number {
    return this.#elapsedMs;
  }

  setTimeout(callback: () => void, ms: number): Timer {
    return this.#add(callback, ms, null);
  }

  setInterval(callback: () => void, ms: number): Timer {
    // As in Node, an interval is never shorter than 1 ms; here a shorter one would never let `advance` end.
    return this.#add(callback, ms, Math.max(1, ms));
  }

  /** Moves time on by `ms` and runs what falls due, earliest first, those set meanwhile included. */
  advance(ms: number): void {
    const untilMs = this.#elapsedMs + ms;
    while (this.#runNext(untilMs));
    this.#elapsedMs = untilMs;
  }

  /** Like `advance`, but lets promises settle before, between and after timers. */
  async advanceAsync(ms: number): Promise<void> {
    const untilMs = this.#elapsedMs + ms;
    await settle();
    while (this.#runNext(untilMs)) await settle();
    this.#elapsedMs = untilMs;
    await settle();
  }

  #add(callback: () => void, ms: number, everyMs: number | null): Timer {
    const timer: FakeTimer = { callback, everyMs, order: this.#order++, dueMs: this.#elapsedMs + Math.max(0, ms) };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }

  #runNext(untilMs: number): boolean {
    let next: FakeTimer | undefined;
    for (const timer of this.#timers) {
      if (timer.dueMs > untilMs) continue;
      if (!next || timer.dueMs < next.dueMs || (timer.dueMs === next.dueMs && timer.order < next.order)) next = timer;
    }
    if (!next) return false;
    this.#elapsedMs = next.dueMs;
    if (next.everyMs === null) this.#timers.delete(next);
    else next.dueMs += next.everyMs;
    next.callback();
    return true;
  }
}

/** Runs every promise reaction that is ready, however long the chain. */
function settle(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}
