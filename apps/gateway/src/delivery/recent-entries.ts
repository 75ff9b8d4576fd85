/**
 * The memory bound of all feeds together: entries are remembered in the order they came, and the oldest are
 * forgotten first, whichever feed they belong to, so that busy targets use what quiet ones do not need.
 */
import type { PlacedEntry } from '@carrierarr/protocol';
import type { Feed } from './feed.js';

/** What an entry costs beside its body, roughly. */
const ENTRY_OVERHEAD_BYTES = 300;

export class RecentEntries {
  /** Feed of each remembered entry, in order of arrival; a feed's own ring has the entries. */
  #order: Feed[] = [];
  #start = 0;
  #bytes = 0;
  readonly #bytesMax: number;

  readonly #entriesMax: number;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.#entriesMax = Math.ceil(bytesMax / ENTRY_OVERHEAD_BYTES);
  }

  get bytes(): number {
    return this.#bytes;
  }

  remember(feed: Feed, placed: PlacedEntry): void {
    feed.ring.push(placed);
    this.#order.push(feed);
    this.#bytes += sizeOf(placed);
    while (this.#bytes > this.#bytesMax || this.#order.length - this.#start > this.#entriesMax) this.#forgetOldest();
  }

  /** Forgets all of a feed that lost its continuity or is not needed any more. */
  forget(feed: Feed): void {
    for (const placed of feed.ring) if (placed !== undefined) this.#bytes -= sizeOf(placed);
    // What stays of it in `#order` then stands for a newer entry of the feed, or for none: either does no harm.
    feed.clearRing();
  }

  #forgetOldest(): void {
    const feed = this.#order[this.#start];
    this.#start += 1;
    if (this.#start > 1024 && this.#start * 2 > this.#order.length) {
      this.#order = this.#order.slice(this.#start);
      this.#start = 0;
    }
    const oldest = feed?.ring[feed.ringStart];
    if (feed === undefined || oldest === undefined) return;
    this.#bytes -= sizeOf(oldest);
    feed.dropOldest();
  }
}

function sizeOf({ entry }: PlacedEntry): number {
  return ENTRY_OVERHEAD_BYTES + (entry.kind === 'lines' ? entry.body.length : 0);
}
