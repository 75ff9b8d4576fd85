import type { StreamLetter } from '@carrierarr/protocol';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { countNewlines } from '../../../libs/execution/src/output/count-newlines.js';
import { type LineBlock, LineSplitter } from '../../../libs/execution/src/output/lines.js';
import { Redactor } from '../../../libs/execution/src/output/redact.js';

function split(chunks: readonly [StreamLetter, Buffer][], lineBytesMax = 1 << 20, secrets: string[] = []) {
  const blocks: LineBlock[] = [];
  const splitter = new LineSplitter({
    lineBytesMax,
    redactor: new Redactor(secrets),
    emit: (block) => blocks.push(block),
  });
  for (const [stream, chunk] of chunks) splitter.feed(stream, chunk);
  splitter.end('o');
  splitter.end('e');
  return blocks;
}

/** Each line by itself, as `<stream>:<text>`. */
function lines(blocks: readonly LineBlock[]): string[] {
  return blocks.flatMap(({ stream, body, lines: count }) => {
    const texts = body.toString('utf8').split('\n');
    expect(texts).toHaveLength(count);
    return texts.map((text) => `${stream}:${text}`);
  });
}

const of = (...texts: string[]) => texts.map((text): ['o', Buffer] => ['o', Buffer.from(text)]);

/** The plain way: all bytes of a stream at once. */
function reference(bytes: Buffer): string[] {
  const found: string[] = [];
  let from = 0;
  for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, from)) {
    const end = at > from && bytes[at - 1] === 13 ? at - 1 : at;
    found.push(bytes.toString('utf8', from, end));
    from = at + 1;
  }
  if (from < bytes.length) found.push(bytes.toString('utf8', from));
  return found;
}

/** Bytes in which everything that matters is frequent. */
const bytes = fc
  .array(
    fc.oneof(
      fc
        .constantFrom('\n', '\r\n', '\r', '', 'a', 'word', '\0', 'é', '漢', '🚀', '\uFEFF')
        .map((text) => Buffer.from(text)),
      fc.uint8Array({ maxLength: 4 }).map((raw) => Buffer.from(raw)),
    ),
    { maxLength: 40 },
  )
  .map((parts) => Buffer.concat(parts));

function chunked(whole: Buffer, cuts: readonly number[]): Buffer[] {
  const at = [...new Set(cuts.map((cut) => cut % (whole.length + 1)))].toSorted((a, b) => a - b);
  return [0, ...at].map((from, i) => whole.subarray(from, at[i] ?? whole.length));
}

it('countNewlines counts newlines, at any alignment, among any bytes', () => {
  const newlineRich = fc.array(fc.oneof(fc.constantFrom(10, 138, 11, 9, 0, 255), fc.nat(255)), { maxLength: 40 });
  fc.assert(
    fc.property(newlineRich, fc.nat(7), (values, skipped) => {
      const whole = Buffer.from(values).subarray(skipped);
      expect(countNewlines(whole)).toBe(whole.filter((byte) => byte === 10).length);
    }),
    { numRuns: 5000 },
  );
});

describe('LineSplitter', () => {
  it('gives the same lines however the bytes are cut into chunks', () => {
    fc.assert(
      fc.property(bytes, fc.array(fc.nat()), (whole, cuts) => {
        const chunks = chunked(whole, cuts).map((chunk): ['o', Buffer] => ['o', chunk]);
        expect(lines(split(chunks))).toEqual(reference(whole).map((line) => `o:${line}`));
      }),
      { numRuns: 2000 },
    );
  });

  it('keeps each stream whole when both are interleaved', () => {
    fc.assert(
      fc.property(bytes, bytes, fc.array(fc.nat()), fc.array(fc.boolean()), (out, err, cuts, turns) => {
        const left = { o: chunked(out, cuts), e: chunked(err, cuts) };
        const fed: [StreamLetter, Buffer][] = [];
        for (let i = 0; left.o.length + left.e.length > 0; i++) {
          const stream = (turns[i % (turns.length || 1)] ? left.e.length > 0 : left.o.length === 0) ? 'e' : 'o';
          fed.push([stream, left[stream].shift() as Buffer]);
        }
        const found = lines(split(fed));
        expect(found.filter((line) => line.startsWith('o:'))).toEqual(reference(out).map((line) => `o:${line}`));
        expect(found.filter((line) => line.startsWith('e:'))).toEqual(reference(err).map((line) => `e:${line}`));
      }),
    );
  });

  it('never gives a line above the bound, marks what it cuts, and cuts between characters', () => {
    fc.assert(
      fc.property(bytes, fc.array(fc.nat()), fc.integer({ min: 1, max: 30 }), (whole, cuts, bytesMax) => {
        const chunks = chunked(whole, cuts).map((chunk): ['o', Buffer] => ['o', chunk]);
        const found = lines(split(chunks, bytesMax));
        const expected = reference(whole);
        expect(found).toHaveLength(expected.length);
        const isRight = found.map((line, i) => {
          const text = line.slice(2);
          const kept = text.replace(/ …\[truncated \d+ bytes\]$/, '');
          if (kept === text) return text === expected[i];
          return Buffer.byteLength(kept) <= bytesMax && expected[i]?.startsWith(kept);
        });
        expect(isRight).toEqual(expected.map(() => true));
      }),
      { numRuns: 2000 },
    );
  });

  it('gives lines of both streams in the order in which they were finished', () => {
    const fed: [StreamLetter, Buffer][] = [
      ['o', Buffer.from('begun')],
      ['e', Buffer.from('first\n')],
      ['o', Buffer.from(' later\nnext\n')],
    ];
    expect(lines(split(fed))).toEqual(['e:first', 'o:begun later', 'o:next']);
  });

  it('takes \\r\\n as a line end, also over a chunk border, and a bare \\r as text', () => {
    expect(lines(split(of('a\r', '\nb\r\n10%\r20%\nend\r')))).toEqual(['o:a', 'o:b', 'o:10%\r20%', 'o:end\r']);
  });

  it('cuts a line of 16 MiB without keeping it', () => {
    const piece = Buffer.alloc(64 * 1024, 'x');
    const chunks = Array.from({ length: 256 }, (): ['o', Buffer] => ['o', piece]);
    const blocks = split([...chunks, ['o', Buffer.from('\nshort\n')]], 256 * 1024);
    expect(blocks.map((block) => block.cut)).toEqual([1, 0]);
    expect(blocks[0]?.body.length).toBeLessThan(257 * 1024);
    expect(blocks[0]?.body.toString('latin1', 256 * 1024)).toMatch(/\[truncated 16515072 bytes\]$/);
    expect(lines(blocks).at(-1)).toBe('o:short');
  });

  it('finds a secret on the border of two chunks and on the cut of a long line', () => {
    expect(lines(split(of('my hunt', 'er22 pass\n'), 100, ['hunter22']))).toEqual(['o:my *** pass']);
    expect(lines(split(of('hunt', 'er22'), 100, ['hunter22']))).toEqual(['o:***']);
    for (let bound = 8; bound < 40; bound++) {
      const [line = ''] = lines(split(of(`${'x'.repeat(12)}hunter22${'y'.repeat(40)}\n`), bound, ['hunter22']));
      expect(line).not.toMatch(/x[hunter2]/);
    }
    // The bytes that are kept of a line above the bound end in the middle of a secret.
    for (let length = 90; length < 130; length++) {
      const text = `${'hunter22'.repeat(9)}${'x'.repeat(length - 72)}hunter22${'z'.repeat(200)}`;
      expect(lines(split(of(text), 100, ['hunter22']))[0]).not.toContain('hun');
    }
  });
});
