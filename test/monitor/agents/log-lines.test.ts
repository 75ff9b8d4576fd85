import { isUtf8 } from 'node:buffer';
import { decodeEntry, ENTRY_BYTES_MAX } from '@carrierarr/protocol';
import { LogEntry } from '@carrierarr/protocol/agent-control';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  LOG_LINE_BYTES_MAX,
  LOG_LINES_MAX,
  logEntriesOf,
  logLinesOf,
} from '../../../apps/monitor/src/agents/log-lines.js';

const HEAD = 'WARN agent: ';
const logged = (message: string, fields: Record<string, string> = {}) =>
  logLinesOf(LogEntry.fromPartial({ level: 3, source: 'agent', message, fields }));
const texts = (message: string, fields?: Record<string, string>) => logged(message, fields).map(String);

describe('what an agent logs of itself', () => {
  it('becomes lines, with fields after the last', () => {
    expect(texts('one\r\ntwo', { model: 'x', size: '2' })).toEqual([`${HEAD}one`, 'two model=x size=2']);
    expect(texts('one\n')).toEqual([`${HEAD}one`, '']);
  });

  it('goes on in the next line where one is too long, and no character is cut in two', () => {
    const lines = texts('ä€😀'.repeat(2_000));
    expect(lines.length).toBe(5);
    expect(lines.join('')).toBe(`${HEAD}${'ä€😀'.repeat(2_000)}`);
    for (const line of lines.slice(0, -1)) {
      expect(Buffer.byteLength(line)).toBeLessThanOrEqual(LOG_LINE_BYTES_MAX);
      expect(Buffer.byteLength(line)).toBeGreaterThan(LOG_LINE_BYTES_MAX - 4);
    }
  });

  it('is cut where it has too many lines or bytes, and says how much of it is missing', () => {
    const whole = texts(Array.from({ length: LOG_LINES_MAX }, (_, i) => `line ${i}`).join('\n'));
    expect([whole.length, whole.at(-1)]).toEqual([LOG_LINES_MAX, `line ${LOG_LINES_MAX - 1}`]);

    const longer = texts('x\n'.repeat(1_000));
    expect(longer).toHaveLength(LOG_LINES_MAX);
    // One byte and a newline each; the last line is empty.
    const missing = 2 * (1_000 - (LOG_LINES_MAX - 1));
    expect(longer.slice(-2)).toEqual(['x', `… (${missing} more bytes, which are too many for one message)`]);

    const huge = texts('y'.repeat(4 * 1024 ** 2));
    const shown = (LOG_LINES_MAX - 1) * LOG_LINE_BYTES_MAX;
    expect(huge.at(-1)).toContain(`(${HEAD.length + 4 * 1024 ** 2 - shown} more bytes`);
    expect(texts('a field', { key: 'v'.repeat(5_000) })[0]).toHaveLength(`${HEAD}a field key=`.length + 1_001);
  });

  it('is in entries no larger than others, all of it and in order, whatever it is', () => {
    const piece = fc.oneof(
      ...[
        fc.string({ unit: 'binary', maxLength: 50 }),
        fc.constantFrom('\n', '\r\n', '€'.repeat(9_000), 'x'.repeat(9_000)),
      ],
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        const lines = logged(pieces.join(''));
        const read = logEntriesOf(lines, 5.4).flatMap(({ lines: count, entry }) => {
          const decoded = decodeEntry(entry);
          if (decoded.kind !== 'lines') throw new Error('no lines');
          expect(decoded).toMatchObject({
            execution: '',
            sequence: 0,
            timeMs: 5,
            runs: [{ stream: 'l', lines: count }],
          });
          expect(decoded.body.length).toBeLessThanOrEqual(ENTRY_BYTES_MAX);
          expect(isUtf8(decoded.body)).toBe(true);
          const split = decoded.body.toString().split('\n');
          expect(split).toHaveLength(count);
          return split;
        });
        expect(read.join('\n')).toBe(lines.map(String).join('\n'));
        expect(lines.length).toBeLessThanOrEqual(LOG_LINES_MAX);
      }),
      { numRuns: 50 },
    );
  });
});
