import { describe, expect, it } from 'vitest';
import { exitOf, judgeLook, type Situation } from '../../../apps/runner/src/executors/agent-verdict.js';

const patience = { outageGraceMs: 60_000, killGraceMs: 10_000 };
const calm: Situation = { lookedForMs: 3_600_000 };
const mail = (outOfTouchMs: number, state: 'waiting' | 'sent' | 'accepted' = 'accepted', isCancellable = true) => ({
  ...{ kind: 'under-way' as const, state, outOfTouchMs, isCancellable },
});
const judge = (look: Parameters<typeof judgeLook>[0], situation = calm) => judgeLook(look, situation, patience).kind;
const ending = (sinceMs: number, cause: 'kill-requested' | 'timed-out' = 'kill-requested'): Situation => ({
  ...{ ...calm, ending: { sinceMs, graceMs: 10_000, cause } },
});

describe('a look at the mail of a command', () => {
  it('waits as long as its agent may be running it', () => {
    expect(judge(mail(0))).toBe('wait');
    expect(judge(mail(75_000))).toBe('wait');
    expect(judge(mail(75_001))).toBe('lost');
    expect(judge(mail(75_001, 'sent'))).toBe('lost');
  });

  it('takes back what was not sent as soon as nobody can deliver it', () => {
    expect(judge(mail(60_000, 'waiting'))).toBe('wait');
    expect(judge(mail(60_001, 'waiting'))).toBe('undeliverable');
  });

  it('does not hold an agent for gone because Redis was away: monitors could not say that it is there', () => {
    expect(judge(mail(600_000), { lookedForMs: 9_999 })).toBe('wait');
    expect(judge(mail(600_000, 'waiting'), { lookedForMs: 9_999 })).toBe('wait');
    expect(judge(mail(600_000), { lookedForMs: 10_000 })).toBe('lost');
  });

  it('waits for an agent that was told to end it, for its grace and some more', () => {
    expect(judge(mail(1_000), ending(15_000))).toBe('wait');
    expect(judge(mail(1_000), ending(15_001))).toBe('lost');
  });

  it('waits on while the agent that was to be told is out of reach: it may be running it', () => {
    expect(judge(mail(6_001), ending(15_001))).toBe('wait');
    expect(judge(mail(75_001), ending(15_001))).toBe('lost');
  });

  it('gives up at once when an agent cannot be told, but lets it keep the timeout it was given', () => {
    expect(judge(mail(0, 'sent', false), ending(0))).toBe('lost');
    expect(judge(mail(0, 'sent', false), ending(0, 'timed-out'))).toBe('wait');
    expect(judge(mail(0, 'sent', false), ending(15_001, 'timed-out'))).toBe('lost');
  });

  it('is lost when Redis has forgotten it', () => {
    expect(judge({ kind: 'gone' })).toBe('lost');
  });
});

describe('the exit code of a result', () => {
  const result = { end: 'exited', exit_code: 0, sequence: 0, lines: 0, truncated_lines: 0 } as const;

  it('is that of the program, or by its signal', () => {
    expect(exitOf({ ...result, exit_code: 7 })).toEqual({ code: 7 });
    expect(exitOf({ ...result, exit_code: -1, signal: 'SIGSEGV' })).toEqual({ code: 139 });
    expect(exitOf({ ...result, exit_code: -1 })).toEqual({ code: 255 });
  });

  it('is not 0 when the agent says that it failed', () => {
    expect(exitOf({ ...result, success: false })).toEqual({ code: 1 });
    expect(exitOf({ ...result, error: 'no such unit' })).toEqual({ code: 1 });
    expect(exitOf({ ...result, success: true, error: '' })).toEqual({ code: 0 });
  });
});
