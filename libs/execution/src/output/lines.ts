/**
 * Bytes of a script to lines, whole chunks at a time.
 *
 * A line is never touched by itself unless it must be: the complete lines of a chunk leave as one block of bytes joined
 * by `\n` with a count. Only what is rare costs per byte or per line: `\r\n`, invalid UTF-8, secrets, lines above the
 * bound. Blocks leave in the order in which their last byte arrived, over both streams.
 *
 * `\n` and `\r\n` end a line, a bare `\r` does not (progress bars). Invalid UTF-8 becomes U+FFFD. A line above the bound
 * is cut at a character and marked with ` …[truncated N bytes]`; what follows of it is counted, not kept.
 */
import { isUtf8 } from 'node:buffer';
import type { StreamLetter } from '@carrierarr/protocol';
import { countNewlines } from './count-newlines.js';
import type { Redactor } from './redact.js';

/** Complete lines of one stream. */
export interface LineBlock {
  stream: StreamLetter;
  /** Number of lines, at least 1. */
  lines: number;
  /** The lines joined by `\n`, without a final one; valid UTF-8. */
  body: Buffer;
  /** Lines that were cut. */
  cut: number;
  /** Secrets that were replaced. */
  redactions: number;
}

export interface LineSplitterOptions {
  /** Longest line, in bytes of UTF-8, its mark not counted. */
  lineBytesMax: number;
  redactor: Redactor;
  emit: (block: LineBlock) => void;
}

const NEWLINE = 10;
const RETURN = 13;
/** A buffer above this is not kept for the next unfinished line. */
const TAIL_KEPT_BYTES = 64 * 1024;

/** The unfinished line of one stream: its first bytes up to a bound, and how many there were. */
class Tail {
  #buffer = Buffer.alloc(256);
  #kept = 0;
  total = 0;
  last = 0;

  constructor(readonly keptMax: number) {}

  add(bytes: Buffer): void {
    if (bytes.length === 0) return;
    this.total += bytes.length;
    this.last = bytes[bytes.length - 1] as number;
    const room = Math.min(bytes.length, this.keptMax - this.#kept);
    if (room <= 0) return;
    if (this.#kept + room > this.#buffer.length) {
      const grown = Buffer.allocUnsafe(Math.min(this.keptMax, Math.max(this.#buffer.length * 2, this.#kept + room)));
      this.#buffer.copy(grown, 0, 0, this.#kept);
      this.#buffer = grown;
    }
    bytes.copy(this.#buffer, this.#kept, 0, room);
    this.#kept += room;
  }

  /** The kept bytes, as memory of their own, and an empty tail. */
  take(): Buffer {
    const bytes = Buffer.from(this.#buffer.subarray(0, this.#kept));
    if (this.#buffer.length > TAIL_KEPT_BYTES) this.#buffer = Buffer.alloc(256);
    this.#kept = 0;
    this.total = 0;
    return bytes;
  }
}

export class LineSplitter {
  readonly #o: LineSplitterOptions;
  /** Kept beyond the bound: a secret that begins before the cut is seen whole. */
  readonly #marginBytes: number;
  readonly #tails = new Map<StreamLetter, Tail>();

  constructor(options: LineSplitterOptions) {
    this.#o = options;
    this.#marginBytes = options.redactor.longestBytes + 4;
  }

  /** Takes the next bytes of a stream and emits the lines they complete. Keeps no reference to `chunk` after emit. */
  feed(stream: StreamLetter, chunk: Buffer): void {
    const tail = this.#tail(stream);
    const last = chunk.lastIndexOf(NEWLINE);
    if (last < 0) {
      tail.add(chunk);
      return;
    }
    let from = 0;
    if (tail.total > 0) {
      const first = chunk.indexOf(NEWLINE);
      tail.add(chunk.subarray(0, first));
      this.#emitTail(stream, tail, true);
      from = first + 1;
    }
    if (from <= last) this.#emitBlock(stream, chunk.subarray(from, last));
    tail.add(chunk.subarray(last + 1));
  }

  /** The stream has ended: an unfinished line counts as one. */
  end(stream: StreamLetter): void {
    const tail = this.#tail(stream);
    if (tail.total > 0) this.#emitTail(stream, tail, false);
  }

  #tail(stream: StreamLetter): Tail {
    let tail = this.#tails.get(stream);
    if (tail === undefined) {
      tail = new Tail(this.#o.lineBytesMax + this.#marginBytes);
      this.#tails.set(stream, tail);
    }
    return tail;
  }

  #emitTail(stream: StreamLetter, tail: Tail, isTerminated: boolean): void {
    const total = tail.total - (isTerminated && tail.last === RETURN ? 1 : 0);
    const kept = tail.take();
    const line = repaired(kept.length > total ? kept.subarray(0, total) : kept);
    const { body, count } = this.#o.redactor.redact(line);
    const swallowed = total - Math.min(kept.length, total);
    if (swallowed === 0 && body.length <= this.#o.lineBytesMax) {
      this.#o.emit({ stream, lines: 1, body, cut: 0, redactions: count });
      return;
    }
    // The end of what was kept may hold the first half of a secret.
    const bytesMax =
      swallowed === 0 ? this.#o.lineBytesMax : Math.min(this.#o.lineBytesMax, body.length - this.#marginBytes);
    this.#o.emit({ stream, lines: 1, body: cutLine(body, bytesMax, swallowed), cut: 1, redactions: count });
  }

  #emitBlock(stream: StreamLetter, raw: Buffer): void {
    const unreturned = raw.includes(RETURN) ? withoutReturns(raw) : raw;
    const { body, count } = this.#o.redactor.redact(repaired(unreturned));
    const { lineBytesMax } = this.#o;
    const lines = countNewlines(body) + 1;
    const { whole, cut } = body.length > lineBytesMax ? cutLines(body, lineBytesMax) : { whole: body, cut: 0 };
    this.#o.emit({ stream, lines, body: whole, cut, redactions: count });
  }
}

/** Valid UTF-8: as it is, or with each invalid sequence as U+FFFD. A newline never is part of one. */
function repaired(bytes: Buffer): Buffer {
  return isUtf8(bytes) ? bytes : Buffer.from(bytes.toString('utf8'));
}

/** Complete lines without the `\r` before each line's end; `raw` has lost its final `\n` already. */
function withoutReturns(raw: Buffer): Buffer {
  const out = Buffer.allocUnsafe(raw.length);
  let length = 0;
  for (let from = 0; from < raw.length;) {
    const next = raw.indexOf('\r\n', from, 'latin1');
    const end = next < 0 ? raw.length - (raw[raw.length - 1] === RETURN ? 1 : 0) : next;
    length += raw.copy(out, length, from, end);
    if (next < 0) break;
    from = next + 1;
  }
  return out.subarray(0, length);
}

function cutLines(body: Buffer, bytesMax: number): { whole: Buffer; cut: number } {
  const pieces: Buffer[] = [];
  let cut = 0;
  let copied = 0;
  for (let start = 0; start <= body.length;) {
    const next = body.indexOf(NEWLINE, start);
    const end = next < 0 ? body.length : next;
    if (end - start > bytesMax) {
      pieces.push(body.subarray(copied, start), cutLine(body.subarray(start, end), bytesMax, 0));
      copied = end;
      cut++;
    }
    start = end + 1;
  }
  return cut === 0 ? { whole: body, cut } : { whole: Buffer.concat([...pieces, body.subarray(copied)]), cut };
}

/** At most `bytesMax` bytes of a line, cut between characters, and the mark. `swallowed`: bytes that were not kept at all. */
function cutLine(line: Buffer, bytesMax: number, swallowed: number): Buffer {
  let end = Math.max(0, bytesMax);
  while (end > 0 && ((line[end] ?? 0) & 0xc0) === 0x80) end--;
  const missing = line.length - end + swallowed;
  return Buffer.concat([line.subarray(0, end), Buffer.from(` …[truncated ${missing} bytes]`)]);
}
