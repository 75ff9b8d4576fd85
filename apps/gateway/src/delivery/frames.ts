/**
 * Entries to frames. A frame is made once for each encoding in use, then sent to each client with that encoding.
 */
import type { PlacedEntry } from '@carrierarr/protocol';
import { ENCODINGS, type Encoding, writePlaced } from './encode.js';
import { FrameBuffer } from './frame-buffer.js';

/** Memory for the frames of one {@link FrameSet} at a time: a buffer for each encoding in use. */
export class FrameMemory {
  readonly #buffers = new Map<Encoding, FrameBuffer>();

  buffer(encoding: Encoding): FrameBuffer {
    let buffer = this.#buffers.get(encoding);
    if (buffer === undefined) this.#buffers.set(encoding, (buffer = new FrameBuffer()));
    return buffer;
  }
}

/** The frames of one flush, each made at the first client that needs it. Valid until the next set with its memory. */
export class FrameSet {
  readonly #entries: readonly PlacedEntry[];
  readonly #memory: FrameMemory;
  readonly #made: (Buffer | null | undefined)[] = [undefined, undefined, undefined];
  /** Lines and events in each frame. */
  readonly lines: number;
  /** Frames and bytes sent so far, for metrics: counted here, once a flush, not once a client. */
  sent = 0;
  sentBytes = 0;

  constructor(entries: readonly PlacedEntry[], memory: FrameMemory) {
    this.#entries = entries;
    this.#memory = memory;
    let lines = 0;
    for (const { count } of entries) lines += count;
    this.lines = lines;
  }

  /** The frame in an encoding; null if none of the entries says anything in it. */
  frame(encoding: Encoding): Buffer | null {
    const index = ENCODINGS.indexOf(encoding);
    let frame = this.#made[index];
    if (frame === undefined) {
      const buffer = this.#memory.buffer(encoding);
      buffer.clear();
      for (const placed of this.#entries) writePlaced(buffer, placed, 0, encoding);
      frame = buffer.length === 0 ? null : buffer.frame;
      this.#made[index] = frame;
    }
    return frame;
  }
}
