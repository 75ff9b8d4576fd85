/**
 * The wall clock as Redis has it. Executions are dated by Redis and polls by monitors, and plans compare the two: "a poll
 * that began after the command ended" must not depend on how well this machine keeps time.
 */
import type { Clock, Timer } from '@carrierarr/platform';

/** Between two looks at Redis' clock, ms. */
const ALIGN_EVERY_MS = 60_000;
/** An answer that took longer says too little, ms. */
const ROUND_TRIP_MS_MAX = 1_000;

export class RedisClock implements Clock {
  readonly #clock: Clock;
  readonly #redisNowMs: () => Promise<number>;
  #aheadMs = 0;
  #timer: Timer | undefined;

  constructor(clock: Clock, redisNowMs: () => Promise<number>) {
    this.#clock = clock;
    this.#redisNowMs = redisNowMs;
  }

  now(): number {
    return this.#clock.now() + this.#aheadMs;
  }

  monotonicMs(): number {
    return this.#clock.monotonicMs();
  }

  setTimeout(callback: () => void, ms: number): Timer {
    return this.#clock.setTimeout(callback, ms);
  }

  setInterval(callback: () => void, ms: number): Timer {
    return this.#clock.setInterval(callback, ms);
  }

  /** Asks Redis, now and every minute. Rejects if the first answer is an error. */
  async start(): Promise<void> {
    await this.#align();
    this.#timer = this.#clock.setInterval(() => void this.#align().catch(() => undefined), ALIGN_EVERY_MS);
  }

  stop(): void {
    this.#timer?.cancel();
  }

  async #align(): Promise<void> {
    const beganMs = this.#clock.monotonicMs();
    const redisMs = await this.#redisNowMs();
    const tookMs = this.#clock.monotonicMs() - beganMs;
    // Redis looked at its clock somewhere between question and answer.
    if (tookMs <= ROUND_TRIP_MS_MAX) this.#aheadMs = Math.round(redisMs + tookMs / 2 - this.#clock.now());
  }
}
