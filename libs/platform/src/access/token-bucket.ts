/** Rates: so many per second in the long run, and a burst at once. Time comes in as an argument. */

export interface Rate {
  perSecond: number;
  burst: number;
}

export class TokenBucket {
  readonly #rate: Rate;
  #tokens: number;
  #atMs: number;

  /** Begins full. `nowMs` is of any clock that never goes back. */
  constructor(rate: Rate, nowMs: number) {
    this.#rate = rate;
    this.#tokens = rate.burst;
    this.#atMs = nowMs;
  }

  /** Takes `count`, if there are as many. More than a burst there never are. */
  take(nowMs: number, count = 1): boolean {
    this.#refill(nowMs);
    if (this.#tokens < count) return false;
    this.#tokens -= count;
    return true;
  }

  /** How long until {@link take} succeeds, ms. */
  waitMs(nowMs: number, count = 1): number {
    this.#refill(nowMs);
    return this.#tokens >= count ? 0 : Math.ceil(((count - this.#tokens) / this.#rate.perSecond) * 1000);
  }

  /** True once it is as good as new. */
  isFull(nowMs: number): boolean {
    this.#refill(nowMs);
    return this.#tokens >= this.#rate.burst;
  }

  #refill(nowMs: number): void {
    const elapsedMs = Math.max(0, nowMs - this.#atMs);
    this.#tokens = Math.min(this.#rate.burst, this.#tokens + (elapsedMs / 1000) * this.#rate.perSecond);
    this.#atMs = Math.max(this.#atMs, nowMs);
  }
}

/** Clients whose rate is remembered at once. A full bucket is forgotten first; it is as good as a new one. */
const KEYS_MAX = 10_000;
/** What is left after making room, so that it is not made for each new client. */
const KEYS_KEPT = 9_000;

/** A bucket for each client. */
export class TokenBuckets {
  readonly #rate: Rate;
  readonly #buckets = new Map<string, TokenBucket>();

  constructor(rate: Rate) {
    this.#rate = rate;
  }

  /** Takes `count` for `key`: 0, or how long to wait, ms. */
  take(key: string, nowMs: number, count = 1): number {
    let bucket = this.#buckets.get(key);
    if (!bucket) {
      if (this.#buckets.size >= KEYS_MAX) this.#makeRoom(nowMs);
      bucket = new TokenBucket(this.#rate, nowMs);
    }
    // Last in the map is the one used last.
    this.#buckets.delete(key);
    this.#buckets.set(key, bucket);
    return bucket.take(nowMs, count) ? 0 : bucket.waitMs(nowMs, count);
  }

  #makeRoom(nowMs: number): void {
    for (const [key, bucket] of this.#buckets) if (bucket.isFull(nowMs)) this.#buckets.delete(key);
    for (const key of this.#buckets.keys()) {
      if (this.#buckets.size <= KEYS_KEPT) return;
      this.#buckets.delete(key);
    }
  }
}
