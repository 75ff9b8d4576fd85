/**
 * Replaces known secrets in output by `***`. Best effort: a script that prints a secret encoded, reversed or over two
 * lines still tells it. It works on complete lines, so a secret cannot hide on the border of two chunks.
 */

/** Shorter parts would turn ordinary words into stars. */
export const SECRET_BYTES_MIN = 6;

const MASK = Buffer.from('***');

export class Redactor {
  /** Length of the longest part that is looked for, in bytes; 0 without secrets. */
  readonly longestBytes: number;
  readonly #parts: Buffer[];

  /** Secrets of several lines are looked for line by line; parts below {@link SECRET_BYTES_MIN} are not. */
  constructor(secrets: Iterable<string>) {
    const parts = new Set([...secrets].flatMap(secretParts));
    this.#parts = [...parts].map((part) => Buffer.from(part));
    this.longestBytes = Math.max(0, ...this.#parts.map((part) => part.length));
  }

  /** The same buffer if there is nothing to hide. `count`: places that were replaced. */
  redact(body: Buffer): { body: Buffer; count: number } {
    const found = this.#parts.filter((part) => body.includes(part));
    if (found.length === 0) return { body, count: 0 };
    const pieces: Buffer[] = [];
    let copied = 0;
    let count = 0;
    for (const { start, end } of this.#ranges(body, found)) {
      pieces.push(body.subarray(copied, start), MASK);
      copied = end;
      count++;
    }
    return { body: Buffer.concat([...pieces, body.subarray(copied)]), count };
  }

  /** Where the parts lie. Overlapping ones are one range: else the rest of the second would stay readable. */
  #ranges(body: Buffer, parts: readonly Buffer[]): { start: number; end: number }[] {
    const all = parts.flatMap((part) => {
      const ranges: { start: number; end: number }[] = [];
      for (let at = body.indexOf(part); at >= 0; at = body.indexOf(part, at + 1))
        ranges.push({ start: at, end: at + part.length });
      return ranges;
    });
    all.sort((a, b) => a.start - b.start);
    const merged: { start: number; end: number }[] = [];
    for (const range of all) {
      const before = merged.at(-1);
      if (before !== undefined && range.start < before.end) before.end = Math.max(before.end, range.end);
      else merged.push(range);
    }
    return merged;
  }
}

/** What is looked for of one secret; empty if it is too short. */
export function secretParts(secret: string): string[] {
  return secret
    .split(/[\r\n]+/)
    .map((part) => part.trim())
    .filter((part) => Buffer.byteLength(part) >= SECRET_BYTES_MIN);
}
