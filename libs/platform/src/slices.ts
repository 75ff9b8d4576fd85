/** Long work in slices: between two of them everything else that the process has to do gets its turn. */
import type { Clock } from './clock.js';

/** Longest time that one slice takes, if the work yields often enough, ms. */
const SLICE_MS = 3;

/**
 * Does work that yields wherever it may be interrupted, and resolves to what it returns. Rejects with what it throws. What
 * the work reads must not be changed meanwhile: that is its caller's affair.
 */
export async function inSlices<T>(work: Generator<void, T, void>, clock: Pick<Clock, 'monotonicMs'>): Promise<T> {
  let beganMs = clock.monotonicMs();
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
    if (clock.monotonicMs() - beganMs < SLICE_MS) continue;
    await new Promise((resolve) => void setImmediate(resolve));
    beganMs = clock.monotonicMs();
  }
}
