/**
 * Long work over thousands of records in slices, with rests between them in which the process does everything else it has to do.
 * A mere turn of the event loop is not enough: what has to ask Redis three times would wait for three slices.
 */
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';

/** Longest time that one slice takes, if the work yields often enough, ms. */
const SLICE_MS = 2;
/** Between two slices, ms: some three times as long as a slice takes. */
const REST_MS = 6;
/** Rests of one piece of work. One of still more slices makes haste: a second is lost, and whoever waits for it waits for all. */
const RESTS_MAX = 100;

/** The rests of one piece of work. They are real time, whatever clock the work goes by. */
export class Rests {
  #left: number;

  /** `max`: after so many others only have their turn; 0 for work that somebody waits for. */
  constructor(max = RESTS_MAX) {
    this.#left = max;
  }

  /** To be waited for after each slice. */
  async next(): Promise<void> {
    if (this.#left === 0) return turn();
    this.#left -= 1;
    return sleep(REST_MS);
  }
}

/**
 * Does work that yields wherever it may be interrupted, and resolves to what it returns. Rejects with what it throws. What
 * the work reads must not be changed meanwhile: that is its caller's affair.
 */
export async function inSlices<T>(work: Generator<void, T, void>, clock: { monotonicMs(): number }): Promise<T> {
  const rests = new Rests();
  let beganMs = clock.monotonicMs();
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
    if (clock.monotonicMs() - beganMs < SLICE_MS) continue;
    await rests.next();
    beganMs = clock.monotonicMs();
  }
}
