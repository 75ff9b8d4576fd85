/** Columns for people. A cell stays on its line: control characters are spelled out also in a pipe. */
import { visible } from './visible.js';

/** Ends with a newline; the header alone when there are no rows. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const growing = new GrowingTable(header);
  return growing.rows(rows);
}

/** A table whose rows come bit by bit: a column is as wide as its widest cell so far. */
export class GrowingTable {
  #header: readonly string[] | undefined;
  readonly #widths: number[];

  constructor(header: readonly string[]) {
    this.#header = header;
    this.#widths = header.map(width);
  }

  /** With the header the first time. */
  rows(rows: readonly (readonly string[])[]): string {
    const cells = rows.map((row) => row.map((cell) => (cell === '' ? '-' : visible(cell))));
    for (const row of cells) {
      for (const [column, cell] of row.entries()) {
        this.#widths[column] = Math.max(this.#widths[column] ?? 0, width(cell));
      }
    }
    const lines = this.#header === undefined ? cells : [this.#header, ...cells];
    this.#header = undefined;
    return lines.map((row) => this.#line(row)).join('');
  }

  #line(row: readonly string[]): string {
    const padded = row.map((cell, column) => cell + ' '.repeat((this.#widths[column] ?? 0) - width(cell)));
    return `${padded.join('   ').trimEnd()}\n`;
  }
}

function width(text: string): number {
  return Array.from(text).length;
}

/** `42s`, `3m10s`, `5h12m`, `3d4h`: the two largest units of a time that is past. */
export function age(fromMs: number, nowMs: number): string {
  const seconds = Math.max(0, Math.floor((nowMs - fromMs) / 1000));
  const units = [
    ['d', 86_400],
    ['h', 3600],
    ['m', 60],
    ['s', 1],
  ] as const;
  const first = units.findIndex(([, size]) => seconds >= size);
  if (first < 0) return '0s';
  let rest = seconds;
  let text = '';
  for (const [unit, size] of units.slice(first, first + 2)) {
    const count = Math.floor(rest / size);
    if (count > 0) text += `${count}${unit}`;
    rest -= count * size;
  }
  return text;
}
