import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  parseJournal,
  type History,
  type JournalEvent,
  type Seen,
  type Session,
  type Submission,
} from '../support/history.js';
import { checkHistory, summarise, tally } from '../support/history-checker.js';

const START = { kind: 'start', ms: 10, execution: 'x1', pid: 1, commandId: 'c1', fence: 1, target: 't' } as const;
const END = { kind: 'end', ms: 20, execution: 'x1', stdout: 4, stderr: 2, exitCode: 0 } as const;
const SECOND: JournalEvent[] = [
  { ...START, ms: 30, execution: 'x2', commandId: 'c2', fence: 2 },
  { ...END, ms: 40, execution: 'x2', stdout: 1, stderr: 0 },
];
const COMMAND: Submission = {
  client: 'a',
  target: 't',
  commandId: 'c1',
  idempotent: false,
  submittedOrder: 1,
  acceptedOrder: 2,
  executions: ['x1'],
  refusals: [],
};
const SECOND_COMMAND: Submission = {
  ...COMMAND,
  commandId: 'c2',
  executions: ['x2'],
  submittedOrder: 3,
  acceptedOrder: 4,
};

const lines = (stream: 'stdout' | 'stderr', from: number, to: number, offset?: number, execution = 'x1'): Seen => ({
  kind: 'lines',
  execution,
  stream,
  from,
  to,
  ...(offset !== undefined && { offset, epoch: 'e' }),
});
const event = (kind: 'started' | 'result', offset: number, execution = 'x1'): Seen => ({
  kind,
  execution,
  offset,
  epoch: 'e',
  ...(kind === 'result' && { outcome: 'succeeded', exitCode: 0 }),
});
const WHOLE: Seen[] = [
  event('started', 1),
  lines('stdout', 1, 2, 2),
  lines('stderr', 1, 1, 4),
  lines('stdout', 3, 4, 5),
  lines('stderr', 2, 2, 7),
  event('result', 8),
];
const SECOND_WHOLE: Seen[] = [event('started', 9, 'x2'), lines('stdout', 1, 1, 10, 'x2'), event('result', 11, 'x2')];

function session(seen: readonly Seen[], more: Partial<Session> = {}): Session {
  return {
    client: 'a',
    protocol: 'v1',
    joinedMs: 0,
    joinedOrder: 0,
    isCut: false,
    seen: new Map([['t', seen]]),
    ...more,
  };
}
function history(more: Partial<History> = {}): History {
  return { submissions: [COMMAND], sessions: [session(WHOLE)], journal: [START, END], ...more };
}
const oldView = (seen: readonly Seen[]): Seen[] =>
  seen
    .filter((one) => one.kind === 'lines' || one.kind === 'result')
    .map((one) => (one.kind === 'lines' ? lines(one.stream, one.from, one.to) : { kind: 'result' }));

describe('a history', () => {
  test('without faults has none', () => {
    const report = checkHistory(history());
    expect(report).toMatchObject({
      lines: 6,
      clients: 1,
      executions: 1,
      lost: 0,
      doubled: 0,
      reordered: 0,
      violations: [],
    });
    expect(summarise('s', report)).toBe(
      'history: s: 6 lines to 1 clients, 0 lost, 0 doubled, 0 reordered, 0 double executions',
    );
  });

  test('seen by an old client without faults has none', () => {
    const sessions = [session(oldView(WHOLE), { protocol: 'old' })];
    expect(checkHistory(history({ sessions }))).toMatchObject({ lines: 6, violations: [] });
  });

  test('of a client that joined in the middle needs only what came after', () => {
    const late = session(WHOLE.slice(3), { joinedMs: 15, joinedOrder: 3, client: 'late' });
    expect(checkHistory(history({ sessions: [session(WHOLE), late] })).violations).toEqual([]);
  });

  test('of an execution that was lost may end anywhere, but not have holes', () => {
    const seen = [
      ...WHOLE.slice(0, 3),
      { kind: 'result', execution: 'x1', outcome: 'lost', offset: 5, epoch: 'e' } as const,
    ];
    expect(checkHistory(history({ sessions: [session(seen)] })).violations).toEqual([]);
    const holed = seen.with(1, lines('stdout', 2, 2, 3)).filter((one) => one.kind !== 'started');
    expect(checkHistory(history({ sessions: [session(holed)] })).lost).toBe(1);
  });

  test('of a client that was cut off needs only what came before', () => {
    const cut = session(WHOLE.slice(0, 3), { isCut: true, client: 'cut' });
    expect(checkHistory(history({ sessions: [session(WHOLE), cut] })).violations).toEqual([]);
  });
});

describe('the checker reports', () => {
  /** What is found when the client saw this instead. */
  const seeing = (seen: readonly Seen[], more: Partial<History> = {}) =>
    checkHistory(history({ sessions: [session(seen)], ...more }));

  test('a line that is missing in the middle', () => {
    const seen = WHOLE.with(3, lines('stdout', 4, 4, 6));
    expect(seeing(seen)).toMatchObject({ lost: 1, doubled: 0, reordered: 0 });
    expect(seeing(seen).violations.join('\n')).toContain('1 lines lost of stdout of x1: 1-2 4 of 4');
  });

  test('lines that are missing at the begin and at the end', () => {
    expect(seeing(WHOLE.toSpliced(1, 1))).toMatchObject({ lost: 2 });
    expect(seeing(WHOLE.toSpliced(4, 1))).toMatchObject({ lost: 1 });
  });

  test('an execution of which nothing was seen, also by a client that is cut off later', () => {
    const two = { submissions: [COMMAND, SECOND_COMMAND], journal: [START, END, ...SECOND] };
    expect(seeing(SECOND_WHOLE, two).lost).toBe(6);
    expect(checkHistory(history({ ...two, sessions: [session(SECOND_WHOLE, { isCut: true })] })).lost).toBe(6);
  });

  test('lines that are missing before a client was cut off', () => {
    const seen = [...WHOLE.toSpliced(4, 1), ...SECOND_WHOLE];
    const journal = [START, END, ...SECOND];
    const submissions = [COMMAND, SECOND_COMMAND];
    expect(checkHistory({ submissions, journal, sessions: [session(seen, { isCut: true })] }).lost).toBe(1);
  });

  test('a line that came twice', () => {
    expect(seeing(WHOLE.toSpliced(4, 0, lines('stdout', 4, 4, 6)))).toMatchObject({
      lost: 0,
      doubled: 1,
      reordered: 0,
    });
  });

  test('lines in the wrong order', () => {
    const seen = [
      lines('stdout', 1, 1),
      lines('stdout', 3, 4),
      lines('stdout', 2, 2),
      lines('stderr', 1, 2),
      event('result', 8),
    ];
    expect(seeing(seen)).toMatchObject({ lost: 0, doubled: 0, reordered: 1 });
  });

  test('a line that came after its outcome, or after lines of the next execution', () => {
    const behind = seeing([...WHOLE.toSpliced(4, 1), lines('stderr', 2, 2)]);
    expect(behind).toMatchObject({ lost: 0, reordered: 1 });
    expect(behind.violations).toContain('a: a line of x1 on t came after its outcome');
    const old = [...oldView(WHOLE.toSpliced(4, 2)), lines('stdout', 1, 1, undefined, 'x2'), lines('stderr', 2, 2)];
    const two = { submissions: [COMMAND, SECOND_COMMAND], journal: [START, END, ...SECOND] };
    expect(checkHistory(history({ ...two, sessions: [session(old, { protocol: 'old', isCut: true })] }))).toMatchObject(
      {
        lost: 0,
        reordered: 1,
      },
    );
  });

  test('lines that no script wrote', () => {
    expect(seeing(WHOLE.with(4, lines('stderr', 2, 3, 7))).violations.join('\n')).toContain(
      'saw line 3 of stderr of x1, which wrote 2',
    );
    expect(seeing([...WHOLE, lines('stdout', 1, 1, 9, 'ghost')]).violations.join('\n')).toContain(
      'ghost on t, which never started',
    );
  });

  test('a hole in the offsets, and a gap', () => {
    expect(seeing(WHOLE.with(5, event('result', 9))).violations.join('\n')).toContain('offset 9 on t where 8 was due');
    expect(seeing([...WHOLE, { kind: 'gap', reason: 'trimmed' }]).violations.join('\n')).toContain('gap on t: trimmed');
  });

  test('clients that disagree on how the streams were interleaved', () => {
    const other = [
      lines('stdout', 1, 4),
      lines('stderr', 1, 2),
      { ...event('result', 0), offset: undefined },
    ] as Seen[];
    const sessions = [session(WHOLE), session(other, { client: 'b' })];
    expect(checkHistory(history({ sessions })).violations).toEqual([
      'b and a saw the streams of x1 interleaved differently',
    ]);
  });

  test('a command that was executed twice, but not one that may be', () => {
    const journal = [
      START,
      END,
      { ...START, execution: 'x2', fence: 2 },
      { ...END, execution: 'x2', stdout: 0, stderr: 0 },
    ];
    const report = checkHistory(history({ journal }));
    expect(report.doubleExecutions).toBe(1);
    expect(report.violations).toContain('command c1 was executed 2 times: x1, x2');
    const again = checkHistory(history({ journal: [START, { ...START, fence: 2 }, END] }));
    expect(again.doubleExecutions).toBe(1);
    const submissions = [{ ...COMMAND, idempotent: true }];
    expect(checkHistory(history({ journal, submissions })).doubleExecutions).toBe(0);
  });

  test('a command with two executions by what its client was told', () => {
    const submissions = [{ ...COMMAND, executions: ['x1', 'x9'] }];
    expect(checkHistory(history({ submissions })).violations).toContain('a was told of 2 executions of c1');
  });

  test('a command that ran as another execution than was told, or that nobody sent', () => {
    const submissions = [{ ...COMMAND, executions: ['x9'] }];
    expect(checkHistory(history({ submissions })).violations.join('\n')).toContain('accepted as x9 but ran as x1');
    expect(checkHistory(history({ submissions: [] })).violations).toContain(
      'command c1 was executed, but nobody sent it',
    );
  });

  test('two scripts at a time on one target', () => {
    const [start, end] = SECOND as [JournalEvent, JournalEvent];
    const two = { submissions: [COMMAND, SECOND_COMMAND], sessions: [session([...WHOLE, ...SECOND_WHOLE])] };
    expect(checkHistory({ ...two, journal: [START, start, END, end] }).violations.join('\n')).toContain(
      'two at a time on t',
    );
    const overlap: JournalEvent = { kind: 'overlap', ms: 29, execution: 'x2', other: 'x1' };
    expect(checkHistory({ ...two, journal: [START, overlap, start, end] }).violations.join('\n')).toContain(
      'two at a time: x2',
    );
    const elsewhere = { ...start, target: 'u' } as JournalEvent;
    expect(
      checkHistory({ ...two, sessions: [], journal: [START, elsewhere, END, end] }).violations.join('\n'),
    ).not.toContain('two at a time');
  });

  test('a fence that did not grow', () => {
    const journal = [START, END, { ...START, execution: 'x2', commandId: 'c2' }];
    expect(checkHistory(history({ journal })).violations.join('\n')).toContain('x2 on t has fence 1, after 1');
  });

  test('commands that started in another order than they were accepted', () => {
    const [start, end] = SECOND as [JournalEvent, JournalEvent];
    const journal = [start, end, { ...START, fence: 3 }, END];
    const sessions = [session([...SECOND_WHOLE, ...WHOLE].map((one) => ({ ...one, offset: undefined })) as Seen[])];
    const found = (second: Submission) =>
      checkHistory({ journal, sessions, submissions: [COMMAND, second] }).violations;
    expect(found(SECOND_COMMAND)).toEqual(['c1 on t was accepted before c2 was sent, but started after it']);
    // Sent at the same time: either order is right.
    expect(found({ ...SECOND_COMMAND, submittedOrder: 1 })).toEqual([]);
  });

  test('an execution without an outcome, with two, and with another for somebody else', () => {
    expect(seeing(WHOLE.slice(0, -1)).violations).toEqual(['a saw no outcome of x1 (c1)']);
    expect(seeing([...WHOLE, event('result', 9)]).violations).toEqual(['a saw more than one outcome of x1']);
    const failed = WHOLE.with(5, { kind: 'result', execution: 'x1', outcome: 'failed', offset: 8, epoch: 'e' });
    const sessions = [session(WHOLE), session(failed, { client: 'b' })];
    expect(checkHistory(history({ sessions })).violations).toEqual(['x1 ended as succeeded and as failed']);
  });

  test('an outcome that the script contradicts', () => {
    expect(checkHistory(history({ journal: [START, { ...END, exitCode: 3 }] })).violations).toEqual([
      'x1 ended as succeeded, but its script with 3',
    ]);
    const seen = [event('started', 1), event('result', 2)];
    expect(checkHistory(history({ journal: [], sessions: [session(seen)] })).violations).toEqual([
      'x1 (c1) ended as succeeded, but its script never started',
    ]);
  });

  test('results that an old client missed or got twice', () => {
    const saw = (seen: Seen[]) => checkHistory(history({ sessions: [session(seen, { protocol: 'old' })] })).violations;
    expect(saw(oldView(WHOLE.slice(0, -1)))).toEqual(['a saw 0 results on t, expected 1']);
    expect(saw([...oldView(WHOLE), { kind: 'result' }])).toEqual(['a saw 2 results on t, expected 1']);
  });
});

test('a tally finds exactly what was taken out of, put twice into and moved within a sequence', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.integer({ min: 1, max: 30 }), { maxLength: 30 }),
      fc.array(fc.nat(29), { maxLength: 5 }),
      (kept, again) => {
        const repeats = again
          .map((index) => kept[index % Math.max(1, kept.length)])
          .filter((number) => number !== undefined);
        const arrived = [...kept, ...repeats];
        const result = tally(
          arrived.map((number) => [number, number] as const),
          { from: 1, to: 30 },
        );
        const behind = kept.filter((number, index) => kept.slice(0, index).some((before) => before > number));
        expect(result).toEqual({ lost: 30 - kept.length, doubled: repeats.length, reordered: behind.length });
      },
    ),
  );
});

test('the journal of the witness is read as it is written', () => {
  const text = 'START\t1\tx\t42\tc\t7\tname\twith tab\nCHILD\t2\tx\t43\nOVERLAP\t3\ty\tx\nEND\t4\tx\t10\t5\t0\n';
  expect(parseJournal(text)).toEqual([
    { kind: 'start', ms: 1, execution: 'x', pid: 42, commandId: 'c', fence: 7, target: 'name\twith tab' },
    { kind: 'child', ms: 2, execution: 'x', pid: 43 },
    { kind: 'overlap', ms: 3, execution: 'y', other: 'x' },
    { kind: 'end', ms: 4, execution: 'x', stdout: 10, stderr: 5, exitCode: 0 },
  ]);
  expect(() => parseJournal('STRAT\t1\tx')).toThrow('Expected a line');
});
