/**
 * One subscriber as the delivery sees it: a cursor over the logs of the targets it watches.
 *
 * A client that keeps up has no cursor at all: it gets each frame as it is made. A client is *behind* on a target
 * from when a frame for it had to be left out (its socket was full, or it asked for older output) until it has been
 * sent all up to where the others are; meanwhile its cursor is the last offset it was sent. So what a slow client
 * costs is a number for each target that has news, however much it misses.
 */
import type { Encoding } from './encode.js';
import type { Feed } from './feed.js';

/** The socket below a client. */
export interface ClientSocket {
  /** Sends or queues a text frame. Returns false once `bufferedBytes` should be looked at. Never throws. */
  send(frame: Buffer): boolean;
  /** Bytes queued in this process and not yet given to the kernel. */
  bufferedBytes(): number;
}

export class Client {
  encoding: Encoding = 'plain';
  /** Watches every target. `implicit`: because it is new and has not subscribed to anything. */
  everything: 'implicit' | 'explicit' | 'no' = 'no';
  /** Feeds of targets it named or that match a pattern of its. Null until there are any: most clients have none. */
  feeds: Set<Feed> | null = null;
  /** Target names subscribed to, and patterns. */
  exact: Set<string> | null = null;
  patterns: Map<string, (target: string) => boolean> | null = null;
  /** Cursors of the feeds it is behind on: last offset sent. */
  behind: Map<Feed, number> | null = null;
  /** Its socket holds more bytes than its bound: no output is sent until it drains. */
  congested = false;
  /** Output is held back while it is found out where the client's output begins. */
  held = false;
  /** A catch-up of this client is under way. */
  catchingUp = false;
  closed = false;

  /** `bufferBytesMax`: bytes queued in the socket beyond which the client is left out until it drains. */
  constructor(
    readonly socket: ClientSocket,
    readonly bufferBytesMax: number,
  ) {}

  /** True if frames go to it as they are made. */
  get flows(): boolean {
    return !this.congested && !this.held;
  }

  /** True if it is behind on anything. */
  get isBehind(): boolean {
    return this.behind !== null && this.behind.size > 0;
  }

  /** Sends a frame, and sees whether its socket is full by that. */
  send(frame: Buffer): void {
    if (!this.socket.send(frame) && this.socket.bufferedBytes() > this.bufferBytesMax) this.congested = true;
  }

  /** Its socket has given bytes to the kernel. */
  drained(): void {
    if (this.congested && this.socket.bufferedBytes() <= this.bufferBytesMax / 2) this.congested = false;
  }

  /** True if it named the target, or one of its patterns matches it. */
  wants(target: string): boolean {
    if (this.exact?.has(target)) return true;
    if (this.patterns) for (const matches of this.patterns.values()) if (matches(target)) return true;
    return false;
  }

  /** Where its frames of a feed end now: as a member of everything, or of the feed. */
  sentOffset(feed: Feed): number {
    return this.everything === 'no' ? feed.sentToMembers : feed.sentToEverything;
  }

  /** Marks it as behind on a feed from after `offset`, unless it is behind from earlier. */
  fallBehind(feed: Feed, offset: number): void {
    this.behind ??= new Map();
    const since = this.behind.get(feed);
    if (since === undefined || offset < since) this.behind.set(feed, offset);
  }
}
