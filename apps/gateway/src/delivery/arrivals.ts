/** What the tail tells, carried out on the feeds and the clients that watch them. */
import type { Clock } from '@carrierarr/platform';
import type { PlacedEntry } from '@carrierarr/protocol';
import type { Client } from './client.js';
import { encodeGap, type Gap, timestampOf } from './encode.js';
import type { Feed } from './feed.js';
import type { Feeds } from './feeds.js';
import type { Gathering } from './gathering.js';
import type { Membership } from './membership.js';
import type { TailListener } from './tail/tail-listener.js';

export interface ArrivalsOptions {
  feeds: Feeds;
  membership: Membership;
  gathering: Gathering;
  clock: Clock;
  metrics: { gap(): void };
  /** Makes a client a member of a feed that one of its patterns matches. */
  join(client: Client, feed: Feed): void;
}

export class Arrivals implements TailListener {
  readonly #o: ArrivalsOptions;

  constructor(options: ArrivalsOptions) {
    this.#o = options;
  }

  entry(placed: PlacedEntry): void {
    const { feeds, gathering, clock } = this.#o;
    const feed = feeds.get(placed.target);
    if (feed === undefined) return;
    const nowMs = clock.monotonicMs();
    feeds.remember(feed, placed, nowMs);
    gathering.add(feed, placed, nowMs);
    feed.wake();
  }

  gap(gap: Gap): void {
    const { feeds, gathering, membership, clock, metrics } = this.#o;
    const feed = feeds.get(gap.target);
    if (feed === undefined) return;
    gathering.flushOf(feed);
    feeds.place(feed, gap.epoch, gap.to);
    const timestamp = timestampOf(clock.now());
    for (const client of [...membership.membersOf(feed), ...membership.everything]) {
      // Whoever was behind has lost the same and more; the catch-up says what exactly.
      if (client.behind?.has(feed)) {
        if (gap.reason === 'epoch') client.behind.set(feed, gap.to);
        else continue;
      }
      metrics.gap();
      client.send(Buffer.from(encodeGap(gap, timestamp, client.encoding)));
    }
    feed.wake();
  }

  placed(target: string, epoch: string, last: number): void {
    const feed = this.#o.feeds.get(target);
    if (feed !== undefined) this.#o.feeds.place(feed, epoch, last);
  }

  discovered(target: string, epoch: string, after: number): boolean {
    const { feeds, membership } = this.#o;
    if (!membership.needsAll && feeds.get(target) === undefined) return false;
    const feed = feeds.getOrAdd(target);
    feeds.place(feed, epoch, after);
    for (const client of membership.patterned) if (client.wants(target)) this.#o.join(client, feed);
    return true;
  }
}
