/** How many connections there may be, in all and from one address. Pure counting; whoever accepts them asks first. */
import { limitKeyOf } from '@carrierarr/platform';
import { ClientError } from '@carrierarr/protocol';

export interface ConnectionBounds {
  connectionsMax: number;
  connectionsPerAddressMax: number;
}

export class ConnectionLimits {
  readonly #bounds: ConnectionBounds;
  readonly #ofAddress = new Map<string, number>();
  #total = 0;

  constructor(bounds: ConnectionBounds) {
    this.#bounds = bounds;
  }

  /** Connections now. */
  get total(): number {
    return this.#total;
  }

  /**
   * Counts a connection. Returns what ends it, which may be called again without harm. Throws ClientError
   * `too_many_connections`.
   */
  admit(address: string): () => void {
    const { connectionsMax, connectionsPerAddressMax } = this.#bounds;
    const key = limitKeyOf(address);
    const ofAddress = this.#ofAddress.get(key) ?? 0;
    if (this.#total >= connectionsMax) {
      throw new ClientError(
        'too_many_connections',
        `This gateway has ${this.#total} connections, as many as are allowed (--connections-max). Try another gateway, or later.`,
      );
    }
    if (ofAddress >= connectionsPerAddressMax) {
      throw new ClientError(
        'too_many_connections',
        `There are ${ofAddress} connections from ${key}, as many as one address may have (--connections-per-address-max). ` +
          'If a proxy stands in front of the gateway, name it with --trusted-proxies.',
      );
    }
    this.#total += 1;
    this.#ofAddress.set(key, ofAddress + 1);
    let isReleased = false;
    return () => {
      if (isReleased) return;
      isReleased = true;
      this.#total -= 1;
      const left = (this.#ofAddress.get(key) ?? 1) - 1;
      if (left > 0) this.#ofAddress.set(key, left);
      else this.#ofAddress.delete(key);
    };
  }
}
