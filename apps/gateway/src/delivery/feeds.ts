/** The feeds of all targets that this gateway knows, and the newest entries of each in memory. */
import type { Clock } from '@carrierarr/platform';
import type { PlacedEntry } from '@carrierarr/protocol';
import { Feed } from './feed.js';
import { RecentEntries } from './recent-entries.js';

export class Feeds {
  readonly #feeds = new Map<string, Feed>();
  readonly #recent: RecentEntries;
  readonly #clock: Clock;

  /** `recentBytesMax`: bytes of entries kept in memory, of all targets together. */
  constructor(recentBytesMax: number, clock: Clock) {
    this.#recent = new RecentEntries(recentBytesMax);
    this.#clock = clock;
  }

  get size(): number {
    return this.#feeds.size;
  }

  get recentBytes(): number {
    return this.#recent.bytes;
  }

  get(target: string): Feed | undefined {
    return this.#feeds.get(target);
  }

  all(): Iterable<Feed> {
    return this.#feeds.values();
  }

  getOrAdd(target: string): Feed {
    let feed = this.#feeds.get(target);
    if (feed === undefined) {
      feed = new Feed(target);
      feed.activeMs = this.#clock.monotonicMs();
      this.#feeds.set(target, feed);
    }
    return feed;
  }

  /** A feed goes on by an entry. */
  remember(feed: Feed, placed: PlacedEntry, nowMs: number): void {
    feed.epoch = placed.epoch;
    feed.last = placed.last;
    feed.activeMs = nowMs;
    this.#recent.remember(feed, placed);
  }

  /** A feed goes on at a place that does not follow what came before. */
  place(feed: Feed, epoch: string, last: number): void {
    this.#recent.forget(feed);
    feed.epoch = epoch;
    feed.last = last;
    feed.sentToMembers = last;
    feed.sentToEverything = last;
  }

  delete(feed: Feed): void {
    this.#recent.forget(feed);
    this.#feeds.delete(feed.target);
  }
}
