/**
 * From the logs to the clients.
 *
 * `LogTail` hands on each target's entries in order and without holes (`arrivals.ts` takes them). They go into frames:
 * the first entry after a quiet time goes out at once; while a feed is busy, entries gather for a window of 16 ms
 * (`gathering.ts`). A client whose socket is full is left out and catches up from memory or from the log when it
 * drains (`catch-up.ts`), so it holds up nobody, costs nothing and misses nothing.
 *
 * Clients that watch everything share one stream of frames with the entries of all targets; the others are members
 * of the feeds they watch (`membership.ts`). Here is what clients can ask for. What gathers is sent before anything
 * changes, so that it goes to whom it would have gone to, as it would have.
 */
import type { Clock } from '@carrierarr/platform';
import { Arrivals } from './arrivals.js';
import { CatchUp, type CatchUpMetrics, type CatchUpOptions } from './catch-up.js';
import { Client, type ClientSocket } from './client.js';
import type { Encoding } from './encode.js';
import type { Feed } from './feed.js';
import { Feeds } from './feeds.js';
import { Gathering, type GatheringMetrics } from './gathering.js';
import type { LogTail } from './log-tail.js';
import { Membership } from './membership.js';
import { Sweep } from './sweep.js';
import type { TailListener } from './tail/tail-listener.js';

export type FanoutMetrics = CatchUpMetrics & GatheringMetrics;

export interface FanoutOptions {
  tail: (listener: TailListener) => LogTail;
  clock: Clock;
  /** Bytes queued in a socket beyond which its client is left out until it drains. */
  clientBufferBytes: number;
  /** Bytes of entries kept in memory, of all targets together. */
  recentBytesMax: number;
  metrics: FanoutMetrics;
  readPage: CatchUpOptions['readPage'];
  allCaughtUp?: CatchUpOptions['allCaughtUp'];
  onError(error: unknown, target: string): void;
}

export class Fanout {
  readonly #o: FanoutOptions;
  readonly #tail: LogTail;
  readonly #feeds: Feeds;
  readonly #membership = new Membership();
  readonly #catchUp: CatchUp;
  readonly #gathering: Gathering;
  readonly #sweep: Sweep;

  constructor(options: FanoutOptions) {
    this.#o = options;
    const { clock, metrics } = options;
    const membership = this.#membership;
    const feeds = new Feeds(options.recentBytesMax, clock);
    const catchUp = new CatchUp(options);
    const gathering = new Gathering({ feeds, membership, catchUp, clock, metrics });
    const join = (client: Client, feed: Feed) => this.join(client, feed);
    const tail = options.tail(new Arrivals({ feeds, membership, gathering, clock, metrics, join }));
    const onError = (error: unknown, target: string) => options.onError(error, target);
    this.#feeds = feeds;
    this.#catchUp = catchUp;
    this.#gathering = gathering;
    this.#tail = tail;
    this.#sweep = new Sweep({ feeds, membership, catchUp, tail, clock, onError });
  }

  async start(): Promise<void> {
    await this.#tail.start();
    this.#sweep.start();
  }

  /** Sends what gathers, and stops. */
  stop(): void {
    this.#sweep.stop();
    this.flush();
    this.#tail.stop();
  }

  get feedCount(): number {
    return this.#feeds.size;
  }
  get recentBytes(): number {
    return this.#feeds.recentBytes;
  }
  get channelCount(): number {
    return this.#tail.channelCount;
  }
  get behindCount(): number {
    return this.#catchUp.size;
  }

  // --- feeds -----------------------------------------------------------------------------------------------------

  /** The feed of a target, followed from now at the latest. */
  async feed(target: string): Promise<Feed> {
    const known = this.#feeds.get(target);
    if (known !== undefined && this.#tail.place(target) !== undefined) {
      known.activeMs = this.#o.clock.monotonicMs();
      return known;
    }
    const feed = this.#feeds.getOrAdd(target);
    // A watcher keeps it from being forgotten while the log is looked at.
    const letGo = feed.hold();
    try {
      await this.#tail.follow(target);
      feed.activeMs = this.#o.clock.monotonicMs();
      return feed;
    } finally {
      letGo();
    }
  }

  /** Keeps a feed from being forgotten until the returned function is called. */
  keep(feed: Feed): () => void {
    return feed.hold();
  }

  /** Calls `onChange` after each change of a target's log, until the returned function is called. */
  wakeOn(target: string, onChange: () => void): () => void {
    const feed = this.#feeds.getOrAdd(target);
    feed.watchers.add(onChange);
    this.#tail.follow(target).then(onChange, (error: unknown) => this.#o.onError(error, target));
    return () => feed.watchers.delete(onChange);
  }

  /** Reads a target's log again where this gateway may be late, before it judges a client's position. */
  async refresh(target: string): Promise<void> {
    await this.#tail.refresh(target);
  }

  // --- who watches what ------------------------------------------------------------------------------------------

  /** A new client; it watches nothing yet. */
  add(socket: ClientSocket): Client {
    return new Client(socket, this.#o.clientBufferBytes);
  }

  remove(client: Client): void {
    client.closed = true;
    this.#membership.remove(client);
    this.#catchUp.forget(client);
  }

  /** Resolves when output of every target reaches clients that watch everything. */
  get everythingReady(): Promise<void> {
    return this.#tail.followAll();
  }

  /** The same if somebody watches everything and it has yet to begin to work; else null. */
  get everythingReadyIfWatched(): Promise<void> | null {
    return this.#membership.everything.size > 0 && !this.#tail.hearsAll ? this.#tail.followAll() : null;
  }

  /** Makes the client a watcher of everything, from now on. Await {@link everythingReady} to know that it works. */
  watchEverything(client: Client, how: 'implicit' | 'explicit'): void {
    if (client.everything === 'no') {
      this.#gathering.flushFor(client);
      this.#membership.watchEverything(client, how);
      this.#sweep.allUsed();
      void this.#tail.followAll();
    } else if (how === 'explicit') {
      client.everything = how;
    }
  }

  unwatchEverything(client: Client): void {
    if (client.everything === 'no') return;
    this.#gathering.flushFor(client);
    this.#membership.unwatchEverything(client);
    if (client.behind)
      for (const feed of client.behind.keys()) if (!client.feeds?.has(feed)) client.behind.delete(feed);
  }

  /** Makes a client a member of a feed. With `after`, it first gets what the log has after that offset. */
  join(client: Client, feed: Feed, after?: number): void {
    this.#gathering.flushOf(feed);
    this.#membership.join(client, feed);
    if (after !== undefined) this.replay(client, feed, after);
  }

  leave(client: Client, feed: Feed): void {
    this.#membership.leave(client, feed);
    if (client.everything === 'no') client.behind?.delete(feed);
  }

  /** Adds a pattern: the client joins matching feeds, present and future. */
  async addPattern(client: Client, pattern: string, matches: (target: string) => boolean): Promise<void> {
    this.#membership.addPattern(client, pattern, matches);
    this.#sweep.allUsed();
    for (const feed of this.#feeds.all()) if (matches(feed.target)) this.join(client, feed);
    await this.#tail.followAll();
  }

  removePattern(client: Client, pattern: string): void {
    if (!this.#membership.removePattern(client, pattern)) return;
    for (const feed of client.feeds ?? []) if (!client.wants(feed.target)) this.leave(client, feed);
  }

  // --- what a client is sent, and when ---------------------------------------------------------------------------

  /** Sends all that gathers now. */
  flush(): void {
    this.#gathering.flush();
  }

  /** Sends a client what gathers for it. False if it is behind all the same: more is to come when its socket drains. */
  finish(client: Client): boolean {
    this.#gathering.flushFor(client);
    return !client.isBehind;
  }

  /** Sends a client, which watches the feed, what the log has after an offset, before what comes live. */
  replay(client: Client, feed: Feed, after: number): void {
    if (after >= client.sentOffset(feed)) return;
    client.fallBehind(feed, after);
    this.#catchUp.remember(client);
    this.#resume(client);
  }

  /** The socket has given bytes to the kernel. */
  drained(client: Client): void {
    client.drained();
    this.#resume(client);
  }

  /** Holds a client's output back until {@link release}: what comes meanwhile it is behind on. */
  hold(client: Client): void {
    this.#gathering.flushFor(client);
    client.held = true;
  }

  release(client: Client): void {
    client.held = false;
    this.#resume(client);
  }

  #resume(client: Client): void {
    if (client.flows && client.isBehind) this.#catchUp.run(client);
  }

  /** Changes how the client's output is written, from the next line on. */
  setEncoding(client: Client, encoding: Encoding): void {
    this.#gathering.flushFor(client);
    client.encoding = encoding;
  }
}
