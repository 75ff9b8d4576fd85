/**
 * A budget of API calls: so many a second in the long run, and a burst at once. Whoever wants to call takes a token and
 * waits for it in line. Clouds throttle a whole account, so one who polls must stay far below what the account may.
 */
import type { Clock, Timer } from '@carrierarr/platform';

export interface Rate {
  readonly perSecond: number;
  readonly burst: number;
}

/** Most callers that wait for one bucket at once; far above what single-flight polls need. */
export const WAITERS_MAX = 1_000;

interface Waiter {
  resolve: () => void;
}

export class TokenBucket {
  readonly #rate: Rate;
  readonly #clock: Clock;
  readonly #waiters: Waiter[] = [];
  #tokens: number;
  #atMs: number;
  #timer: Timer | undefined;

  /** Begins full. */
  constructor(rate: Rate, clock: Clock) {
    this.#rate = rate;
    this.#clock = clock;
    this.#tokens = rate.burst;
    this.#atMs = clock.monotonicMs();
  }

  /** Callers in line. */
  get waiting(): number {
    return this.#waiters.length;
  }

  /**
   * Resolves when a token was taken, first come, first served. Rejects with the signal's reason when it is aborted
   * before, and at once when too many wait.
   */
  async take(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.#refill();
    if (this.#waiters.length === 0 && this.#tokens >= 1) {
      this.#tokens -= 1;
      return;
    }
    if (this.#waiters.length >= WAITERS_MAX) {
      throw new Error(`${WAITERS_MAX} calls wait for one API budget already. Poll less often, or fewer sources.`);
    }
    await new Promise<void>((resolve, reject) => {
      const leave = () => {
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
        // A line that has dissolved must not keep a timer going.
        if (this.#waiters.length === 0) {
          this.#timer?.cancel();
          this.#timer = undefined;
        }
        reject(signal.reason as Error);
      };
      const waiter: Waiter = {
        resolve: () => {
          signal.removeEventListener('abort', leave);
          resolve();
        },
      };
      signal.addEventListener('abort', leave, { once: true });
      this.#waiters.push(waiter);
      this.#schedule();
    });
  }

  #refill(): void {
    const nowMs = this.#clock.monotonicMs();
    const gained = ((nowMs - this.#atMs) / 1000) * this.#rate.perSecond;
    this.#tokens = Math.min(this.#rate.burst, this.#tokens + gained);
    this.#atMs = nowMs;
  }

  #schedule(): void {
    if (this.#timer !== undefined || this.#waiters.length === 0) return;
    // At least 1 ms: rounding may leave a token a hair short of whole.
    const waitMs = Math.max(1, Math.ceil(((1 - this.#tokens) / this.#rate.perSecond) * 1000));
    this.#timer = this.#clock.setTimeout(() => {
      this.#timer = undefined;
      this.#refill();
      while (this.#tokens >= 1 && this.#waiters.length > 0) {
        this.#tokens -= 1;
        this.#waiters.shift()?.resolve();
      }
      this.#schedule();
    }, waitMs);
  }
}
