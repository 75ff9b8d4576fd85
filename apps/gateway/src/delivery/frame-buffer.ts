/**
 * Memory in which frames are made, used again for the next one: what is sent is copied by the socket at once, and a
 * new buffer for each frame of a busy target (a hundred kilobytes, many times a second) would cost more than filling it.
 */

const SIZE_MIN = 64 * 1024;
/** Memory kept between frames, at most. */
const SIZE_KEPT_MAX = 4 * 1024 * 1024;
const NEWLINE = 10;
const NOTHING = Buffer.alloc(0);

export class FrameBuffer {
  #bytes = Buffer.allocUnsafeSlow(SIZE_MIN);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Forgets the frame. What {@link frame} returned is overwritten by the next one. */
  clear(): void {
    this.#length = 0;
    if (this.#bytes.length > SIZE_KEPT_MAX) this.#bytes = Buffer.allocUnsafeSlow(SIZE_MIN);
  }

  /** What was written, in place. */
  get frame(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  /** Adds a message, or several; a line break separates them from what is there. Adds nothing for ''. */
  message(text: string): void {
    if (text === '') return;
    // A UTF-16 unit has at most three bytes.
    this.#reserve(text.length * 3 + 1);
    this.#break();
    this.#length += this.#bytes.write(text, this.#length, 'utf8');
  }

  /**
   * Adds messages for many lines: `head`, the lines with `separator` in place of each line break, `tail`. `body` is
   * `lines` lines joined by `\n` that need no escaping. Works on bytes: no line becomes a string.
   */
  lines(head: string, body: Buffer, lines: number, separator: string, tail: string): void {
    const between = lines > 1 ? Buffer.from(separator) : NOTHING;
    this.#reserve((head.length + tail.length) * 3 + body.length + lines * between.length + 1);
    this.#break();
    const bytes = this.#bytes;
    let length = this.#length + bytes.write(head, this.#length, 'utf8');
    let at = 0;
    for (let end = body.indexOf(NEWLINE); end >= 0; end = body.indexOf(NEWLINE, at)) {
      length += body.copy(bytes, length, at, end);
      length += between.copy(bytes, length);
      at = end + 1;
    }
    length += body.copy(bytes, length, at);
    this.#length = length + bytes.write(tail, length, 'utf8');
  }

  #break(): void {
    if (this.#length === 0) return;
    this.#bytes[this.#length] = NEWLINE;
    this.#length += 1;
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#bytes.length * 2));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }
}
