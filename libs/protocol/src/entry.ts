/**
 * One entry of a target's output log: a run of raw lines as a script wrote them, or one event of an execution.
 *
 * Lines stay raw until a gateway encodes them for its clients: an envelope for many lines costs a fraction of JSON
 * per line. An entry is `<header>\n<body>`; its body is the lines joined by `\n`, or the event's JSON. The header is
 * `<version> <execution> <sequence> <time ms> <runs>`, five words, as JSON would cost more to read than all the rest.
 * Runs such as `o12e1o3` tell which lines came from which stream, so that stdout and stderr keep their order of
 * arrival; `-` stands for an event.
 *
 * Where it lies in the log is known only to the log: the append script puts the *position* in front of what it
 * publishes (`<epoch> <last offset> <lines> <partition sequence> <time ms> <target>\n<entry>`). A stream read back
 * gives the same facts from the stream id and its fields.
 */
import { z } from 'zod';

/** Version of the entry format, in each header. A reader skips (and counts) entries of a version it does not know. */
export const ENTRY_VERSION = 1;
/** Largest body of one entry, in bytes: bounds one Redis reply and one client frame. */
export const ENTRY_BYTES_MAX = 64 * 1024;

/** Streams a line can come from, by the letter that stands for them in `runs`. */
export const STREAM_OF_LETTER = { o: 'stdout', e: 'stderr', l: 'log' } as const;
export type StreamLetter = keyof typeof STREAM_OF_LETTER;
export type StreamName = (typeof STREAM_OF_LETTER)[StreamLetter];

/** Consecutive lines of one stream. */
export interface Run {
  stream: StreamLetter;
  lines: number;
}

export const outcomeSchema = z.enum(['succeeded', 'failed', 'killed', 'timed-out', 'lost', 'rejected']);
/** How an execution ended; exactly one for each execution. */
export type Outcome = z.infer<typeof outcomeSchema>;

/** Events that stand in the log between lines; each takes one offset. */
export const logEventSchema = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('started'),
    command: z.string(),
    args: z.array(z.string()),
    subject: z.string(),
    runner: z.string(),
    attempt: z.int(),
  }),
  z.object({ type: z.literal('error'), error: z.string(), code: z.string() }),
  z.object({
    type: z.literal('result'),
    outcome: outcomeSchema,
    exit_code: z.int(),
    signal: z.string().optional(),
    /** Lines of the execution that its bounds kept out of the log. */
    truncated_lines: z.int().optional(),
  }),
]);
export type LogEvent = z.infer<typeof logEventSchema>;

interface EntryBase {
  /** Execution that wrote it. */
  execution: string;
  /** Number of the entry within its execution, from 1; 0 for entries written by others than its runner. */
  sequence: number;
  /** When the runner read the lines, epoch ms. */
  timeMs: number;
}
export interface LinesEntry extends EntryBase {
  kind: 'lines';
  runs: Run[];
  /** The lines joined by `\n` (no final one), valid UTF-8. */
  body: Buffer;
}
export interface EventEntry extends EntryBase {
  kind: 'event';
  event: LogEvent;
}
/** An entry that cannot be read: of a version this program does not know, or damaged. Readers report it as a gap. */
export interface UnreadableEntry extends EntryBase {
  kind: 'unreadable';
  problem: string;
}
export type Entry = LinesEntry | EventEntry;

/** Where an entry lies in its target's log. Offsets count lines and events, from 1; an entry covers (last-count, last]. */
export interface Position {
  target: string;
  epoch: string;
  last: number;
  count: number;
  /** Number of the entry within its partition. */
  partitionSequence: number;
  /** Redis' time at the append, epoch ms. */
  loggedMs: number;
}
export interface PlacedEntry extends Position {
  entry: Entry | UnreadableEntry;
}

/** Lines in an entry: what it adds to the offset. */
export function entryCount(entry: Entry): number {
  return entry.kind === 'event' ? 1 : entry.runs.reduce((sum, run) => sum + run.lines, 0);
}

/** Bytes of an entry as they are stored and published. */
export function encodeEntry(entry: Entry): Buffer {
  const head = `${ENTRY_VERSION} ${entry.execution} ${entry.sequence} ${entry.timeMs}`;
  if (entry.kind === 'event') return Buffer.from(`${head} -\n${JSON.stringify(entry.event)}`);
  const runs = entry.runs.map((run) => `${run.stream}${run.lines}`).join('');
  return Buffer.concat([Buffer.from(`${head} ${runs}\n`), entry.body]);
}

/**
 * Reads what {@link encodeEntry} wrote, from `start` on; never throws. The body shares the buffer's memory.
 * Headers are read byte by byte: a gateway does it for each entry, and words as strings would be most of its cost.
 */
export function decodeEntry(bytes: Buffer, start = 0): Entry | UnreadableEntry {
  const afterVersion = wordEnd(bytes, start);
  const afterExecution = wordEnd(bytes, afterVersion + 1);
  const afterSequence = wordEnd(bytes, afterExecution + 1);
  const afterTime = wordEnd(bytes, afterSequence + 1);
  const end = wordEnd(bytes, afterTime + 1);
  const isKnown =
    numberAt(bytes, start, afterVersion) === ENTRY_VERSION &&
    areSpaces(bytes, afterVersion, afterExecution, afterSequence, afterTime) &&
    bytes[end] === NEWLINE;
  const sequence = numberAt(bytes, afterExecution + 1, afterSequence);
  const timeMs = numberAt(bytes, afterSequence + 1, afterTime);
  if (isKnown && sequence >= 0 && timeMs >= 0) {
    const execution = bytes.toString('latin1', afterVersion + 1, afterExecution);
    const body = bytes.subarray(end + 1);
    if (bytes[afterTime + 1] === EVENT_RUNS && end === afterTime + 2) {
      const event = decodeEvent(body);
      if (event !== undefined) return { execution, sequence, timeMs, kind: 'event', event };
    } else {
      const runs = decodeRuns(bytes, afterTime + 1, end);
      if (runs !== undefined) return { execution, sequence, timeMs, kind: 'lines', runs, body };
    }
  }
  const seen = JSON.stringify(bytes.toString('latin1', start, start + 80));
  const problem = `Expected a log entry of version ${ENTRY_VERSION}, got ${seen}: written by a newer carrierarr, or damaged.`;
  return { execution: '', sequence: 0, timeMs: 0, kind: 'unreadable', problem };
}

const NEWLINE = 10;
const SPACE = 32;
const DIGIT_ZERO = 48;
const EVENT_RUNS = '-'.charCodeAt(0);
const LETTER_OF_BYTE = new Map(
  Object.keys(STREAM_OF_LETTER).map((letter) => [letter.charCodeAt(0), letter as StreamLetter]),
);

/** Where the word that begins at `from` ends: at a space, a line break or the end. */
function wordEnd(bytes: Buffer, from: number): number {
  let at = from;
  while (at < bytes.length && bytes[at] !== SPACE && bytes[at] !== NEWLINE) at += 1;
  return at;
}

function areSpaces(bytes: Buffer, a: number, b: number, c: number, d: number): boolean {
  return bytes[a] === SPACE && bytes[b] === SPACE && bytes[c] === SPACE && bytes[d] === SPACE;
}

/** The number that the bytes before `end` write in digits; NaN if they are none. */
function numberAt(bytes: Buffer, from: number, end: number): number {
  let number = from < end ? 0 : Number.NaN;
  for (let at = from; at < end; at += 1) {
    const digit = (bytes[at] ?? 0) - DIGIT_ZERO;
    number = digit >= 0 && digit <= 9 ? number * 10 + digit : Number.NaN;
  }
  return number;
}

function decodeRuns(bytes: Buffer, from: number, end: number): Run[] | undefined {
  const runs: Run[] = [];
  for (let at = from; at < end;) {
    const stream = LETTER_OF_BYTE.get(bytes[at] ?? 0);
    const digits = at + 1;
    at = digits;
    while (at < end && !LETTER_OF_BYTE.has(bytes[at] ?? 0)) at += 1;
    const lines = numberAt(bytes, digits, at);
    if (stream === undefined || Number.isNaN(lines)) return undefined;
    runs.push({ stream, lines });
  }
  return runs.length > 0 ? runs : undefined;
}

function decodeEvent(body: Buffer): LogEvent | undefined {
  try {
    return logEventSchema.safeParse(JSON.parse(body.toString('utf8'))).data;
  } catch {
    return undefined;
  }
}

/** Reads a message of an output channel. Throws a TypeError for what is not one. */
export function decodePublished(bytes: Buffer): PlacedEntry {
  const afterEpoch = wordEnd(bytes, 0);
  const afterLast = wordEnd(bytes, afterEpoch + 1);
  const afterCount = wordEnd(bytes, afterLast + 1);
  const afterSequence = wordEnd(bytes, afterCount + 1);
  const afterTime = wordEnd(bytes, afterSequence + 1);
  const last = numberAt(bytes, afterEpoch + 1, afterLast);
  // The target comes last, for it may hold spaces.
  const end = bytes.indexOf(NEWLINE, afterTime + 1);
  const isPosition =
    areSpaces(bytes, afterEpoch, afterLast, afterCount, afterSequence) && bytes[afterTime] === SPACE && last > 0;
  if (!isPosition || end < 0) {
    const seen = JSON.stringify(bytes.toString('latin1', 0, 80));
    throw new TypeError(`Expected "<epoch> <last> <count> <sequence> <time> <target>", got ${seen}.`);
  }
  return {
    epoch: bytes.toString('latin1', 0, afterEpoch),
    last,
    count: numberAt(bytes, afterLast + 1, afterCount),
    partitionSequence: numberAt(bytes, afterCount + 1, afterSequence),
    loggedMs: numberAt(bytes, afterSequence + 1, afterTime),
    target: bytes.toString('utf8', afterTime + 1, end),
    entry: decodeEntry(bytes, end + 1),
  };
}
