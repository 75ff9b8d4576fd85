/**
 * Reading output logs. An entry's stream id is the offset of its last line, so "after offset n" is one XRANGE
 * without an index, and the first entry found may hold lines up to n too: readers skip those.
 */
import type { Keys, PlacedEntry } from '@carrierarr/protocol';
import { decodeEntry } from '@carrierarr/protocol';
import type { RedisConnection } from './connection.js';

/** Where a log begins and ends now. An empty log has `first = last + 1`. */
export interface LogBounds {
  /** Undefined if the target never had output. */
  epoch: string | undefined;
  /** Offset of the oldest line that is kept. */
  first: number;
  /** Offset of the newest line. */
  last: number;
}

export interface LogPage extends LogBounds {
  /** Entries that hold lines after the asked offset, oldest first. */
  entries: PlacedEntry[];
}

type StreamReply = [id: Buffer, fields: Buffer[]][];

export class OutputLog {
  readonly #connection: RedisConnection;
  readonly #keys: Keys;

  constructor(connection: RedisConnection, keys: Keys) {
    this.#connection = connection;
    this.#keys = keys;
  }

  /** A page of entries after an offset and the log's bounds, read in one step so that they fit together. */
  async read(target: string, after: number, entriesMax: number): Promise<LogPage> {
    const log = this.#keys.log(target);
    const replies = await this.#connection
      .multi()
      .hmget(this.#keys.logMeta(target), 'epoch', 'last')
      .xrangeBuffer(log, '-', '+', 'COUNT', 1)
      .xrangeBuffer(log, `(${Math.max(0, after)}-0`, '+', 'COUNT', entriesMax)
      .exec();
    const [meta, oldest, page] = unwrap(replies) as [[string | null, string | null], StreamReply, StreamReply];
    const bounds = boundsOf(target, meta, oldest);
    return { ...bounds, entries: page.map((item) => placed(target, bounds.epoch ?? '', item)) };
  }

  /** The log's bounds alone. */
  async bounds(target: string): Promise<LogBounds> {
    const replies = await this.#connection
      .multi()
      .hmget(this.#keys.logMeta(target), 'epoch', 'last')
      .xrangeBuffer(this.#keys.log(target), '-', '+', 'COUNT', 1)
      .exec();
    const [meta, oldest] = unwrap(replies) as [[string | null, string | null], StreamReply];
    return boundsOf(target, meta, oldest);
  }

  /** The offset after which the last `lines` lines (events not counted) begin, and the log's bounds. */
  async tailStart(target: string, lines: number): Promise<LogBounds & { after: number }> {
    const bounds = await this.bounds(target);
    let after = bounds.last;
    let missing = lines;
    while (missing > 0 && after >= bounds.first) {
      const page = (await this.#connection.xrevrangeBuffer(
        this.#keys.log(target),
        `${after}-0`,
        '-',
        'COUNT',
        TAIL_PAGE_ENTRIES,
      )) as StreamReply;
      if (page.length === 0) break;
      for (const item of page) {
        const { entry, last, count } = placed(target, '', item);
        if (last > after || missing <= 0) continue;
        const taken = entry.kind === 'lines' ? Math.min(count, missing) : count;
        if (entry.kind === 'lines') missing -= taken;
        after = last - taken;
      }
    }
    return { ...bounds, after: Math.max(after, bounds.first - 1) };
  }

  /** The offset after which entries logged at or after `timeMs` (Redis' clock) begin. */
  async timeStart(target: string, timeMs: number): Promise<LogBounds & { after: number }> {
    return this.#search(target, (entry) => entry.loggedMs >= timeMs);
  }

  /** The offset after which the entries begin that are numbered above `sequence` in the target's partition. */
  async sequenceStart(target: string, sequence: number): Promise<LogBounds & { after: number }> {
    return this.#search(target, (entry) => entry.partitionSequence > sequence);
  }

  /** Binary search for the first entry of which `reached` holds; it must hold of all that follow. */
  async #search(target: string, reached: (entry: PlacedEntry) => boolean): Promise<LogBounds & { after: number }> {
    const bounds = await this.bounds(target);
    let low = bounds.first - 1;
    let high = bounds.last;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const [item] = (await this.#connection.xrangeBuffer(
        this.#keys.log(target),
        `(${middle}-0`,
        '+',
        'COUNT',
        1,
      )) as StreamReply;
      if (item === undefined) break;
      const entry = placed(target, '', item);
      if (reached(entry)) high = Math.max(low, Math.min(middle, entry.last - entry.count));
      else low = entry.last;
    }
    return { ...bounds, after: low };
  }

  /** Number of the newest entry of a partition. */
  async partitionSequence(partition: number): Promise<number> {
    return Number((await this.#connection.get(this.#keys.partitionSequence(partition))) ?? 0);
  }

  /** Targets of a partition with entries numbered above `sequence`, oldest change first, at most `limit`. */
  async changedSince(
    partition: number,
    sequence: number,
    limit: number,
  ): Promise<{ target: string; sequence: number }[]> {
    const flat = await this.#connection.zrangebyscore(
      this.#keys.active(partition),
      `(${sequence}`,
      '+inf',
      'WITHSCORES',
      'LIMIT',
      0,
      limit,
    );
    const changed: { target: string; sequence: number }[] = [];
    for (let i = 0; i + 1 < flat.length; i += 2)
      changed.push({ target: flat[i] as string, sequence: Number(flat[i + 1]) });
    return changed;
  }
}

const TAIL_PAGE_ENTRIES = 64;

function unwrap(replies: [Error | null, unknown][] | null): unknown[] {
  if (replies === null) throw new Error('Redis discarded the transaction.');
  return replies.map(([error, value]) => {
    if (error) throw error;
    return value;
  });
}

function boundsOf(target: string, [epoch, last]: [string | null, string | null], oldest: StreamReply): LogBounds {
  const newest = Number(last ?? 0);
  const head = oldest[0] === undefined ? undefined : placed(target, '', oldest[0]);
  return {
    epoch: epoch ?? undefined,
    last: newest,
    first: head === undefined ? newest + 1 : head.last - head.count + 1,
  };
}

function placed(target: string, epoch: string, [id, fields]: StreamReply[number]): PlacedEntry {
  let blob: Buffer = EMPTY;
  let count = 1;
  let loggedMs = 0;
  let partitionSequence = 0;
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const value = fields[i + 1] as Buffer;
    const name = fields[i]?.toString('latin1');
    if (name === 'e') blob = value;
    else if (name === 'c') count = Number(value.toString('latin1'));
    else if (name === 't') loggedMs = Number(value.toString('latin1'));
    else if (name === 's') partitionSequence = Number(value.toString('latin1'));
  }
  const last = Number.parseInt(id.toString('latin1'), 10);
  return { target, epoch, last, count, partitionSequence, loggedMs, entry: decodeEntry(blob) };
}

const EMPTY = Buffer.alloc(0);
