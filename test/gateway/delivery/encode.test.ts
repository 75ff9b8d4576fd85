import type { LinesEntry, LogEvent, PlacedEntry, Run } from '@carrierarr/protocol';
import { SERVER_MESSAGES } from '@carrierarr/protocol';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Encoding, writePlaced } from '../../../apps/gateway/src/delivery/encode.js';
import { FrameBuffer } from '../../../apps/gateway/src/delivery/frame-buffer.js';

const execution = '01jd0000000000000000000000-00';

function placed(lines: [Run['stream'], string][], last: number, target = 'w1'): PlacedEntry {
  const runs: Run[] = [];
  for (const [stream] of lines) {
    const run = runs.at(-1);
    if (run?.stream === stream) run.lines += 1;
    else runs.push({ stream, lines: 1 });
  }
  const body = Buffer.from(lines.map(([, text]) => text).join('\n'));
  const entry: LinesEntry = { kind: 'lines', execution, sequence: 1, timeMs: 1_700_000_000_123, runs, body };
  return { target, epoch: 'e', last, count: lines.length, partitionSequence: 1, loggedMs: 1, entry };
}

function event(e: LogEvent): PlacedEntry {
  const entry = { kind: 'event' as const, execution, sequence: 0, timeMs: 0, event: e };
  return { target: 'w1', epoch: 'e', last: 9, count: 1, partitionSequence: 1, loggedMs: 1, entry };
}

const out = new FrameBuffer();

/** The same memory for every frame, as the fan-out uses it. */
function encodePlaced(entry: PlacedEntry, after: number, encoding: Encoding): string {
  out.clear();
  writePlaced(out, entry, after, encoding);
  return out.frame.toString();
}

function messages(text: string): Record<string, unknown>[] {
  return text === '' ? [] : text.split('\n').map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** Lines as a client would print them, from any encoding. */
function printed(text: string): { stream: unknown; data: unknown; offset: number | undefined }[] {
  return messages(text).flatMap((message) =>
    message['type'] === 'lines'
      ? (message['lines'] as string[]).map((data, i) => ({
          stream: message['stream'],
          data,
          offset: (message['offset'] as number) + i,
        }))
      : [{ stream: message['type'], data: message['data'], offset: message['offset'] as number | undefined }],
  );
}

const NAMES = { o: 'stdout', e: 'stderr', l: 'log' } as const;
const line = fc.string({ unit: 'grapheme', maxLength: 30 }).map((text) => text.replaceAll('\n', ' '));
const someLines = fc.array(fc.tuple(fc.constantFrom('o' as const, 'e' as const), line), {
  minLength: 1,
  maxLength: 20,
});

describe('lines', () => {
  it('come out as they went in, in order, in every encoding and from every offset on', () => {
    fc.assert(
      fc.property(
        someLines,
        fc.nat(1000),
        fc.nat(25),
        fc.constantFrom<Encoding>('plain', 'offsets', 'batch'),
        (lines, base, seen, encoding) => {
          const first = base + 1;
          const entry = placed(lines, base + lines.length, 'w "1"\\');
          const text = encodePlaced(entry, base + Math.min(seen, lines.length), encoding);
          const expected = lines
            .map(([stream, data], i) => ({
              stream: NAMES[stream],
              data,
              offset: encoding === 'plain' ? undefined : first + i,
            }))
            .slice(seen);
          expect(printed(text)).toEqual(expected);
          for (const message of messages(text)) expect(message['target']).toBe('w "1"\\');
        },
      ),
    );
  });

  it('are for old clients exactly the fields they know', () => {
    const [message] = messages(encodePlaced(placed([['o', 'hello']], 1), 0, 'plain'));
    expect(message).toEqual({ type: 'stdout', timestamp: '2023-11-14T22:13:20.123Z', target: 'w1', data: 'hello' });
  });

  it('of agents are not shown to old clients', () => {
    const entry = placed(
      [
        ['l', 'agent says'],
        ['o', 'script says'],
      ],
      2,
    );
    expect(messages(encodePlaced(entry, 0, 'plain')).map((m) => m['data'])).toEqual(['script says']);
    expect(messages(encodePlaced(placed([['l', 'x']], 1), 0, 'plain'))).toEqual([]);
    expect(messages(encodePlaced(entry, 0, 'offsets')).map((m) => m['type'])).toEqual(['log', 'stdout']);
  });
});

it('go into one frame with others, however large', () => {
  out.clear();
  const wide = 'é'.repeat(70_000);
  writePlaced(out, placed([['o', 'one']], 1), 0, 'plain');
  writePlaced(
    out,
    placed(
      [
        ['o', wide],
        ['o', wide],
      ],
      3,
    ),
    0,
    'plain',
  );
  writePlaced(out, placed([['o', 'a "quoted" line']], 4), 0, 'plain');
  expect(printed(out.frame.toString()).map(({ data }) => data)).toEqual(['one', wide, wide, 'a "quoted" line']);
});

describe('events', () => {
  const events: LogEvent[] = [
    { type: 'started', command: 'start', args: ['a'], subject: 's', runner: 'r', attempt: 1 },
    { type: 'error', code: 'timed_out', error: 'too long' },
    { type: 'result', outcome: 'killed', exit_code: 143, signal: 'SIGTERM' },
  ];

  it('fit the schemas of the protocol', () => {
    for (const e of events) {
      for (const encoding of ['offsets', 'batch'] as const) {
        const [message] = messages(encodePlaced(event(e), 0, encoding));
        expect(SERVER_MESSAGES[e.type].schema.strict().parse(message)).toMatchObject({ offset: 9, epoch: 'e' });
      }
    }
  });

  it('are for old clients the old ones with the old fields', () => {
    const [started, error, result] = events.map((e) => messages(encodePlaced(event(e), 0, 'plain')));
    expect(started).toEqual([]);
    expect(error).toEqual([{ type: 'error', timestamp: '1970-01-01T00:00:00.000Z', target: 'w1', error: 'too long' }]);
    expect(result).toEqual([{ type: 'result', timestamp: '1970-01-01T00:00:00.000Z', target: 'w1', exit_code: 143 }]);
  });

  it('are skipped when they were seen', () => {
    for (const e of events) expect(encodePlaced(event(e), 9, 'offsets')).toBe('');
  });
});

it('tells what cannot be read as a gap, to old clients as an error', () => {
  const unreadable: PlacedEntry = {
    ...event({ type: 'error', code: 'x', error: 'y' }),
    count: 3,
    entry: { kind: 'unreadable', execution: '', sequence: 0, timeMs: 0, problem: 'newer' },
  };
  expect(messages(encodePlaced(unreadable, 0, 'batch'))[0]).toMatchObject({
    type: 'gap',
    from: 7,
    to: 9,
    reason: 'unreadable',
  });
  expect(messages(encodePlaced(unreadable, 0, 'plain'))[0]).toMatchObject({ type: 'error', target: 'w1' });
});
