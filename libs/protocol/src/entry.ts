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

/** Reads what {@link encodeEntry} wrote; never throws. The body shares the buffer's memory. */
export function decodeEntry(bytes: Buffer): Entry | UnreadableEntry {
  const end = bytes.indexOf(NEWLINE);
  const words = end < 0 ? [] : bytes.toString('latin1', 0, end).split(' ');
  const execution = words[1];
  const runs = words[4];
  if (words.length === 5 && words[0] === VERSION_WORD && execution !== undefined && runs !== undefined) {
    const base = { execution, sequence: Number(words[2]), timeMs: Number(words[3]) };
    const body = bytes.subarray(end + 1);
    if (runs === EVENT_RUNS) {
      const event = decodeEvent(body);
      if (event !== undefined) return { ...base, kind: 'event', event };
    } else {
      const parsed = parseRuns(runs);
      if (parsed !== undefined) return { ...base, kind: 'lines', runs: parsed, body };
    }
  }
  const seen = JSON.stringify(bytes.toString('latin1', 0, 80));
  const problem = `Expected a log entry of version ${ENTRY_VERSION}, got ${seen}: written by a newer carrierarr, or damaged.`;
  return { execution: '', sequence: 0, timeMs: 0, kind: 'unreadable', problem };
}

const NEWLINE = 10;
const VERSION_WORD = String(ENTRY_VERSION);
const EVENT_RUNS = '-';
const RUN = /([oel])(\d+)/gy;

function parseRuns(text: string): Run[] | undefined {
  const runs: Run[] = [];
  RUN.lastIndex = 0;
  let end = 0;
  for (let match = RUN.exec(text); match !== null; match = RUN.exec(text)) {
    runs.push({ stream: match[1] as StreamLetter, lines: Number(match[2]) });
    end = RUN.lastIndex;
  }
  return end === text.length && end > 0 ? runs : undefined;
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
  const end = bytes.indexOf(10);
  const [epoch, last, count, sequence, logged, ...target] = bytes.toString('utf8', 0, end).split(' ');
  if (end < 0 || epoch === undefined || !(Number(last) > 0) || target.length === 0) {
    const seen = JSON.stringify(bytes.toString('latin1', 0, 80));
    throw new TypeError(`Expected "<epoch> <last> <count> <sequence> <time> <target>", got ${seen}.`);
  }
  return {
    epoch,
    last: Number(last),
    count: Number(count),
    partitionSequence: Number(sequence),
    loggedMs: Number(logged),
    target: target.join(' '),
    entry: decodeEntry(bytes.subarray(end + 1)),
  };
}
