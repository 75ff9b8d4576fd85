/**
 * Entries that wait for the next frame, and when that goes out: the first entry after a quiet time at once; while the
 * feed is busy, entries gather for a window, for the number of sends is what a busy fan-out costs.
 */
import type { Clock, Timer } from '@carrierarr/platform';

/** How long entries of a busy feed gather, ms. */
const WINDOW_MS = 16;
/** Body bytes that end the gathering early: beyond this the bytes cost more than the sends. */
const FRAME_BYTES = 16 * 1024;

export class Gathered<T> {
  readonly #clock: Clock;
  readonly #flush: () => void;
  #waiting: T[] = [];
  #bytes = 0;
  /** When the last frame was made, monotonic ms: entries that come within a window of it gather. */
  #flushedMs = Number.NEGATIVE_INFINITY;
  /** The end of the window, if entries wait for it. */
  #window: Timer | undefined;

  /** `flush` makes the frame, of what it {@link take}s. */
  constructor(clock: Clock, flush: () => void) {
    this.#clock = clock;
    this.#flush = flush;
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  /** Adds an entry that came at `nowMs`. It is flushed now, or at the end of the window. */
  add(item: T, bytes: number, nowMs: number): void {
    this.#waiting.push(item);
    this.#bytes += bytes;
    const leftMs = this.#flushedMs + WINDOW_MS - nowMs;
    if (leftMs <= 0 || this.#bytes >= FRAME_BYTES) this.#flush();
    else this.#window ??= this.#clock.setTimeout(this.#flush, leftMs);
  }

  /** All that waits, for a frame that is made now. */
  take(): readonly T[] {
    this.#window?.cancel();
    this.#window = undefined;
    const taken = this.#waiting;
    if (taken.length === 0) return taken;
    // The window begins before the frame goes out: sending to a thousand clients takes milliseconds, and a window that
    // began after them would make lines wait that come further apart than a window.
    this.#flushedMs = this.#clock.monotonicMs();
    this.#waiting = [];
    this.#bytes = 0;
    return taken;
  }
}
