/**
 * The output of one execution, page by page out of its target's log. A target runs one command at a time, so that is the
 * log from the execution's first offset on, without the few events of others between; what has been trimmed since, or
 * was lost with an old epoch, comes out as a gap.
 */
import type { Execution, PlacedEntry } from '@carrierarr/protocol';
import type { LogPage, OutputLog } from '@carrierarr/store';
import type { Gap } from '../delivery/encode.js';
import type { RedisHealth } from '../redis-health.js';

/** Bytes of one page aimed at, and its entries. */
const PAGE_BYTES = 512 * 1024;
const PAGE_ENTRIES_FIRST = 8;
const PAGE_ENTRIES_MAX = 256;
/** Offsets taken by events rather than lines, assumed when looking for the last lines; more only cost another look. */
const EVENTS_SLACK = 32;

/** `from` and `to` are the first and last missing offset; 0 and 0 if the old epoch is lost as a whole. */
export interface OutputGap {
  kind: 'gap';
  gap: Gap;
}
export type Piece = OutputGap | { kind: 'entry'; placed: PlacedEntry; after: number };

export interface ExecutionReaderOptions {
  log: OutputLog;
  redis: RedisHealth;
  execution: Execution;
  /** The log's newest offset, read before the execution's record was: its output begins later if it had not begun. */
  newestBefore: number;
}

export class ExecutionReader {
  readonly #log: OutputLog;
  readonly #redis: RedisHealth;
  readonly #id: string;
  readonly #target: string;
  #epoch: string | undefined;
  #after: number;
  /** Offset of its result, once it is known. */
  #last: number | undefined;
  #pageEntries = PAGE_ENTRIES_FIRST;
  #hasReachedEnd = false;
  #isComplete = false;
  #hasReadResult = false;

  constructor({ log, redis, execution, newestBefore }: ExecutionReaderOptions) {
    this.#log = log;
    this.#redis = redis;
    this.#id = execution.id;
    this.#target = execution.target;
    this.#epoch = execution.epoch;
    this.#last = execution.last_offset;
    const begin = execution.first_offset ?? execution.last_offset;
    this.#after = begin === undefined ? newestBefore : begin - 1;
  }

  /** What it has read up to. */
  get position(): { epoch: string | undefined; offset: number } {
    return { epoch: this.#epoch, offset: this.#after };
  }

  /** The result has been read, or must have been. */
  get isComplete(): boolean {
    return this.#hasReadResult || this.#isComplete || (this.#last !== undefined && this.#after >= this.#last);
  }

  /** False if the result is not there to read: not yet, or not any more. */
  get hasReadResult(): boolean {
    return this.#hasReadResult;
  }

  /** The last page was the newest. */
  get hasReachedEnd(): boolean {
    return this.#hasReachedEnd;
  }

  /** Tells it that the execution has ended, as its record says; undefined if the record is gone. */
  ended(execution: Execution | undefined): void {
    if (execution === undefined) this.#isComplete = true;
    else if (execution.epoch === this.#epoch) this.#last = execution.last_offset;
    else this.#isComplete = true;
  }

  /** Reads the next page. Throws RedisAwayError, and can then be called again. */
  async next(): Promise<Piece[]> {
    const page = await this.#read(this.#after, this.#pageEntries);
    this.#hasReachedEnd = page.entries.length < this.#pageEntries;
    this.#adapt(page);
    const pieces: Piece[] = [];
    if (page.epoch !== undefined && this.#epoch !== undefined && page.epoch !== this.#epoch) {
      pieces.push({ kind: 'gap', gap: { target: this.#target, epoch: page.epoch, from: 0, to: 0, reason: 'epoch' } });
      // The page was read from an offset of the old epoch.
      this.#epoch = page.epoch;
      this.#after = 0;
      this.#last = undefined;
      this.#hasReachedEnd = false;
      return pieces;
    }
    this.#epoch = page.epoch ?? this.#epoch;
    const missingTo = Math.min(page.first - 1, this.#last ?? Number.MAX_SAFE_INTEGER);
    if (missingTo > this.#after) {
      const place = { target: this.#target, epoch: this.#epoch ?? '' };
      pieces.push({ kind: 'gap', gap: { ...place, from: this.#after + 1, to: missingTo, reason: 'trimmed' } });
      this.#after = missingTo;
    }
    for (const placed of page.entries) {
      if (this.isComplete) break;
      if (placed.last <= this.#after) continue;
      // Whose an unreadable entry is nobody knows; here it lies among ours.
      if (placed.entry.execution === this.#id || placed.entry.kind === 'unreadable') {
        pieces.push({ kind: 'entry', placed, after: this.#after });
        if (placed.entry.kind === 'event' && placed.entry.event.type === 'result') this.#hasReadResult = true;
      }
      this.#after = placed.last;
    }
    return pieces;
  }

  /** Goes forward to where the last `lines` lines so far begin. Their events do not count. */
  async skipToTail(lines: number): Promise<void> {
    const begin = this.#after;
    const end = this.#last ?? (await this.#redis.bounded(() => this.#log.bounds(this.#target))).last;
    for (let slack = EVENTS_SLACK; ; slack *= 8) {
      const from = Math.max(begin, end - lines - slack);
      const starts = await this.#countLines(from, end);
      const surplus = starts.reduce((sum, run) => sum + run.lines, 0) - lines;
      if (surplus < 0 && from > begin) continue;
      this.#after = Math.max(from, afterSurplus(starts, surplus, from));
      return;
    }
  }

  /** Our entries with lines in (from, end]: what lies before each, and its lines. */
  async #countLines(from: number, end: number): Promise<{ after: number; lines: number }[]> {
    const found: { after: number; lines: number }[] = [];
    let after = from;
    while (after < end) {
      const page = await this.#read(after, this.#pageEntries);
      this.#adapt(page);
      for (const { entry, last, count } of page.entries) {
        const before = Math.max(after, last - count);
        if (entry.kind === 'lines' && entry.execution === this.#id) found.push({ after: before, lines: last - before });
        after = last;
      }
      if (page.entries.length === 0) break;
    }
    return found;
  }

  #read(after: number, entriesMax: number): Promise<LogPage> {
    return this.#redis.bounded(() => this.#log.read(this.#target, after, entriesMax));
  }

  #adapt({ entries }: LogPage): void {
    if (entries.length === 0) return;
    const bytes = entries.reduce((sum, { entry }) => sum + (entry.kind === 'lines' ? entry.body.length : 0) + 100, 0);
    const fitting = Math.floor(PAGE_BYTES / (bytes / entries.length));
    this.#pageEntries = Math.max(1, Math.min(fitting, this.#pageEntries * 4, PAGE_ENTRIES_MAX));
  }
}

/** The offset after `surplus` lines of these entries. */
function afterSurplus(starts: readonly { after: number; lines: number }[], surplus: number, from: number): number {
  let left = surplus;
  if (left <= 0) return from;
  for (const { after, lines } of starts) {
    if (left < lines) return after + left;
    left -= lines;
    if (left === 0) return after + lines;
  }
  return from;
}
