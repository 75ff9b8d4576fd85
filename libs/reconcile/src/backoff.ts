/**
 * How long to leave a worker alone after its commands failed: random between nothing and a bound that doubles with
 * each failure in a row, so that workers which failed together do not come back together.
 */

/** Bound of the delay after the first failure. */
export const BACKOFF_BASE_MS = 250;
/** No delay is longer. */
export const BACKOFF_MAX_MS = 5 * 60_000;

/** Whole milliseconds to wait after that many failures in a row (1 = the first); `jitter` is uniform in [0, 1). */
export function backoffDelayMs(failures: number, jitter: number): number {
  if (failures < 1) return 0;
  return Math.floor(jitter * Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** (failures - 1)));
}
