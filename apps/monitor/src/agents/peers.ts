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

/** How many streams and calls there may be, in all and from one address. */
export class Peers {
  readonly #bounds: PeerBounds;
  readonly #calls: TokenBuckets;
  readonly #ofAddress = new Map<string, number>();
  #streams = 0;

  constructor(bounds: PeerBounds) {
    this.#bounds = bounds;
    this.#calls = new TokenBuckets({ perSecond: bounds.callsPerSecond, burst: CALLS_BURST * bounds.callsPerSecond });
  }

  /** Counts a call of a peer. False if there were too many. */
  call(peer: string, nowMs: number): boolean {
    return this.#calls.take(addressOf(peer), nowMs) === 0;
  }

  /** Counts a stream. Returns what ends it, which may be called again without harm, or why there cannot be one more. */
  stream(peer: string): (() => void) | string {
    const { streamsMax, streamsPerAddressMax } = this.#bounds;
    const address = addressOf(peer);
    const count = this.#ofAddress.get(address) ?? 0;
    if (this.#streams >= streamsMax)
      return `This monitor has ${this.#streams} streams, as many as are allowed (--agent-streams-max). Try another monitor, or later.`;
    if (count >= streamsPerAddressMax)
      return `There are ${count} streams from ${address}, as many as one address may have (--agent-streams-per-address-max).`;
    this.#streams += 1;
    this.#ofAddress.set(address, count + 1);
    let isReleased = false;
    return () => {
      if (isReleased) return;
      isReleased = true;
      this.#streams -= 1;
      const left = (this.#ofAddress.get(address) ?? 1) - 1;
      if (left > 0) this.#ofAddress.set(address, left);
      else this.#ofAddress.delete(address);
    };
  }
}

/** `192.0.2.7:5000`, `::1:5000` or `[::1]:5000` without its port, as what is counted together. */
function addressOf(peer: string): string {
  const address = peer.slice(0, peer.lastIndexOf(':')).replace(/^\[(.*)\]$/, '$1');
  return limitKeyOf(address.replace(/^::ffff:(?=\d+\.)/, ''));
}
