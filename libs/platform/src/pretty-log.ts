/** Turns pino's JSON lines into lines for people: time, level, program, message, then the other fields. */
import type { DestinationStream } from 'pino';
import { printable } from './printable.js';

interface LogLine {
  readonly time?: string;
  readonly level?: string;
  readonly program?: string;
  readonly msg?: string;
  readonly err?: { readonly stack?: string; readonly message?: string };
}

/** A destination for pino that writes readable lines to `output`. */
export function prettyStream(output: DestinationStream): DestinationStream {
  return { write: (line) => output.write(`${prettyLine(line)}\n`) };
}

function prettyLine(line: string): string {
  const { time = '', level = '', program = '', msg = '', err, ...fields } = JSON.parse(line) as LogLine;
  const clock = time.slice(11, 23);
  const rest = Object.entries(fields).map(([name, value]) => ` ${name}=${printField(value)}`);
  const stack = err ? `\n${printable(err.stack ?? err.message ?? '', { keepLines: true })}` : '';
  return `${clock} ${level.toUpperCase().padEnd(5)} ${program}: ${printField(msg)}${rest.join('')}${stack}`;
}

function printField(value: unknown): string {
  return printable(typeof value === 'string' ? value : JSON.stringify(value));
}
