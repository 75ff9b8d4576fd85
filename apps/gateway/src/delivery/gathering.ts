/**
 * From entries to the sockets of those who keep up: entries gather (`gathered.ts`), are made into frames
 * (`frames.ts`), and each frame is sent to all members of its feed. Clients that watch everything share one stream of
 * frames with the entries of all targets. A client whose socket is full is left out, and is behind from then on.
 */
import type { Clock } from '@carrierarr/platform';
import type { PlacedEntry } from '@carrierarr/protocol';
import type { CatchUp } from './catch-up.js';
import type { Client } from './client.js';
import type { Feed } from './feed.js';
import type { Feeds } from './feeds.js';
import { FrameMemory, FrameSet } from './frames.js';
import { Gathered } from './gathered.js';
import type { Membership } from './membership.js';

export interface GatheringMetrics {
  delivered(lines: number, frames: number, bytes: number): void;
  fellBehind(): void;
}

export interface GatheringOptions {
  feeds: Pick<Feeds, 'all'>;
  membership: Pick<Membership, 'everything' | 'membersOf'>;
  catchUp: Pick<CatchUp, 'remember'>;
  clock: Clock;
  metrics: GatheringMetrics;
}

/** What an entry without lines counts for, bytes. */
const EVENT_BYTES = 200;

export class Gathering {
  readonly #o: GatheringOptions;
  /** For the clients that watch everything. */
  readonly #everything: Gathered<{ feed: Feed; placed: PlacedEntry }>;
  readonly #frameMemory = new FrameMemory();
  /** For frames of what is left for one client that is behind on some feeds, while the others' frames are in use. */
  readonly #restMemory = new FrameMemory();

  constructor(options: GatheringOptions) {
    this.#o = options;
    this.#everything = new Gathered(options.clock, () => this.#flushEverything());
  }

  /** Adds the newest entry of a feed, which goes out now or at the end of a window. */
  add(feed: Feed, placed: PlacedEntry, nowMs: number): void {
    const { membership } = this.#o;
    const bytes = placed.entry.kind === 'lines' ? placed.entry.body.length : EVENT_BYTES;
    if (membership.membersOf(feed).size === 0) feed.sentToMembers = placed.last;
    else this.#of(feed).add(placed, bytes, nowMs);
    if (membership.everything.size === 0) feed.sentToEverything = placed.last;
    else this.#everything.add({ feed, placed }, bytes, nowMs);
  }

  #of(feed: Feed): Gathered<PlacedEntry> {
    feed.gathered ??= new Gathered(this.#o.clock, () => this.#flushFeed(feed));
    return feed.gathered;
  }

  /** Sends all that gathers now. */
  flush(): void {
    for (const feed of this.#o.feeds.all()) if (feed.gathered?.isEmpty === false) this.#flushFeed(feed);
    this.#flushEverything();
  }

  /** Sends what gathers of a feed, to its members and to the clients that watch everything. */
  flushOf(feed: Feed): void {
    this.#flushFeed(feed);
    this.#flushEverything();
  }

  /** Sends what gathers of the feeds that a client is a member of, and for the clients that watch everything. */
  flushFor(client: Client): void {
    for (const feed of client.feeds ?? []) this.#flushFeed(feed);
    this.#flushEverything();
  }

  #flushFeed(feed: Feed): void {
    const entries = feed.gathered?.take() ?? [];
    if (entries.length === 0) return;
    const frames = new FrameSet(entries, this.#frameMemory);
    const before = feed.sentToMembers;
    feed.sentToMembers = feed.last;
    for (const client of this.#o.membership.membersOf(feed)) {
      if (client.behind?.has(feed)) continue;
      if (client.flows) this.#sendFrame(client, frames);
      else this.#leaveOut(client, feed, before);
    }
    this.#count(frames);
  }

  #flushEverything(): void {
    const gathered = this.#everything.take();
    if (gathered.length === 0) return;
    const before = new Map<Feed, number>();
    for (const { feed, placed } of gathered) {
      if (!before.has(feed)) before.set(feed, feed.sentToEverything);
      feed.sentToEverything = placed.last;
    }
    const frames = new FrameSet(entriesOf(gathered), this.#frameMemory);
    for (const client of this.#o.membership.everything) {
      if (!client.flows) {
        for (const [feed, offset] of before) if (!client.behind?.has(feed)) this.#leaveOut(client, feed, offset);
      } else if (!client.isBehind) {
        this.#sendFrame(client, frames);
      } else {
        const rest = gathered.filter(({ feed }) => !client.behind?.has(feed));
        if (rest.length === 0) continue;
        const own = new FrameSet(entriesOf(rest), this.#restMemory);
        this.#sendFrame(client, own);
        this.#count(own);
      }
    }
    this.#count(frames);
  }

  #leaveOut(client: Client, feed: Feed, offset: number): void {
    if (!client.isBehind) this.#o.metrics.fellBehind();
    client.fallBehind(feed, offset);
    this.#o.catchUp.remember(client);
  }

  #sendFrame(client: Client, frames: FrameSet): void {
    const frame = frames.frame(client.encoding);
    if (frame === null) return;
    frames.sent += 1;
    frames.sentBytes += frame.length;
    client.send(frame);
  }

  #count({ lines, sent, sentBytes }: FrameSet): void {
    if (sent > 0) this.#o.metrics.delivered(lines * sent, sent, sentBytes);
  }
}

function entriesOf(gathered: readonly { placed: PlacedEntry }[]): PlacedEntry[] {
  return gathered.map(({ placed }) => placed);
}
