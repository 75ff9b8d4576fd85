import { encodeEntry, type Entry, type PlacedEntry } from '@carrierarr/protocol';
import { expect, it } from 'vitest';
import { lastLineOf } from '../../apps/monitor/src/script-commands.js';

function placed(entry: Entry): PlacedEntry {
  expect(encodeEntry(entry).length).toBeGreaterThan(0);
  return { target: 'w', epoch: 'e', last: 1, count: 1, partitionSequence: 1, loggedMs: 0, entry };
}

const lines = (execution: string, runs: [stream: 'o' | 'e', ...lines: string[]][]): PlacedEntry =>
  placed({
    ...{ kind: 'lines', execution, sequence: 1, timeMs: 0 },
    runs: runs.map(([stream, ...texts]) => ({ stream, lines: texts.length })),
    body: Buffer.from(runs.flatMap(([, ...texts]) => texts).join('\n')),
  });

it('the answer of a script is the last line of its standard output, wherever its errors stand', () => {
  const entries = [
    lines('other', [['o', 'of another execution']]),
    lines('x', [
      ['o', 'worker: w', 'state: up'],
      ['e', 'a warning'],
      ['o', '{"state":"running"}'],
      ['e', 'another', 'and another'],
    ]),
    placed({
      kind: 'event',
      execution: 'x',
      sequence: 0,
      timeMs: 0,
      event: { type: 'result', outcome: 'succeeded', exit_code: 0 },
    }),
    lines('other', [['o', 'of another execution again']]),
  ];
  expect(lastLineOf(entries, 'x', 'o')).toBe('{"state":"running"}');
  expect(lastLineOf(entries, 'x', 'e')).toBe('and another');
});

it('a later entry wins over an earlier one, and a script that wrote nothing there has no answer', () => {
  expect(lastLineOf([lines('x', [['o', 'first']]), lines('x', [['o', 'second']])], 'x', 'o')).toBe('second');
  expect(lastLineOf([lines('x', [['e', 'only errors']])], 'x', 'o')).toBeUndefined();
});
