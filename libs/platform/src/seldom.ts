/** Says a thing that may happen often only now and then, with how often it has happened meanwhile. */
import type { Clock } from './clock.js';

export class Seldom {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #everyMs: number;
  #saidMs = Number.NEGATIVE_INFINITY;
  #left = 0;

  constructor(clock: Pick<Clock, 'monotonicMs'>, everyMs: number) {
    this.#clock = clock;
    this.#everyMs = everyMs;
  }

  /** Calls `say` unless it was called a moment ago. `unsaid`: how often it was not since the last time. */
  say(say: (unsaid: number) => void): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#saidMs < this.#everyMs) {
      this.#left += 1;
      return;
    }
    this.#saidMs = nowMs;
    const unsaid = this.#left;
    this.#left = 0;
    say(unsaid);
  }
}
