/** What is remembered of connections and of the addresses they come from. */
import { AddressCounts, limitKeyOf, TokenBuckets } from '@carrierarr/platform';

/** Registrations remembered. The one used longest ago is forgotten first; its stream is then known by its host name. */
const REGISTRATIONS_MAX = 50_000;

/** Which node a connection registered: two machines may have one host name, and a stream does not say its instance id. */
export class Registrations {
  readonly #ofPeer = new Map<string, { name: string; key: string }>();

  set(peer: string, name: string, key: string): void {
    this.#ofPeer.delete(peer);
    this.#ofPeer.set(peer, { name, key });
    if (this.#ofPeer.size > REGISTRATIONS_MAX) {
      for (const oldest of this.#ofPeer.keys()) {
        this.#ofPeer.delete(oldest);
        break;
      }
    }
  }

  /** The node that registered over a connection, if it went by that name: ports are used again by other machines. */
  keyOf(peer: string, name: string): string | undefined {
    const known = this.#ofPeer.get(peer);
    return known?.name === name ? known.key : undefined;
  }

  /** What the machine at the other end registered as last. */
  nameOf(peer: string): string | undefined {
    return this.#ofPeer.get(peer)?.name;
  }
}

export interface PeerBounds {
  streamsMax: number;
  streamsPerAddressMax: number;
  callsPerSecond: number;
}

/** Calls that may come at once, as a multiple of those per second: a monitor that died sends all its agents here. */
const CALLS_BURST = 20;

/** Connections there may be beside those of streams: that come or go, or only ask. */
const connectionsFor = (streams: number) => 2 * streams + 16;

/** How many connections, streams and calls there may be, in all and from one address. */
export class Peers {
  readonly #calls: TokenBuckets;
  readonly #streams: AddressCounts;
  readonly #connections: AddressCounts;

  constructor({ streamsMax, streamsPerAddressMax, callsPerSecond }: PeerBounds) {
    this.#calls = new TokenBuckets({ perSecond: callsPerSecond, burst: CALLS_BURST * callsPerSecond });
    this.#streams = new AddressCounts({ max: streamsMax, perAddressMax: streamsPerAddressMax });
    this.#connections = new AddressCounts({
      max: connectionsFor(streamsMax),
      perAddressMax: connectionsFor(streamsPerAddressMax),
    });
  }

  /** Counts a call of a peer. False if there were too many. */
  call(peer: string, nowMs: number): boolean {
    return this.#calls.take(limitKeyOf(addressOf(peer)), nowMs) === 0;
  }

  /** Counts a connection. Returns what ends it, or undefined if there cannot be one more. */
  connection(peer: string): (() => void) | undefined {
    const taken = this.#connections.take(addressOf(peer));
    return typeof taken === 'function' ? taken : undefined;
  }

  /** Counts a stream. Returns what ends it, which may be called again without harm, or why there cannot be one more. */
  stream(peer: string): (() => void) | string {
    const taken = this.#streams.take(addressOf(peer));
    if (typeof taken === 'function') return taken;
    if (taken.bound === 'max')
      return `This monitor has ${taken.count} streams, as many as are allowed (--agent-streams-max). Try another monitor, or later.`;
    return `There are ${taken.count} streams from ${taken.address}, as many as one address may have (--agent-streams-per-address-max).`;
  }
}

/** `192.0.2.7:5000`, `::1:5000` or `[::1]:5000` without its port. */
function addressOf(peer: string): string {
  const address = peer.slice(0, peer.lastIndexOf(':')).replace(/^\[(.*)\]$/, '$1');
  return address.replace(/^::ffff:(?=\d+\.)/, '');
}
