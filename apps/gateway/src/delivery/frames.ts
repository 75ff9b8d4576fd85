/**
 * Entries to frames. A frame is made once for each encoding in use, then sent to each client with that encoding.
 */
import { ENCODINGS, encodePlaced, type Encoding } from './encode.js';
import type { PendingEntry } from './feed.js';

/** Makes the frames of one flush, each at the first client that needs it. */
export class FrameSet {
  readonly #pending: readonly PendingEntry[];
  readonly #frames: (Buffer | null | undefined)[] = [];
  /** Lines and events in each frame. */
  readonly lines: number;
  /** Frames and bytes sent so far, for metrics: counted here, once a flush, not once a client. */
  sent = 0;
  sentBytes = 0;

  constructor(pending: readonly PendingEntry[]) {
    this.#pending = pending;
    this.lines = pending.reduce((sum, { placed }) => sum + placed.count, 0);
  }

  /** The frame in an encoding; null if none of the entries says anything in it. */
  frame(encoding: Encoding): Buffer | null {
    const index = ENCODINGS.indexOf(encoding);
    let frame = this.#frames[index];
    if (frame === undefined) {
      const texts: string[] = [];
      for (const entry of this.#pending) {
        const text = (entry.texts[index] ??= encodePlaced(entry.placed, 0, encoding));
        if (text !== '') texts.push(text);
      }
      frame = texts.length === 0 ? null : Buffer.from(texts.length === 1 ? (texts[0] as string) : texts.join('\n'));
      this.#frames[index] = frame;
    }
    return frame;
  }
}
