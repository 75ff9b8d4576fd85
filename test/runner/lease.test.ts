import { FakeClock } from '@carrierarr/platform';
import type { RenewAnswer } from '@carrierarr/store';
import { describe, expect, it } from 'vitest';
import { LeaseKeeper } from '../../apps/runner/src/lease.js';

function setup(answer: () => Promise<RenewAnswer>) {
  const clock = new FakeClock();
  const seen: string[] = [];
  const keeper = new LeaseKeeper({ renew: answer, clock, outageGraceMs: 35_000 });
  keeper.start();
  keeper.hold(
    {
      ...{ target: 'w', execution: 'x', fence: 1 },
      beat: () => void seen.push('beat'),
      onKillRequested: (by) => void seen.push(`kill ${by}`),
      onFenced: () => void seen.push('fenced'),
      onOutOfTouch: (ms) => void seen.push(`out of touch ${ms}`),
    },
    clock.monotonicMs(),
  );
  return { clock, seen, keeper };
}

describe('LeaseKeeper', () => {
  it('gives the watchdog a heartbeat each second while Redis renews', async () => {
    const { clock, seen } = setup(async () => ({ kind: 'ok' }));
    await clock.advanceAsync(3000);
    expect(seen).toEqual(['beat', 'beat', 'beat']);
  });

  it('passes a kill request on, also between two seconds when it is announced', async () => {
    const { clock, seen, keeper } = setup(async () => ({ kind: 'ok', killRequestedBy: 'ann' }));
    expect(keeper.refresh('other')).toBe(false);
    expect(keeper.refresh('x')).toBe(true);
    await clock.advanceAsync(0);
    expect(seen).toEqual(['kill ann']);
  });

  it('tells once that it was fenced, and lets go', async () => {
    const { clock, seen, keeper } = setup(async () => ({ kind: 'fenced' }));
    await clock.advanceAsync(5000);
    expect(seen.filter((what) => what !== 'beat')).toEqual(['fenced']);
    expect(keeper.refresh('x')).toBe(false);
  });

  it('bears an outage of Redis of more than 30 s, but not of 36', async () => {
    let isAway = true;
    const { clock, seen } = setup(async () => {
      if (isAway) throw new Error('away');
      return { kind: 'ok' };
    });
    await clock.advanceAsync(33_000);
    isAway = false;
    await clock.advanceAsync(1000);
    isAway = true;
    await clock.advanceAsync(33_000);
    expect(seen.every((what) => what === 'beat')).toBe(true);
    await clock.advanceAsync(3000);
    expect(seen.at(-1)).toMatch(/^out of touch 3[56]000$/);
    // Without heartbeats the watchdog ends the script even if the kill fails.
    expect(seen.lastIndexOf('beat')).toBeLessThan(seen.length - 1);
  });

  it('counts a renewal from when it was sent: one that hangs in a frozen Redis proves nothing later', async () => {
    let answer: (value: RenewAnswer) => void = () => undefined;
    const { clock, seen } = setup(() => new Promise((resolve) => (answer = resolve)));
    await clock.advanceAsync(34_500);
    answer({ kind: 'ok' });
    await clock.advanceAsync(2000);
    expect(seen.some((what) => what.startsWith('out of touch'))).toBe(true);
  });
});
