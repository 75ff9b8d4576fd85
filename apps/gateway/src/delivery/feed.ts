/**
 * What a gateway keeps of one target: the newest entries of its log, in memory, and who watches it.
 *
 * Entries come in order and without holes (see `log-tail.ts`). `last` is how far the feed has got; `sentToMembers`
 * and `sentToEverything` how far frames have gone out to its own members and to the clients that watch everything,
 * which trail `last` while a frame gathers.
 */
import type { PlacedEntry } from '@carrierarr/protocol';
import type { Client } from './client.js';

export class Feed {
  epoch = '';
  last = 0;
  sentToMembers = 0;
  sentToEverything = 0;
  /** Entries kept in memory, contiguous up to `last`. */
  readonly ring: (PlacedEntry | undefined)[] = [];
  /** Index of the oldest entry in `ring` (those before it are dropped in bulk). */
  ringStart = 0;
  readonly members = new Set<Client>();
  /** Called after each change, for readers of the log that want to be woken. */
  readonly watchers = new Set<() => void>();
  /** Entries that wait for the members' next frame. */
  pending: PlacedEntry[] = [];
  pendingBytes = 0;
  /** When its last frame was made, monotonic ms: entries that come within a window of it gather. */
  flushedMs = Number.NEGATIVE_INFINITY;
  /** The end of the window, if entries wait for it. */
  window: { cancel(): void } | undefined;
  /** When it last had an entry, monotonic ms. */
  activeMs = 0;

  constructor(readonly target: string) {}

  /** True if somebody besides the watchers of everything needs it. */
  get wanted(): boolean {
    return this.members.size > 0 || this.watchers.size > 0;
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
