/** What is remembered of connections and of the addresses they come from. */
import { limitKeyOf, TokenBuckets } from '@carrierarr/platform';

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

/** Things of which there may be so many in all, and so many from one address. */
class Bounded {
  readonly #of = new Map<string, number>();
  #all = 0;

  /** Counts one. Returns what ends it, which may be called again without harm, or how many there are where there can be no more. */
  take(address: string, max: number, perAddressMax: number): (() => void) | { all: number } | { ofAddress: number } {
    const count = this.#of.get(address) ?? 0;
    if (this.#all >= max) return { all: this.#all };
    if (count >= perAddressMax) return { ofAddress: count };
    this.#all += 1;
    this.#of.set(address, count + 1);
    let isReleased = false;
    return () => {
      if (isReleased) return;
      isReleased = true;
      this.#all -= 1;
      const left = (this.#of.get(address) ?? 1) - 1;
      if (left > 0) this.#of.set(address, left);
      else this.#of.delete(address);
    };
  }
}

/** Connections there may be beside those of streams: that come or go, or only ask. */
const connectionsFor = (streams: number) => 2 * streams + 16;

/** How many connections, streams and calls there may be, in all and from one address. */
export class Peers {
  readonly #bounds: PeerBounds;
  readonly #calls: TokenBuckets;
  readonly #streams = new Bounded();
  readonly #connections = new Bounded();

  constructor(bounds: PeerBounds) {
    this.#bounds = bounds;
    this.#calls = new TokenBuckets({ perSecond: bounds.callsPerSecond, burst: CALLS_BURST * bounds.callsPerSecond });
  }

  /** Counts a call of a peer. False if there were too many. */
  call(peer: string, nowMs: number): boolean {
    return this.#calls.take(addressOf(peer), nowMs) === 0;
  }

  /** Counts a connection. Returns what ends it, or undefined if there cannot be one more. */
  connection(peer: string): (() => void) | undefined {
    const { streamsMax, streamsPerAddressMax } = this.#bounds;
    const [max, perAddressMax] = [connectionsFor(streamsMax), connectionsFor(streamsPerAddressMax)];
    const taken = this.#connections.take(addressOf(peer), max, perAddressMax);
    return typeof taken === 'function' ? taken : undefined;
  }

  /** Counts a stream. Returns what ends it, which may be called again without harm, or why there cannot be one more. */
  stream(peer: string): (() => void) | string {
    const { streamsMax, streamsPerAddressMax } = this.#bounds;
    const address = addressOf(peer);
    const taken = this.#streams.take(address, streamsMax, streamsPerAddressMax);
    if (typeof taken === 'function') return taken;
    if ('all' in taken)
      return `This monitor has ${taken.all} streams, as many as are allowed (--agent-streams-max). Try another monitor, or later.`;
    return `There are ${taken.ofAddress} streams from ${address}, as many as one address may have (--agent-streams-per-address-max).`;
  }
}

/** `192.0.2.7:5000`, `::1:5000` or `[::1]:5000` without its port, as what is counted together. */
function addressOf(peer: string): string {
  const address = peer.slice(0, peer.lastIndexOf(':')).replace(/^\[(.*)\]$/, '$1');
  return limitKeyOf(address.replace(/^::ffff:(?=\d+\.)/, ''));
}
