/**
 * What is kept of a probe's output: the last line that it wrote to standard output, which is its answer. The rest would
 * only come between the lines of the commands that people gave.
 */
import type { LineBlock } from '@carrierarr/execution';

/** Longest answer, bytes of UTF-8; it goes into the execution's record. */
export const ANSWER_BYTES_MAX = 16 * 1024;
const NEWLINE = 10;

export class ProbeAnswer {
  #last: Buffer | undefined;

  /** The answer so far; undefined if nothing came on standard output. */
  get text(): string | undefined {
    return this.#last?.toString('utf8');
  }

  /** Takes lines in the order in which they were written. */
  take({ stream, body }: Pick<LineBlock, 'stream' | 'body'>): void {
    if (stream !== 'o') return;
    const line = body.subarray(body.lastIndexOf(NEWLINE) + 1);
    // A copy: the block is a piece of a larger chunk.
    this.#last = Buffer.from(line.subarray(0, boundary(line)));
  }
}

/** Where to cut a line so that it fits and ends with a whole character. */
function boundary(line: Buffer): number {
  if (line.length <= ANSWER_BYTES_MAX) return line.length;
  let end = ANSWER_BYTES_MAX;
  while (end > 0 && ((line[end] as number) & 0xc0) === 0x80) end -= 1;
  return end;
}
