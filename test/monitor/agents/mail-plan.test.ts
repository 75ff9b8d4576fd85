import { describe, expect, it } from 'vitest';
import { type Mail, planMail, REPEAT_MS, type StreamMail } from '../../../apps/monitor/src/agents/mail-plan.js';

const mail = (overrides: Partial<Mail> = {}): Mail => ({
  ...{ execution: 'x', fence: 7, state: 'waiting', isKilled: false, hasLease: true },
  ...overrides,
});
const stream = (overrides: Partial<StreamMail> = {}): StreamMail => ({
  ...{ streamsCommands: true, sentMs: new Map(), running: new Map(), cancelled: new Map() },
  ...overrides,
});
const old = (overrides: Partial<StreamMail> = {}) => stream({ streamsCommands: false, ...overrides });
const plan = (mails: Mail[], to: StreamMail, { nowMs = 100_000, round = 5, gone = (): boolean => false } = {}) =>
  planMail(mails, to, { nowMs, round, gone });
const send = { kind: 'send', execution: 'x' };
const cancel = (reason: string, fence = 7) => ({ kind: 'cancel', execution: 'x', fence, reason });
const sent = (ms = 100_000) => ({ sentMs: new Map([['x', ms]]) });
const running = (round = 1, fence = 7) => ({ running: new Map([['x', { fence, round }]]) });

describe('a command', () => {
  it('is sent when it waits', () => {
    expect(plan([mail()], stream())).toEqual([send]);
    expect(plan([mail()], old())).toEqual([send]);
  });

  it('goes to an agent in use today once', () => {
    expect(plan([mail({ state: 'sent' })], old())).toEqual([]);
    expect(plan([mail()], old(sent(0)))).toEqual([]);
  });

  it('goes to ours until it says that it has it', () => {
    expect(plan([mail({ state: 'sent' })], stream())).toEqual([send]);
    expect(plan([mail({ state: 'sent' })], stream(sent(100_000 - REPEAT_MS + 1)))).toEqual([]);
    expect(plan([mail({ state: 'sent' })], stream(sent(100_000 - REPEAT_MS)))).toEqual([send]);
    expect(plan([mail({ state: 'accepted' })], stream({ ...sent(0), ...running() }))).toEqual([]);
  });

  it('that was accepted over another stream is sent again, for the agent may have lost it', () => {
    expect(plan([mail({ state: 'accepted' })], stream())).toEqual([send]);
  });

  it('whose runner is gone is never sent, is dropped, and ends where it runs', () => {
    const lost = mail({ hasLease: false });
    const drop = { kind: 'drop', execution: 'x', fence: 7 };
    expect(plan([lost], stream())).toEqual([drop]);
    expect(plan([lost], stream(sent()))).toEqual([cancel('fenced'), drop]);
    expect(plan([lost], stream(running()))).toEqual([cancel('fenced'), drop]);
    expect(plan([lost], old(sent()))).toEqual([drop]);
  });

  it('is ended when it is killed, and that is said again after a while', () => {
    const killed = mail({ state: 'accepted', isKilled: true });
    expect(plan([killed], stream(running()))).toEqual([cancel('kill')]);
    const told = (ms: number) => ({ cancelled: new Map([['x', { reason: 'kill' as const, ms }]]) });
    expect(plan([killed], stream({ ...running(), ...told(99_999) }))).toEqual([]);
    expect(plan([killed], stream({ ...running(), ...told(100_000 - REPEAT_MS) }))).toEqual([cancel('kill')]);
    expect(plan([killed], old(sent()))).toEqual([]);
  });
});

describe('what an agent runs', () => {
  it('ends when it has no mail any more', () => {
    expect(plan([], stream(running(1, 0)), { gone: () => true })).toEqual([cancel('fenced', 0)]);
    expect(plan([], stream(running()), { gone: () => false })).toEqual([]);
    expect(plan([], old(running()), { gone: () => true })).toEqual([]);
  });

  it('does not end because a look that began before it did not see it', () => {
    expect(plan([], stream(running(5)), { round: 5, gone: () => true })).toEqual([]);
  });

  it('is told at once when the reason becomes a worse one', () => {
    const told = { cancelled: new Map([['x', { reason: 'kill' as const, ms: 100_000 }]]) };
    expect(plan([], stream({ ...running(), ...told }), { gone: () => true })).toEqual([cancel('fenced')]);
  });
});
