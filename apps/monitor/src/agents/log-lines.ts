/**
 * What an agent logs of itself, as lines of its target's log. One message may be as large as the largest message of an
 * agent; it becomes a bounded number of lines and bytes, in entries no larger than any other. What is beyond that is cut,
 * and the last line says so. Pure.
 */
import { encodeEntry, ENTRY_BYTES_MAX, type Run } from '@carrierarr/protocol';
import { type LogEntry, LogLevel } from '@carrierarr/protocol/agent-control';

/** Longest line, in bytes: what is longer goes on in the next one. Most lines of one message. */
export const LOG_LINE_BYTES_MAX = 4_000;
export const LOG_LINES_MAX = 100;
const FIELDS_MAX = 32;
/** Longest source, and longest key or value of a field, in UTF-16 code units. */
const TEXT_MAX = 1_000;
const NEWLINE = 10;

/** `WARN ollama: text key=value`; one line or more, in UTF-8. */
export function logLinesOf({ level, source, message, fields }: LogEntry): Buffer[] {
  const name = LogLevel[level]?.replace('LOG_LEVEL_', '') ?? 'UNSPECIFIED';
  const head = `${name === 'UNSPECIFIED' ? 'INFO' : name}${source === '' ? '' : ` ${cut(source)}`}:`;
  const tail = Object.entries(fields)
    .slice(0, FIELDS_MAX)
    .map(([key, value]) => ` ${cut(key)}=${cut(value)}`);
  return linesOf(Buffer.from(`${head} ${message}${tail.join('')}`.replaceAll('\r\n', '\n')));
}

function linesOf(text: Buffer): Buffer[] {
  const lines: Buffer[] = [];
  let at = 0;
  while (lines.length < LOG_LINES_MAX - 1) {
    const newline = text.indexOf(NEWLINE, at);
    const end = newline < 0 ? text.length : newline;
    const to = Math.min(end, characterAt(text, at + LOG_LINE_BYTES_MAX));
    lines.push(text.subarray(at, to));
    if (to === text.length) return lines;
    at = to === newline ? to + 1 : to;
  }
  const rest = text.subarray(at);
  const isLastLine = rest.length <= LOG_LINE_BYTES_MAX && !rest.includes(NEWLINE);
  lines.push(isLastLine ? rest : Buffer.from(`… (${rest.length} more bytes, which are too many for one message)`));
  return lines;
}

/** The begin of the character that a byte belongs to. */
function characterAt(text: Buffer, index: number): number {
  let at = index;
  while (at < text.length && ((text[at] as number) & 0xc0) === 0x80) at -= 1;
  return at;
}

/** Entries with lines that belong to no execution, each within what an entry may have. */
export function logEntriesOf(lines: readonly Buffer[], nowMs: number): { lines: number; entry: Buffer }[] {
  const entries: { lines: number; entry: Buffer }[] = [];
  let open: Buffer[] = [];
  let bytes = 0;
  const close = () => {
    const about = { kind: 'lines', execution: '', sequence: 0, timeMs: Math.round(nowMs) } as const;
    const runs: Run[] = [{ stream: 'l', lines: open.length }];
    entries.push({ lines: open.length, entry: encodeEntry({ ...about, runs, body: joined(open) }) });
    [open, bytes] = [[], 0];
  };
  for (const line of lines) {
    if (open.length > 0 && bytes + line.length + 1 > ENTRY_BYTES_MAX) close();
    open.push(line);
    bytes += line.length + 1;
  }
  if (open.length > 0) close();
  return entries;
}

function joined(lines: readonly Buffer[]): Buffer {
  const newline = Buffer.from([NEWLINE]);
  return Buffer.concat(lines.flatMap((line, i) => (i === 0 ? [line] : [newline, line])));
}

function cut(text: string): string {
  return text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX)}…` : text;
}
