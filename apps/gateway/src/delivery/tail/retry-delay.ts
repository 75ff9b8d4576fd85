const BASE_MS = 50;
/** Bounds how much later than Redis the delivery comes back. */
const CAP_MS = 1_000;

/** How long to wait after a failed attempt; the first is 0 or 1. */
export function retryDelayMs(attempt: number): number {
  return Math.min(CAP_MS, BASE_MS * 2 ** attempt);
}
