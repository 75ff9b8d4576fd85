/**
 * From the logs to the clients.
 *
 * `LogTail` hands on each target's entries in order and without holes. Here they go into frames: the first entry
 * after a quiet time goes out at once; while a feed is busy, entries gather for a window of 16 ms, for the number of
 * sends is what a busy fan-out costs. A client whose socket is full is left out and catches up from memory or from
 * the log when it drains (`catch-up.ts`), so it holds up nobody, costs nothing and misses nothing.
 *
 * Clients that watch everything share one stream of frames with the entries of all targets; the others are members
 * of the feeds they watch.
 */
import type { Clock, Timer } from '@carrierarr/platform';
import type { PlacedEntry } from '@carrierarr/protocol';
import { CatchUp, type CatchUpOptions } from './catch-up.js';
import { Client, type ClientSocket } from './client.js';
import { type Encoding, encodeGap, type Gap, timestampOf } from './encode.js';
import { Feed } from './feed.js';
import { FrameMemory, FrameSet } from './frames.js';
import type { LogTail, TailListener } from './log-tail.js';
import { RecentEntries } from './recent-entries.js';

/** How long entries of a busy feed gather, ms. */
const WINDOW_MS = 16;
/** Body bytes that end the gathering early: beyond this the bytes cost more than the sends. */
const FRAME_BYTES = 16 * 1024;
/** How long the gateway listens on after the last client that needs it, ms: clients often come back. */
const LINGER_MS = 30_000;
const SWEEP_INTERVAL_MS = 10_000;

export interface FanoutMetrics {
  delivered(lines: number, frames: number, bytes: number): void;
  fellBehind(): void;
  caughtUp(): void;
  gap(): void;
}

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

export class Fanout implements TailListener {
  readonly #o: FanoutOptions;
  readonly #tail: LogTail;
  readonly #feeds = new Map<string, Feed>();
  readonly #recent: RecentEntries;
  readonly #catchUp: CatchUp;
  /** Clients that watch everything. */
  readonly #everything = new Set<Client>();
  /** Clients with patterns: asked when a new target appears. */
  readonly #patterned = new Set<Client>();
  #pending: { feed: Feed; placed: PlacedEntry }[] = [];
  readonly #frameMemory = new FrameMemory();
  /** For frames of what is left for one client that is behind on some feeds, while the others' frames are in use. */
  readonly #restMemory = new FrameMemory();
  #pendingBytes = 0;
  #flushedMs = Number.NEGATIVE_INFINITY;
  #window: Timer | undefined;
  #sweep: Timer | undefined;
  #allUnusedSinceMs: number | undefined;

  constructor(options: FanoutOptions) {
    this.#o = options;
    this.#tail = options.tail(this);
    this.#recent = new RecentEntries(options.recentBytesMax);
    this.#catchUp = new CatchUp({ ...options, isCongested: (client) => this.#isCongested(client) });
  }

  async start(): Promise<void> {
    await this.#tail.start();
    this.#sweep = this.#o.clock.setInterval(() => this.#forgetUnused(), SWEEP_INTERVAL_MS);
  }

  /** Sends what gathers, and stops. */
  stop(): void {
    this.#sweep?.cancel();
    this.flush();
    this.#tail.stop();
  }

  get feedCount(): number {
    return this.#feeds.size;
  }
  get recentBytes(): number {
    return this.#recent.bytes;
  }
  get channelCount(): number {
    return this.#tail.channelCount;
  }
  get behindCount(): number {
    return this.#catchUp.size;
  }

  // --- clients ---------------------------------------------------------------------------------------------------

  /** A new client; it watches nothing yet. */
  add(socket: ClientSocket): Client {
    return new Client(socket);
  }

  remove(client: Client): void {
    client.closed = true;
    this.#everything.delete(client);
    this.#patterned.delete(client);
    if (client.feeds) for (const feed of client.feeds) feed.members.delete(client);
    this.#catchUp.forget(client);
  }

  /** Resolves when output of every target reaches clients that watch everything. */
  get everythingReady(): Promise<void> {
    return this.#tail.followAll();
  }

  /** The same if somebody watches everything and it has yet to begin to work; else null. */
  get everythingReadyIfWatched(): Promise<void> | null {
    return this.#everything.size > 0 && !this.#tail.hearsAll ? this.#tail.followAll() : null;
  }

  /** Makes the client a watcher of everything, from now on. Await {@link everythingReady} to know that it works. */
  watchEverything(client: Client, how: 'implicit' | 'explicit'): void {
    if (client.everything === 'no') {
      this.flush();
      for (const feed of client.feeds ?? []) feed.members.delete(client);
      client.everything = how;
      this.#everything.add(client);
      this.#allUnusedSinceMs = undefined;
      void this.#tail.followAll();
    } else if (how === 'explicit') {
      client.everything = how;
    }
  }

  unwatchEverything(client: Client): void {
    if (client.everything === 'no') return;
    this.flush();
    client.everything = 'no';
    this.#everything.delete(client);
    if (client.behind)
      for (const feed of client.behind.keys()) if (!client.feeds?.has(feed)) client.behind.delete(feed);
    for (const feed of client.feeds ?? []) feed.members.add(client);
  }

  /** The feed of a target, followed from now at the latest. */
  async feed(target: string): Promise<Feed> {
    const known = this.#feeds.get(target);
    const place = this.#tail.place(target);
    if (known !== undefined && place !== undefined) {
      known.activeMs = this.#o.clock.monotonicMs();
      return known;
    }
    const feed = known ?? this.#newFeed(target);
    // A watcher keeps it from being forgotten while the log is looked at.
    const hold = () => undefined;
    feed.watchers.add(hold);
    try {
      await this.#tail.follow(target);
      feed.activeMs = this.#o.clock.monotonicMs();
      return feed;
    } finally {
      feed.watchers.delete(hold);
    }
  }

  /** Keeps a feed from being forgotten until the returned function is called. */
  keep(feed: Feed): () => void {
    const hold = () => undefined;
    feed.watchers.add(hold);
    return () => void feed.watchers.delete(hold);
  }

  /** Makes a client a member of a feed. With `after`, it first gets what the log has after that offset. */
  join(client: Client, feed: Feed, after?: number): void {
    this.#flushFeed(feed);
    this.flushEverything();
    client.feeds ??= new Set();
    client.feeds.add(feed);
    if (client.everything === 'no') feed.members.add(client);
    if (after !== undefined) this.replay(client, feed, after);
  }

  /** Sends a client, which watches the feed, what the log has after an offset, before what comes live. */
  replay(client: Client, feed: Feed, after: number): void {
    if (after >= client.sentOffset(feed)) return;
    client.fallBehind(feed, after);
    this.#catchUp.remember(client);
    this.#resume(client);
  }

  leave(client: Client, feed: Feed): void {
    client.feeds?.delete(feed);
    feed.members.delete(client);
    if (client.everything === 'no') client.behind?.delete(feed);
  }

  /** Adds a pattern: the client joins matching feeds, present and future. */
  async addPattern(client: Client, pattern: string, matches: (target: string) => boolean): Promise<void> {
    client.patterns ??= new Map();
    client.patterns.set(pattern, matches);
    this.#patterned.add(client);
    this.#allUnusedSinceMs = undefined;
    for (const feed of this.#feeds.values()) if (matches(feed.target)) this.join(client, feed);
    await this.#tail.followAll();
  }

  removePattern(client: Client, pattern: string): void {
    if (!client.patterns?.delete(pattern)) return;
    if (client.patterns.size === 0) this.#patterned.delete(client);
    for (const feed of client.feeds ?? []) if (!this.#matches(client, feed.target)) this.leave(client, feed);
  }

  #matches(client: Client, target: string): boolean {
    if (client.exact?.has(target)) return true;
    if (client.patterns) for (const matches of client.patterns.values()) if (matches(target)) return true;
    return false;
  }

  /** The socket has given bytes to the kernel. */
  drained(client: Client): void {
    if (client.congested && client.socket.bufferedBytes() <= this.#o.clientBufferBytes / 2) client.congested = false;
    this.#resume(client);
  }

  /** Holds a client's output back until {@link release}: what comes meanwhile it is behind on. */
  hold(client: Client): void {
    this.flush();
    client.held = true;
  }

  release(client: Client): void {
    client.held = false;
    this.#resume(client);
  }

  #resume(client: Client): void {
    if (client.flows && client.behind !== null && client.behind.size > 0) this.#catchUp.run(client);
  }

  /** Changes how the client's output is written, from the next line on. */
  setEncoding(client: Client, encoding: Encoding): void {
    this.flush();
    client.encoding = encoding;
  }

  /** Calls `onChange` after each change of a target's log, until the returned function is called. */
  wakeOn(target: string, onChange: () => void): () => void {
    const feed = this.#feeds.get(target) ?? this.#newFeed(target);
    feed.watchers.add(onChange);
    this.#tail.follow(target).then(onChange, (error: unknown) => this.#o.onError(error, target));
    return () => feed.watchers.delete(onChange);
  }

  /** Reads a target's log again where this gateway may be late, before it judges a client's position. */
  async refresh(target: string): Promise<void> {
    await this.#tail.refresh(target);
  }

  // --- from the tail ---------------------------------------------------------------------------------------------

  entry(placed: PlacedEntry): void {
    const feed = this.#feeds.get(placed.target);
    if (feed === undefined) return;
    feed.epoch = placed.epoch;
    feed.last = placed.last;
    const nowMs = this.#o.clock.monotonicMs();
    feed.activeMs = nowMs;
    this.#recent.remember(feed, placed);
    const size = placed.entry.kind === 'lines' ? placed.entry.body.length : 200;
    if (feed.members.size === 0) {
      feed.sentToMembers = placed.last;
    } else {
      feed.pending.push(placed);
      feed.pendingBytes += size;
      const leftMs = feed.flushedMs + WINDOW_MS - nowMs;
      if (leftMs <= 0 || feed.pendingBytes >= FRAME_BYTES) this.#flushFeed(feed);
      else feed.window ??= this.#o.clock.setTimeout(() => this.#flushFeed(feed), leftMs);
    }
    if (this.#everything.size === 0) {
      feed.sentToEverything = placed.last;
    } else {
      this.#pending.push({ feed, placed });
      this.#pendingBytes += size;
      const leftMs = this.#flushedMs + WINDOW_MS - nowMs;
      if (leftMs <= 0 || this.#pendingBytes >= FRAME_BYTES) this.flushEverything();
      else this.#window ??= this.#o.clock.setTimeout(() => this.flushEverything(), leftMs);
    }
    for (const watcher of feed.watchers) watcher();
  }

  gap(gap: Gap): void {
    const feed = this.#feeds.get(gap.target);
    if (feed === undefined) return;
    this.#flushFeed(feed);
    this.flushEverything();
    this.#recent.forget(feed);
    this.#place(feed, gap.epoch, gap.to);
    const timestamp = timestampOf(this.#o.clock.now());
    for (const client of [...feed.members, ...this.#everything]) {
      // Whoever was behind has lost the same and more; the catch-up says what exactly.
      if (client.behind?.has(feed)) {
        if (gap.reason === 'epoch') client.behind.set(feed, gap.to);
        else continue;
      }
      this.#o.metrics.gap();
      this.#send(client, Buffer.from(encodeGap(gap, timestamp, client.encoding)));
    }
    for (const watcher of feed.watchers) watcher();
  }

  placed(target: string, epoch: string, last: number): void {
    const feed = this.#feeds.get(target);
    if (feed === undefined) return;
    this.#recent.forget(feed);
    this.#place(feed, epoch, last);
  }

  discovered(target: string, epoch: string, after: number): boolean {
    if (this.#everything.size === 0 && this.#patterned.size === 0 && !this.#feeds.has(target)) return false;
    const feed = this.#feeds.get(target) ?? this.#newFeed(target);
    this.#place(feed, epoch, after);
    for (const client of this.#patterned) if (this.#matches(client, target)) this.join(client, feed);
    return true;
  }

  #newFeed(target: string): Feed {
    const feed = new Feed(target);
    feed.activeMs = this.#o.clock.monotonicMs();
    this.#feeds.set(target, feed);
    return feed;
  }

  #place(feed: Feed, epoch: string, last: number): void {
    feed.epoch = epoch;
    feed.last = last;
    feed.sentToMembers = last;
    feed.sentToEverything = last;
  }

  // --- frames ----------------------------------------------------------------------------------------------------

  /** Sends all that gathers now. */
  flush(): void {
    for (const feed of this.#feeds.values()) if (feed.pending.length > 0) this.#flushFeed(feed);
    this.flushEverything();
  }

  #flushFeed(feed: Feed): void {
    feed.window?.cancel();
    feed.window = undefined;
    if (feed.pending.length === 0) return;
    // The window begins before the frame goes out: sending to a thousand clients takes milliseconds, and a window that
    // began after them would make lines wait that come further apart than a window.
    feed.flushedMs = this.#o.clock.monotonicMs();
    const frames = new FrameSet(feed.pending, this.#frameMemory);
    feed.pending = [];
    feed.pendingBytes = 0;
    const before = feed.sentToMembers;
    feed.sentToMembers = feed.last;
    for (const client of feed.members) {
      if (client.behind?.has(feed)) continue;
      if (client.flows) this.#sendFrame(client, frames);
      else this.#leaveOut(client, feed, before);
    }
    this.#count(frames);
  }

  flushEverything(): void {
    this.#window?.cancel();
    this.#window = undefined;
    if (this.#pending.length === 0) return;
    this.#flushedMs = this.#o.clock.monotonicMs();
    const pending = this.#pending;
    this.#pending = [];
    this.#pendingBytes = 0;
    const before = new Map<Feed, number>();
    for (const { feed, placed } of pending) {
      if (!before.has(feed)) before.set(feed, feed.sentToEverything);
      feed.sentToEverything = placed.last;
    }
    const entries = pending.map(({ placed }) => placed);
    const frames = new FrameSet(entries, this.#frameMemory);
    for (const client of this.#everything) {
      if (!client.flows) {
        for (const [feed, offset] of before) if (!client.behind?.has(feed)) this.#leaveOut(client, feed, offset);
      } else if (client.behind === null || client.behind.size === 0) {
        this.#sendFrame(client, frames);
      } else {
        const rest = pending.filter(({ feed }) => !client.behind?.has(feed));
        if (rest.length === 0) continue;
        const own = new FrameSet(
          rest.map(({ placed }) => placed),
          this.#restMemory,
        );
        this.#sendFrame(client, own);
        this.#count(own);
      }
    }
    this.#count(frames);
  }

  #leaveOut(client: Client, feed: Feed, offset: number): void {
    if (client.behind === null || client.behind.size === 0) this.#o.metrics.fellBehind();
    client.fallBehind(feed, offset);
    this.#catchUp.remember(client);
  }

  #sendFrame(client: Client, frames: FrameSet): void {
    const frame = frames.frame(client.encoding);
    if (frame === null) return;
    frames.sent += 1;
    frames.sentBytes += frame.length;
    this.#send(client, frame);
  }

  #count({ lines, sent, sentBytes }: FrameSet): void {
    if (sent > 0) this.#o.metrics.delivered(lines * sent, sent, sentBytes);
  }

  #send(client: Client, frame: Buffer): void {
    if (!client.socket.send(frame)) this.#isCongested(client);
  }

  #isCongested(client: Client): boolean {
    if (client.socket.bufferedBytes() > this.#o.clientBufferBytes) client.congested = true;
    return client.congested;
  }

  // --- what is not needed any more -------------------------------------------------------------------------------

  #forgetUnused(): void {
    const now = this.#o.clock.monotonicMs();
    const all = this.#everything.size > 0 || this.#patterned.size > 0;
    for (const feed of this.#feeds.values()) {
      if (feed.wanted || now - feed.activeMs < LINGER_MS || this.#catchUp.uses(feed)) continue;
      this.#recent.forget(feed);
      this.#feeds.delete(feed.target);
      void this.#tail.unfollow(feed.target);
    }
    if (all) {
      this.#allUnusedSinceMs = undefined;
      return;
    }
    this.#allUnusedSinceMs ??= now;
    if (now - this.#allUnusedSinceMs >= LINGER_MS) {
      this.#tail.leaveAll().catch((error: unknown) => this.#o.onError(error, '*'));
    }
  }
}
