import { Resume } from '@carrierarr/cli';
import type { ServerMessage } from '@carrierarr/protocol';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

const timestamp = '2025-01-01T00:00:00.000Z';

function lines(offset: number, texts: string[], target = 'w1', epoch = 'e1'): ServerMessage {
  return { type: 'lines', timestamp, target, epoch, offset, execution_id: 'x', stream: 'stdout', lines: texts };
}

describe('a subscription that changes connections', () => {
  it('starts as it was asked to until a gateway has taken it, then where it was', () => {
    const resume = new Resume('w1', { kind: 'tail', lines: 5 });
    expect(resume.subscribe()).toMatchObject({ target: 'w1', tail: 5, batch: true, notices: true, status: false });
    resume.confirm({ type: 'subscribed', timestamp, target: 'w1', epoch: 'e1', offset: 40 });
    expect(resume.subscribe()).toMatchObject({ since: { epoch: 'e1', offset: 40 } });
    expect(resume.subscribe()).not.toHaveProperty('tail');
    resume.admit(lines(41, ['a', 'b']));
    expect(resume.subscribe()).toMatchObject({ since: { epoch: 'e1', offset: 42 } });
  });

  it('does not move its point when a gateway confirms a resumption', () => {
    const resume = new Resume('w1', { kind: 'live' });
    resume.confirm({ type: 'subscribed', timestamp, target: 'w1', epoch: 'e1', offset: 10 });
    resume.admit(lines(11, ['a']));
    resume.confirm({ type: 'subscribed', timestamp, target: 'w1', epoch: 'e1', offset: 8 });
    expect(resume.position('w1')).toEqual({ epoch: 'e1', offset: 11 });
  });

  it('shows every line once and in order, however deliveries overlap', () => {
    const overlaps = fc.array(fc.tuple(fc.nat({ max: 10 }), fc.integer({ min: 1, max: 6 })), { maxLength: 30 });
    fc.assert(
      fc.property(overlaps, (steps) => {
        const resume = new Resume('w1', { kind: 'live' });
        resume.confirm({ type: 'subscribed', timestamp, target: 'w1', epoch: 'e1', offset: 0 });
        const shown: string[] = [];
        let end = 0;
        for (const [back, count] of steps) {
          const first = Math.max(1, end - back + 1);
          const { message, hole } = resume.admit(
            lines(
              first,
              Array.from({ length: count }, (_, at) => String(first + at)),
            ),
          );
          expect(hole).toBeUndefined();
          if (message?.type === 'lines') shown.push(...message.lines);
          end = Math.max(end, first + count - 1);
        }
        expect(shown).toEqual(Array.from({ length: end }, (_, at) => String(at + 1)));
      }),
    );
  });

  it('names a hole that nobody announced', () => {
    const resume = new Resume('w1', { kind: 'live' });
    resume.confirm({ type: 'subscribed', timestamp, target: 'w1', epoch: 'e1', offset: 3 });
    expect(resume.admit(lines(7, ['x'])).hole).toEqual({ target: 'w1', from: 4, to: 6 });
    expect(resume.admit(lines(3, ['x'], 'w1', 'e2')).hole).toEqual({ target: 'w1', from: 1, to: 2 });
  });

  it('goes on behind a gap, and hears of one only once', () => {
    const resume = new Resume('w1', { kind: 'live' });
    const gap: ServerMessage = { type: 'gap', timestamp, target: 'w1', epoch: 'e1', from: 1, to: 9, reason: 'trimmed' };
    expect(resume.admit(gap).message).toBe(gap);
    expect(resume.admit(gap)).toEqual({});
    expect(resume.admit(lines(10, ['x']))).toEqual({ message: lines(10, ['x']) });
  });

  it('resumes a pattern at the point of each target, and those it knows nothing of by time', () => {
    const resume = new Resume('gpu-*', { kind: 'tail', lines: 1 });
    resume.confirm({ type: 'subscribed', timestamp, target: 'gpu-*' });
    resume.admit(lines(5, ['a'], 'gpu-1'));
    resume.admit(lines(9, ['a'], 'gpu-2'));
    expect(resume.subscribe()).toMatchObject({
      target: 'gpu-*',
      since: { time: timestamp },
      positions: { 'gpu-1': { epoch: 'e1', offset: 5 }, 'gpu-2': { epoch: 'e1', offset: 9 } },
    });
  });

  it('keeps within a gateway’s largest message by naming the targets that wrote last', () => {
    const resume = new Resume('*', { kind: 'live' });
    resume.confirm({ type: 'subscribed', timestamp, target: '*' });
    for (let number = 0; number < 5000; number++) resume.admit(lines(1, ['a'], `worker-${number}`));
    const message = resume.subscribe();
    expect(JSON.stringify(message).length).toBeLessThan(64 * 1024);
    expect(message.positions).toHaveProperty('worker-4999');
    expect(message.positions).not.toHaveProperty('worker-0');
    expect(message.since).toEqual({ time: '2024-12-31T23:59:00.000Z' });
  });
});
