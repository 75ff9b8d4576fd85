import { unifiedDiff, yamlText } from '@carrierarr/cli';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

/** What `patch` does with a unified diff. */
function patched(before: string, diff: string): string {
  const old = before === '' ? [] : before.replace(/\n$/, '').split('\n');
  const fresh: string[] = [];
  let at = 0;
  for (const line of diff.split('\n').slice(2, -1)) {
    const hunk = /^@@ -(\d+)(?:,(\d+))? \+/.exec(line);
    if (hunk) {
      const begin = Number(hunk[1]) - (hunk[2] === '0' ? 0 : 1);
      fresh.push(...old.slice(at, begin));
      at = begin;
      continue;
    }
    if (line[0] !== '+') expect(old[at++]).toBe(line.slice(1));
    if (line[0] !== '-') fresh.push(line.slice(1));
  }
  fresh.push(...old.slice(at));
  return fresh.map((line) => `${line}\n`).join('');
}

describe('a unified diff', () => {
  it('shows what differs with three lines around it', () => {
    const lines = Array.from({ length: 20 }, (_, at) => `line ${at + 1}`);
    const before = `${lines.join('\n')}\n`;
    const after = before.replace('line 5\n', 'line five\n').replace('line 18\n', '');
    expect(unifiedDiff(before, after, ['a', 'b'])).toBe(
      [
        ...['--- a', '+++ b', '@@ -2,7 +2,7 @@', ' line 2', ' line 3', ' line 4', '-line 5', '+line five'],
        ...[' line 6', ' line 7', ' line 8', '@@ -15,6 +15,5 @@', ' line 15', ' line 16', ' line 17', '-line 18'],
        ...[' line 19', ' line 20', ''],
      ].join('\n'),
    );
    expect(unifiedDiff('', 'x\n', ['a', 'b'])).toBe('--- a\n+++ b\n@@ -0,0 +1,1 @@\n+x\n');
    expect(unifiedDiff(before, before, ['a', 'b'])).toBe('');
  });

  it('leads from the one text to the other', () => {
    const text = fc
      .array(fc.constantFrom('a', 'b', 'c', ' d', '-e'), { maxLength: 30 })
      .map((lines) => lines.map((line) => `${line}\n`).join(''));
    fc.assert(
      fc.property(text, text, (before, after) => {
        const diff = unifiedDiff(before, after, ['a', 'b']);
        expect(diff === '').toBe(before === after);
        if (diff !== '') expect(patched(before, diff)).toBe(after);
      }),
    );
  });
});

describe('YAML', () => {
  it('is the same document, without anything that drives a terminal', () => {
    const value = fc.dictionary(
      fc.string({ unit: 'binary' }),
      fc.oneof(
        fc.string({ unit: 'binary' }),
        fc.constantFrom('no', '1', '', '\x1b]0;t\x07\nb', '\u202e'),
        fc.integer(),
      ),
    );
    fc.assert(
      fc.property(value, (item) => {
        const text = yamlText(item);
        // oxlint-disable-next-line no-control-regex -- they are what this is about
        expect(text).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/);
        const back: unknown = parse(text, { schema: 'core' });
        expect(back).toEqual({ ...item });
      }),
    );
  });
});
