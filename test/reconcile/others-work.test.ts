import { othersWork, type TargetCommand } from '@carrierarr/reconcile';
import { describe, expect, it } from 'vitest';
import { given, NOW_MS, worker } from './builders.js';

const OWN = 'cr:uid-w1:1:2:start';
const EARLIER = 'cr:uid-w1:1:1:start';
const OF_ANOTHER = 'cr:uid-w0:1:2:start';
const status = {
  observedGeneration: 1,
  phase: 'Pending' as const,
  conditions: [],
  target: 'w1',
  attempts: 2,
  failures: 0,
};
const w1 = worker({ status: { ...status, lastCommand: given({ token: OWN }) } });

const runs = (subject: string, token?: string): TargetCommand => ({
  ...{ subject, token, hasEnded: false, endedAtMs: undefined },
});
const ended = (subject: string, agoMs: number, token?: string): TargetCommand => ({
  ...{ subject, token, hasEnded: true, endedAtMs: NOW_MS - agoMs },
});

describe('a target', () => {
  it("is not busy with the Worker's own last command", () => {
    const commands = [runs('system:reconciler', OWN), ended('alice', 5)];
    expect(othersWork(w1, commands)).toEqual({ busy: false, endedAtMs: NOW_MS - 5 });
    expect(othersWork(w1, [])).toEqual({ busy: false, endedAtMs: undefined });
  });

  it('is busy with everything else that runs or waits', () => {
    for (const command of [
      ...[runs('alice'), runs('alice', OWN), runs('system:reconciler', EARLIER)],
      ...[runs('system:reconciler', OF_ANOTHER), runs('system:reconciler')],
      // A monitor ends the machine of a dead node.
      runs('system:monitor'),
    ])
      expect(othersWork(w1, [command])).toEqual({ busy: true, endedAtMs: undefined });
    expect(othersWork(worker({}), [runs('system:reconciler', OWN)]).busy).toBe(true);
  });
});

describe('the end of the work of others', () => {
  it('is the last one', () => {
    const commands = [ended('alice', 9), ended('bob', 5), ended('alice', 7)];
    expect(othersWork(w1, commands)).toEqual({ busy: false, endedAtMs: NOW_MS - 5 });
  });

  it('is not that of a command of the same Worker, whichever it was, but of one of the same name before it', () => {
    const own = [ended('system:reconciler', 1, OWN), ended('system:reconciler', 2, EARLIER)];
    expect(othersWork(w1, own)).toEqual({ busy: false, endedAtMs: undefined });
    const before = ended('system:reconciler', 4, OF_ANOTHER);
    expect(othersWork(w1, [...own, before])).toEqual({ busy: false, endedAtMs: NOW_MS - 4 });
  });

  it('is not that of what made nothing for the one before it: that one went when its machine had been seen to be gone', () => {
    const before = ['stop', 'terminate'].map((verb) => ended('system:reconciler', 4, `cr:before:1:7:${verb}`));
    expect(othersWork(w1, before)).toEqual({ busy: false, endedAtMs: undefined });
    // One that still runs may undo what would be given now.
    expect(othersWork(w1, [runs('system:reconciler', 'cr:before:1:7:terminate')]).busy).toBe(true);
  });
});
