import {
  decodeEntry,
  decodePublished,
  encodeEntry,
  type Entry,
  entryCount,
  type LogEvent,
  type Run,
  type StreamLetter,
} from '@carrierarr/protocol';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

const line = fc.string({ unit: 'grapheme', maxLength: 40 }).map((text) => text.replaceAll('\n', '\r'));
const base = {
  execution: fc.constant('01j00000000000000000000000-07'),
  sequence: fc.nat(),
  timeMs: fc.nat({ max: 2 ** 42 }),
};

const linesEntry: fc.Arbitrary<Entry> = fc
  .record({
    ...base,
    parts: fc.array(
      fc.tuple(fc.constantFrom<StreamLetter>('o', 'e', 'l'), fc.array(line, { minLength: 1, maxLength: 5 })),
      { minLength: 1, maxLength: 6 },
    ),
  })
  .map(({ parts, ...rest }) => ({
    ...rest,
    kind: 'lines',
    runs: parts.map(([stream, lines]): Run => ({ stream, lines: lines.length })),
    body: Buffer.from(parts.flatMap(([, lines]) => lines).join('\n')),
  }));

const event: fc.Arbitrary<LogEvent> = fc.oneof(
  fc.record({
    ...{ type: fc.constant('started' as const), command: fc.string(), args: fc.array(fc.string({ unit: 'binary' })) },
    ...{ subject: fc.string(), runner: fc.string(), attempt: fc.nat() },
  }),
  fc.record({ type: fc.constant('error' as const), error: fc.string({ unit: 'binary' }), code: fc.string() }),
  fc.record(
    {
      type: fc.constant('result' as const),
      outcome: fc.constantFrom('succeeded', 'failed', 'killed', 'timed-out', 'lost', 'rejected'),
      exit_code: fc.integer(),
      signal: fc.string(),
      truncated_lines: fc.nat(),
    },
    { requiredKeys: ['type', 'outcome', 'exit_code'] },
  ),
);
const eventEntry: fc.Arbitrary<Entry> = fc.record({ ...base, kind: fc.constant('event' as const), event });
const entry = fc.oneof(linesEntry, eventEntry);

describe('an entry', () => {
  it('is read back as it was written, whatever its lines and runs', () => {
    fc.assert(
      fc.property(entry, (written) => {
        expect(decodeEntry(encodeEntry(written))).toEqual(written);
      }),
    );
  });

  it('counts one offset a line, and one for an event', () => {
    fc.assert(
      fc.property(entry, (written) => {
        const lines = written.kind === 'lines' ? written.body.toString().split('\n').length : 1;
        expect(entryCount(written)).toBe(lines);
      }),
    );
  });

  it('that is damaged, or none at all, is unreadable but never an exception', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(decodeEntry(Buffer.from(bytes)).kind).toBe('unreadable');
      }),
    );
    fc.assert(
      fc.property(entry, fc.nat(), fc.nat({ max: 255 }), (written, at, byte) => {
        const bytes = encodeEntry(written);
        bytes[at % bytes.length] = byte;
        expect(() => decodeEntry(bytes)).not.toThrow();
        expect(() => decodeEntry(bytes.subarray(0, at % bytes.length))).not.toThrow();
      }),
    );
  });

  it('of a version that is not known is unreadable, and says what it saw', () => {
    const newer = Buffer.from('{"v":2,"x":"a","q":1,"t":1,"r":"o1"}\nline');
    expect(decodeEntry(newer)).toMatchObject({ kind: 'unreadable', problem: expect.stringContaining('\\"v\\":2') });
  });
});

describe('a published message', () => {
  const publish = (target: string, written: Entry) =>
    Buffer.concat([
      Buffer.from(`19ab3c 12 ${entryCount(written)} 345 1700000000000 ${target}\n`),
      encodeEntry(written),
    ]);

  it.each(['worker-1', 'two words', 'three  spaces here', '工作机 №7', 'a:b'])('names the target %j', (target) => {
    fc.assert(
      fc.property(entry, (written) => {
        expect(decodePublished(publish(target, written))).toEqual({
          ...{ target, epoch: '19ab3c', last: 12, count: entryCount(written) },
          ...{ partitionSequence: 345, loggedMs: 1_700_000_000_000, entry: written },
        });
      }),
      { numRuns: 20 },
    );
  });

  it.each(['', '\n', 'garbage', 'a b c d e f\n', '19ab3c 0 1 1 1 t\n', '19ab3c 12 1 345 1700\n{}'])(
    'is not %j',
    (text) => {
      expect(() => decodePublished(Buffer.from(text))).toThrow(TypeError);
    },
  );

  it('with an entry that cannot be read still says where it lies', () => {
    const placed = decodePublished(Buffer.from('19ab3c 12 3 345 1700000000000 worker-1\n{"v":2}\nx'));
    expect(placed).toMatchObject({ target: 'worker-1', last: 12, count: 3, entry: { kind: 'unreadable' } });
  });
});
