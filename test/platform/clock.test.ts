import { backoffMs, FakeClock, sleep } from '@carrierarr/platform';
import { assert, integer, nat, property } from 'fast-check';
import { describe, expect, it } from 'vitest';

describe('FakeClock', () => {
  it('runs due timers in the order of their time, then of their setting', () => {
    const clock = new FakeClock(1_000);
    const seen: string[] = [];
    const note = (name: string) => () => void seen.push(`${name}@${clock.monotonicMs()}`);
    clock.setTimeout(note('late'), 20);
    clock.setTimeout(note('first'), 10);
    clock.setTimeout(note('second'), 10);
    clock.advance(9);
    expect(seen).toEqual([]);
    clock.advance(11);
    expect(seen).toEqual(['first@10', 'second@10', 'late@20']);
    expect(clock.now()).toBe(1_020);
    expect(clock.pendingTimers).toBe(0);
  });

  it('runs timers that others set when they fall due too', () => {
    const clock = new FakeClock();
    const seen: number[] = [];
    const again = () => {
      seen.push(clock.monotonicMs());
      clock.setTimeout(again, 10);
    };
    clock.setTimeout(again, 10);
    clock.advance(35);
    expect(seen).toEqual([10, 20, 30]);
  });

  it('repeats intervals until they are cancelled', () => {
    const clock = new FakeClock();
    let count = 0;
    const timer = clock.setInterval(() => {
      count += 1;
      if (count === 3) timer.cancel();
    }, 5);
    clock.advance(100);
    expect(count).toBe(3);
  });

  it('does not run a cancelled timer', () => {
    const clock = new FakeClock();
    let hasRun = false;
    clock.setTimeout(() => (hasRun = true), 5).cancel();
    clock.advance(10);
    expect(hasRun).toBe(false);
  });

  it('lets promises settle between timers when advanced asynchronously', async () => {
    const clock = new FakeClock();
    const seen: number[] = [];
    const loop = async () => {
      for (let turn = 0; turn < 3; turn++) {
        await sleep(clock, 10);
        seen.push(clock.monotonicMs());
      }
    };
    const done = loop();
    await clock.advanceAsync(30);
    expect(seen).toEqual([10, 20, 30]);
    await done;
  });
});

describe('backoffMs', () => {
  it('is random below a bound that doubles up to the cap', () => {
    const bounds = [0, 1, 2, 3, 4, 2_000].map((attempt) =>
      backoffMs({ attempt, baseMs: 100, capMs: 1_000, random: () => 0.999_999 }),
    );
    expect(bounds).toEqual([99, 199, 399, 799, 999, 999]);
    expect(backoffMs({ attempt: 5, baseMs: 100, capMs: 1_000, random: () => 0 })).toBe(0);
  });

  it('never leaves its bounds', () => {
    assert(
      property(nat(5_000), integer({ min: 1, max: 1e6 }), integer({ min: 1, max: 1e6 }), (attempt, baseMs, capMs) => {
        const ms = backoffMs({ attempt, baseMs, capMs });
        expect(Number.isInteger(ms) && ms >= 0 && ms < capMs).toBe(true);
      }),
    );
  });
});
