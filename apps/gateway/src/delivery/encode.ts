/**
 * Log entries as the text that clients read. There are three encodings, by what the client asked for:
 *
 * - `plain`: one message a line, the fields old clients know. Messages old clients do not know are left out.
 * - `offsets`: the same with `epoch`, `offset` and `execution_id`, and with the newer message types.
 * - `batch`: one `lines` message for each run of one stream.
 *
 * An entry is encoded once for all clients with the same encoding. Several messages are separated by `\n`, as one
 * frame may carry them. What is encoded is the part of an entry after an offset, because a returning client may
 * have seen its beginning.
 */
import type { LinesEntry, LogEvent, PlacedEntry, ServerMessageOf } from '@carrierarr/protocol';
import { shownMsOf, STREAM_OF_LETTER } from '@carrierarr/protocol';
import type { FrameBuffer } from './frame-buffer.js';

export const ENCODINGS = ['plain', 'offsets', 'batch'] as const;
export type Encoding = (typeof ENCODINGS)[number];

/** Bytes that JSON must escape; `\n` separates lines and is never inside one. */
const NEEDS_ESCAPE = new Uint8Array(256);
NEEDS_ESCAPE.fill(1, 0, 0x20);
NEEDS_ESCAPE[0x0a] = 0;
NEEDS_ESCAPE[0x22] = 1;
NEEDS_ESCAPE[0x5c] = 1;

function needsEscape(body: Buffer): boolean {
  let found = 0;
  for (let i = 0; i < body.length; i++) found |= NEEDS_ESCAPE[body[i] as number] as number;
  return found !== 0;
}

/** Writes what {@link encodePlaced} gives, in the common case without making a string of each line. */
export function writePlaced(out: FrameBuffer, placed: PlacedEntry, after: number, encoding: Encoding): void {
  const { entry } = placed;
  const first = placed.last - placed.count + 1;
  const run = entry.kind === 'lines' && entry.runs.length === 1 ? entry.runs[0] : undefined;
  const isWhole = after < first && encoding !== 'offsets' && !(encoding === 'plain' && run?.stream === 'l');
  if (entry.kind !== 'lines' || run === undefined || !isWhole || needsEscape(entry.body)) {
    out.message(encodePlaced(placed, after, encoding));
    return;
  }
  const stream = STREAM_OF_LETTER[run.stream];
  const timestamp = timestampOf(entry.timeMs);
  if (encoding === 'batch') {
    out.lines(`${batchHead(placed, entry, stream, first, timestamp)}"`, entry.body, run.lines, '","', '"]}');
    return;
  }
  const head = `{"type":"${stream}","timestamp":"${timestamp}","target":${JSON.stringify(placed.target)},"data":"`;
  out.lines(head, entry.body, run.lines, `"}\n${head}`, '"}');
}

/**
 * The messages for the part of an entry with offsets above `after`, joined by `\n`; empty if there is nothing to say
 * in this encoding.
 */
export function encodePlaced(placed: PlacedEntry, after: number, encoding: Encoding): string {
  const { entry } = placed;
  if (placed.last <= after) return '';
  switch (entry.kind) {
    case 'lines':
      return encodeLines(placed, entry, after, encoding);
    case 'event':
      return encodeEvent(placed, entry.event, timestampOf(entry.timeMs), encoding);
    case 'unreadable':
      return encodeGap(
        {
          target: placed.target,
          epoch: placed.epoch,
          from: placed.last - placed.count + 1,
          to: placed.last,
          reason: 'unreadable',
        },
        timestampOf(placed.loggedMs),
        encoding,
      );
  }
}

function encodeLines(placed: PlacedEntry, entry: LinesEntry, after: number, encoding: Encoding): string {
  const timestamp = timestampOf(entry.timeMs);
  const first = placed.last - placed.count + 1;
  const lines = entry.body.toString('utf8').split('\n');
  const messages: string[] = [];
  let offset = first;
  let index = 0;
  for (const run of entry.runs) {
    const skip = Math.max(0, Math.min(run.lines, after + 1 - offset));
    const part = lines.slice(index + skip, index + run.lines);
    const stream = STREAM_OF_LETTER[run.stream];
    const start = offset + skip;
    index += run.lines;
    offset += run.lines;
    if (part.length === 0 || (encoding === 'plain' && run.stream === 'l')) continue;
    if (encoding === 'batch') {
      messages.push(
        `${batchHead(placed, entry, stream, start, timestamp)}${part.map((line) => JSON.stringify(line)).join(',')}]}`,
      );
      continue;
    }
    const head = `{"type":"${stream}","timestamp":"${timestamp}","target":${JSON.stringify(placed.target)},"data":`;
    for (const [i, line] of part.entries()) {
      const tail = encoding === 'offsets' ? placeFields(placed, entry.execution, start + i) : '';
      messages.push(`${head}${JSON.stringify(line)}${tail}}`);
    }
  }
  return messages.join('\n');
}

function batchHead(placed: PlacedEntry, entry: LinesEntry, stream: string, offset: number, timestamp: string): string {
  return (
    `{"type":"lines","timestamp":"${timestamp}","target":${JSON.stringify(placed.target)},"epoch":"${placed.epoch}",` +
    `"offset":${offset},"execution_id":"${entry.execution}","stream":"${stream}","lines":[`
  );
}

function placeFields(placed: PlacedEntry, execution: string, offset: number): string {
  return `,"epoch":"${placed.epoch}","offset":${offset},"execution_id":"${execution}"`;
}

function encodeEvent(placed: PlacedEntry, event: LogEvent, timestamp: string, encoding: Encoding): string {
  const { target } = placed;
  const place = { epoch: placed.epoch, offset: placed.last, execution_id: placed.entry.execution };
  const opted = encoding !== 'plain';
  switch (event.type) {
    case 'started':
      if (!opted) return '';
      return JSON.stringify({
        timestamp,
        target,
        ...omit(event, 'attempt'),
        ...place,
      } satisfies ServerMessageOf<'started'>);
    case 'error':
      return JSON.stringify({
        ...{ type: 'error', timestamp, target, error: event.error },
        ...(opted && { code: event.code, ...place }),
      } satisfies ServerMessageOf<'error'>);
    case 'result':
      return JSON.stringify({
        ...{ type: 'result', timestamp, target, exit_code: event.exit_code },
        ...(opted && { outcome: event.outcome, ...(event.signal !== undefined && { signal: event.signal }), ...place }),
      } satisfies ServerMessageOf<'result'>);
  }
}

function omit<T extends object, K extends keyof T>(value: T, key: K): Omit<T, K> {
  const { [key]: _, ...rest } = value;
  return rest;
}

export type Gap = Omit<ServerMessageOf<'gap'>, 'type' | 'timestamp'>;

/** A hole in a client's output, said in its encoding: old clients learn of it by an `error`. */
export function encodeGap(gap: Gap, timestamp: string, encoding: Encoding): string {
  if (encoding !== 'plain') return JSON.stringify({ type: 'gap', timestamp, ...gap } satisfies ServerMessageOf<'gap'>);
  const what =
    gap.reason === 'epoch'
      ? 'The output log of this target was lost and begins anew'
      : `${gap.to - gap.from + 1} lines of output are no longer available (${gap.reason})`;
  return JSON.stringify({
    type: 'error',
    timestamp,
    target: gap.target,
    error: `${what}; what follows is complete again.`,
  } satisfies ServerMessageOf<'error'>);
}

let cachedMs = Number.NaN;
let cachedText = '';
let cachedSecond = Number.NaN;
let cachedPrefix = '';

/**
 * RFC 3339 with milliseconds, of a time in epoch ms. All but the milliseconds is kept from one call to the next:
 * formatting a date would otherwise be a good part of the cost of a line. Never throws, whatever time a log holds.
 */
export function timestampOf(ms: number): string {
  if (ms !== cachedMs) {
    const shownMs = shownMsOf(ms);
    const second = Math.floor(shownMs / 1000);
    if (second !== cachedSecond) {
      cachedSecond = second;
      cachedPrefix = new Date(second * 1000).toISOString().slice(0, -4);
    }
    cachedMs = ms;
    cachedText = `${cachedPrefix}${String(shownMs - second * 1000).padStart(3, '0')}Z`;
  }
  return cachedText;
}
