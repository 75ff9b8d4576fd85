/** Bytes per second that may be sent. Something may always be begun while any are left, so large pieces wait longest after. */
export class ByteBudget {
  readonly #perSecond: number;
  #left: number;
  #atMs: number;

  /** Begins with the bytes of one second. `nowMs` is of any clock that never goes back. */
  constructor(perSecond: number, nowMs: number) {
    this.#perSecond = perSecond;
    this.#left = perSecond;
    this.#atMs = nowMs;
  }

  /** How long until something may be sent, ms; 0 is now. */
  waitMs(nowMs: number): number {
    this.#left = Math.min(this.#perSecond, this.#left + ((nowMs - this.#atMs) / 1000) * this.#perSecond);
    this.#atMs = nowMs;
    return this.#left > 0 ? 0 : Math.max(1, Math.ceil((-this.#left / this.#perSecond) * 1000));
  }

  /** Counts what was sent. */
  spend(bytes: number): void {
    this.#left -= bytes;
  }
}
