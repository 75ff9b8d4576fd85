/** Starts of programs one after the other: each holds the whole process up, for as long as copying it takes. */
import { type Clock, sleep } from '@carrierarr/platform';

export class StartGap {
  readonly #clock: Clock;
  readonly #gapMs: number;
  #next: Promise<void> = Promise.resolve();

  /** `gapMs`: between two starts, at least. Programs run beside each other all the same. */
  constructor(clock: Clock, gapMs: number) {
    this.#clock = clock;
    this.#gapMs = gapMs;
  }

  /** Resolves when it is the caller's turn to start one; at once if there was no other lately. */
  turn(): Promise<void> {
    const mine = this.#next;
    this.#next = mine.then(() => sleep(this.#clock, this.#gapMs));
    return mine;
  }
}
