/** How many of something there are, in all and from each address, within bounds. */
import { limitKeyOf } from './limit-key.js';

export interface AddressBounds {
  max: number;
  perAddressMax: number;
}

/** Why there can be no more: which bound was reached, and for one address what is counted as that. */
export type AtBound = { bound: 'max'; count: number } | { bound: 'address'; count: number; address: string };

export class AddressCounts {
  readonly #bounds: AddressBounds;
  readonly #ofAddress = new Map<string, number>();
  #total = 0;

  constructor(bounds: AddressBounds) {
    this.#bounds = bounds;
  }

  /** How many there are now. */
  get total(): number {
    return this.#total;
  }

  /** Counts one more. Returns what ends it, which may be called again without harm, or why there can be no more. */
  take(from: string): (() => void) | AtBound {
    const { max, perAddressMax } = this.#bounds;
    const address = limitKeyOf(from);
    const count = this.#ofAddress.get(address) ?? 0;
    if (this.#total >= max) return { bound: 'max', count: this.#total };
    if (count >= perAddressMax) return { bound: 'address', count, address };
    this.#total += 1;
    this.#ofAddress.set(address, count + 1);
    let isReleased = false;
    return () => {
      if (isReleased) return;
      isReleased = true;
      this.#total -= 1;
      const left = (this.#ofAddress.get(address) ?? 1) - 1;
      if (left > 0) this.#ofAddress.set(address, left);
      else this.#ofAddress.delete(address);
    };
  }
}
