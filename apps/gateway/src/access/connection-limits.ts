/** How many connections there may be, in all and from one address. Pure counting; whoever accepts them asks first. */
import { AddressCounts } from '@carrierarr/platform';
import { ClientError } from '@carrierarr/protocol';

export interface ConnectionBounds {
  connectionsMax: number;
  connectionsPerAddressMax: number;
}

export class ConnectionLimits {
  readonly #counts: AddressCounts;

  constructor({ connectionsMax, connectionsPerAddressMax }: ConnectionBounds) {
    this.#counts = new AddressCounts({ max: connectionsMax, perAddressMax: connectionsPerAddressMax });
  }

  /** Connections now. */
  get total(): number {
    return this.#counts.total;
  }

  /**
   * Counts a connection. Returns what ends it, which may be called again without harm. Throws ClientError
   * `too_many_connections`.
   */
  admit(address: string): () => void {
    const taken = this.#counts.take(address);
    if (typeof taken === 'function') return taken;
    throw new ClientError(
      'too_many_connections',
      taken.bound === 'max'
        ? `This gateway has ${taken.count} connections, as many as are allowed (--connections-max). Try another gateway, or later.`
        : `There are ${taken.count} connections from ${taken.address}, as many as one address may have (--connections-per-address-max). ` +
            'If a proxy stands in front of the gateway, name it with --trusted-proxies.',
    );
  }
}
