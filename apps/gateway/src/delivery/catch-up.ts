/**
 * Clients that are behind, brought up to the others: from the entries in memory if they reach back far enough,
 * else from the log, a page at a time, no faster than the client's socket takes it.
 *
 * A catch-up of a feed ends where the frames of the others end (`client.sentOffset`); the next frame then follows
 * without a hole or an overlap, because both happen in one turn of the event loop.
 */
import { type Clock, sleep } from '@carrierarr/platform';
import type { PlacedEntry } from '@carrierarr/protocol';
import type { LogPage } from '@carrierarr/store';
import type { Client } from './client.js';
import { encodeGap, timestampOf, writePlaced } from './encode.js';
import { FrameBuffer } from './frame-buffer.js';
import type { Feed } from './feed.js';

export interface CatchUpMetrics {
  delivered(lines: number, frames: number, bytes: number): void;
  caughtUp(): void;
  gap(): void;
}

export interface CatchUpOptions {
  clock: Clock;
  metrics: CatchUpMetrics;
  /** Reads a page of a target's log after an offset. */
  readPage(target: string, after: number, epoch: string): Promise<LogPage>;
  /** Nobody is behind any more: pages kept for those who were can go. */
  allCaughtUp?: (() => void) | undefined;
  onError(error: unknown, target: string): void;
}

/** Bytes sent to one client before others get a turn. */
const TURN_BYTES = 256 * 1024;
const RETRY_MS = 500;

export class CatchUp {
  readonly #o: CatchUpOptions;
  readonly #frame = new FrameBuffer();
  /** Clients that are behind. */
  readonly #clients = new Set<Client>();

  constructor(options: CatchUpOptions) {
    this.#o = options;
  }

  /** Number of clients that are behind. */
  get size(): number {
    return this.#clients.size;
  }

  remember(client: Client): void {
    this.#clients.add(client);
  }

  forget(client: Client): void {
    client.behind = null;
    if (this.#clients.delete(client) && this.#clients.size === 0) this.#o.allCaughtUp?.();
  }

  /** True if a client is behind on the feed. */
  uses(feed: Feed): boolean {
    for (const client of this.#clients) if (client.behind?.has(feed)) return true;
    return false;
  }

  /** Sends the client what it misses, as far as its socket takes it now; call again when it drains. */
  run(client: Client): void {
    this.#clients.add(client);
    if (client.catchingUp) return;
    client.catchingUp = true;
    void this.#turns(client).finally(() => {
      client.catchingUp = false;
      if (client.isBehind) {
        // It may have drained, or fallen behind on something else, in the last moment.
        if (client.flows && !client.closed) this.run(client);
      } else {
        this.forget(client);
        if (!client.closed) this.#o.metrics.caughtUp();
      }
    });
  }

  async #turns(client: Client): Promise<void> {
    while (!client.closed && client.flows && client.behind !== null) {
      const next = client.behind.entries().next();
      if (next.done) return;
      const [feed, after] = next.value;
      await this.#turn(client, feed, after);
      // Others, and the sockets, get their turn.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Sends one part of what a client misses of one feed. */
  async #turn(client: Client, feed: Feed, after: number): Promise<void> {
    if (after >= client.sentOffset(feed)) {
      client.behind?.delete(feed);
      return;
    }
    const epoch = feed.epoch;
    let entries = feed.after(after);
    if (entries === undefined) {
      let page: LogPage;
      try {
        page = await this.#o.readPage(feed.target, after, epoch);
      } catch (error) {
        this.#o.onError(error, feed.target);
        await sleep(this.#o.clock, RETRY_MS);
        return;
      }
      // The feed may have lost its epoch, or the client its interest, while the page was read.
      if (client.closed || client.behind?.get(feed) !== after || feed.epoch !== epoch) return;
      if (page.epoch !== epoch) {
        // The log began anew and the tail has yet to notice: it will say so to this client.
        await sleep(this.#o.clock, RETRY_MS);
        return;
      }
      entries = page.entries;
      if (entries.length === 0) {
        // Nothing is kept after `after`, though the others were sent more: it was trimmed away.
        this.#skip(client, feed, after, client.sentOffset(feed));
        return;
      }
    }
    this.#sendEntries(client, feed, after, entries);
  }

  #sendEntries(client: Client, feed: Feed, after: number, entries: readonly PlacedEntry[]): void {
    const end = client.sentOffset(feed);
    const out = this.#frame;
    out.clear();
    let lines = 0;
    let at = after;
    for (const placed of entries) {
      if (placed.last <= at) continue;
      // Frames on their way to the others have the rest.
      if (placed.last > end) break;
      const first = placed.last - placed.count + 1;
      if (first > at + 1) {
        this.#o.metrics.gap();
        out.message(this.#gapText(client, feed, at + 1, first - 1));
      }
      writePlaced(out, placed, at, client.encoding);
      lines += placed.last - Math.max(at, first - 1);
      at = placed.last;
      if (out.length >= TURN_BYTES) break;
    }
    if (at === after) {
      // All that is kept lies beyond the end of this catch-up.
      this.#skip(client, feed, after, end);
      return;
    }
    client.behind?.set(feed, at);
    if (at >= end) client.behind?.delete(feed);
    if (out.length === 0) return;
    this.#o.metrics.delivered(lines, 1, out.length);
    client.send(out.frame);
  }

  #skip(client: Client, feed: Feed, after: number, to: number): void {
    client.behind?.delete(feed);
    if (to <= after) return;
    this.#o.metrics.gap();
    client.socket.send(Buffer.from(this.#gapText(client, feed, after + 1, to)));
  }

  #gapText(client: Client, feed: Feed, from: number, to: number): string {
    const gap = { target: feed.target, epoch: feed.epoch, from, to, reason: 'trimmed' } as const;
    return encodeGap(gap, timestampOf(this.#o.clock.now()), client.encoding);
  }
}
