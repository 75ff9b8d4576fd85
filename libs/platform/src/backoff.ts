/**
 * Exponential backoff with full jitter: the delay is random between nothing and a bound that doubles. Spreading the
 * whole interval is what keeps many clients that failed together from returning together
 * (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
 */

export interface BackoffOptions {
  /** 0 for the first retry. */
  readonly attempt: number;
  /** Bound of the first delay. */
  readonly baseMs: number;
  /** No delay is longer. */
  readonly capMs: number;
  /** In [0, 1). */
  readonly random?: () => number;
}

/** Whole milliseconds to wait before the retry, from 0 to below min(capMs, baseMs * 2^attempt). */
export function backoffMs({ attempt, baseMs, capMs, random = Math.random }: BackoffOptions): number {
  return Math.floor(random() * Math.min(capMs, baseMs * 2 ** attempt));
}
