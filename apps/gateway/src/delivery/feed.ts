/**
 * What a gateway keeps of one target: the newest entries of its log, in memory, and how far they have gone out. Who
 * gets them is in `membership.ts`.
 *
 * Entries come in order and without holes (see `log-tail.ts`). `last` is how far the feed has got; `sentToMembers`
 * and `sentToEverything` how far frames have gone out to its own members and to the clients that watch everything,
 * which trail `last` while a frame gathers.
 */
import type { PlacedEntry } from '@carrierarr/protocol';
import type { Gathered } from './gathered.js';

export class Feed {
  epoch = '';
  last = 0;
  sentToMembers = 0;
  sentToEverything = 0;
  /** Entries kept in memory, contiguous up to `last`. */
  readonly ring: (PlacedEntry | undefined)[] = [];
  /** Index of the oldest entry in `ring` (those before it are dropped in bulk). */
  ringStart = 0;
  /** Called after each change, for readers of the log that want to be woken. */
  readonly watchers = new Set<() => void>();
  /** Entries that wait for the members' next frame. Undefined until there are any: many feeds have no members. */
  gathered: Gathered<PlacedEntry> | undefined;
  /** When it last had an entry, monotonic ms. */
  activeMs = 0;

  constructor(readonly target: string) {}

  /** Keeps it from being forgotten until the returned function is called. */
  hold(): () => void {
    const hold = () => undefined;
    this.watchers.add(hold);
    return () => void this.watchers.delete(hold);
  }

  /** Tells the watchers that it has changed. */
  wake(): void {
    for (const watcher of this.watchers) watcher();
  }

  /** The entries in memory after an offset, or undefined if memory does not reach back that far. */
  after(offset: number): PlacedEntry[] | undefined {
    const oldest = this.ring[this.ringStart];
    if (oldest === undefined || offset < oldest.last - oldest.count) return undefined;
    // Binary search for the first entry with lines after `offset`.
    let low = this.ringStart;
    let high = this.ring.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.ring[middle] as PlacedEntry).last <= offset) low = middle + 1;
      else high = middle;
    }
    return this.ring.slice(low, low + RING_SLICE_MAX) as PlacedEntry[];
  }

  /** Forgets the oldest entry in memory. */
  dropOldest(): void {
    // The slot is freed now, the array in bulk: a shift for each entry would copy the array each time.
    this.ring[this.ringStart] = undefined;
    this.ringStart += 1;
    if (this.ringStart > 64 && this.ringStart * 2 > this.ring.length) {
      this.ring.splice(0, this.ringStart);
      this.ringStart = 0;
    }
  }

  clearRing(): void {
    this.ring.length = 0;
    this.ringStart = 0;
  }
}

const RING_SLICE_MAX = 256;
