import { age, table, visible, visibleJson, visibleLine } from '@carrierarr/cli';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

describe('text of others on a terminal', () => {
  it('spells out what would retitle the window, write the clipboard or hide text', () => {
    expect(visible('a\x1b]0;owned\x07b')).toBe('a\\x1b]0;owned\\x07b');
    expect(visible('\x9b31m\u202eexe.txt\u200b')).toBe('\\x9b31m\\u202eexe.txt\\u200b');
  });

  it('keeps colours and tabs of a line of output, and nothing else', () => {
    expect(visibleLine('\x1b[1;31mred\x1b[0m\tok')).toBe('\x1b[1;31mred\x1b[0m\tok');
    expect(visibleLine('\x1b[2J\x1b]52;c;AAAA\x07\r')).toBe('\\x1b[2J\\x1b]52;c;AAAA\\x07\\x0d');
    expect(visibleLine('\x1b]8;;javascript:1\x1b\\x')).toBe('\\x1b]8;;javascript:1\\x1b\\x');
  });

  it('leaves no control character in any text, and letters alone', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(visible(text)).not.toMatch(/\p{Cc}/u);
      }),
    );
    expect(visible('Größe 日本 👩‍💻')).toContain('Größe 日本 👩');
  });

  it('keeps a JSON document the same document', () => {
    const value = { a: '\x9b\u202e\x7f', b: ['x\ny'] };
    const shown = visibleJson(JSON.stringify(value));
    expect(shown).not.toMatch(/[\x7f-\x9f]/);
    expect(JSON.parse(shown)).toEqual(value);
  });
});

describe('tables', () => {
  it('keep a cell on its line, whatever its text', () => {
    expect(
      table(
        ['NAME', 'STATE'],
        [
          ['a\nb', 'idle'],
          ['worker-10', ''],
        ],
      ),
    ).toBe('NAME        STATE\na\\x0ab      idle\nworker-10   -\n');
  });

  it('show the two largest units of an age', () => {
    expect([0, 42_000, 190_000, 3_600_000, 277_000_000].map((ms) => age(0, ms))).toEqual([
      '0s',
      '42s',
      '3m10s',
      '1h',
      '3d4h',
    ]);
    expect(age(5000, 0)).toBe('0s');
  });
});
