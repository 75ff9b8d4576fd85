import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ERROR_BACKOFF_MS_MAX,
  FAST_POLL_MS_MIN,
  isTransition,
  nextPollMs,
  type Rhythm,
} from '../../../apps/monitor/src/observe/poll-rhythm.js';

const next = (facts: Partial<Rhythm> = {}) =>
  nextPollMs({
    ...{ pollMs: 30_000, pollMsMax: 60_000, isInTransition: false, quietForMs: 0, failures: 0, jitter: 0.5 },
    ...facts,
  });

describe('the time to the next poll', () => {
  it('is the configured one as long as something changed lately', () => {
    expect(next()).toBe(30_000);
    expect(next({ quietForMs: 299_999 })).toBe(30_000);
  });

  it('is a sixth of it while workers start or stop, but not below five seconds', () => {
    expect(next({ isInTransition: true })).toBe(5_000);
    expect(next({ isInTransition: true, pollMs: 120_000 })).toBe(20_000);
    expect(next({ isInTransition: true, pollMs: 12_000 })).toBe(FAST_POLL_MS_MIN);
  });

  it('is never longer in transition than otherwise', () => {
    expect(next({ isInTransition: true, pollMs: 1_000 })).toBe(1_000);
  });

  it('grows while nothing changes, up to the bound', () => {
    expect(next({ quietForMs: 450_000 })).toBe(45_000);
    expect(next({ quietForMs: 600_000 })).toBe(60_000);
    expect(next({ quietForMs: 86_400_000 })).toBe(60_000);
  });

  it('grows with each failure in a row, half of it by chance', () => {
    expect(next({ failures: 1, jitter: 0 })).toBe(15_000);
    expect(next({ failures: 1, jitter: 1 })).toBe(30_000);
    expect(next({ failures: 2, jitter: 0 })).toBe(30_000);
    expect(next({ failures: 3, jitter: 0 })).toBe(60_000);
  });

  it('is never above five minutes after failures, nor outside its bounds otherwise', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1_000, max: 3_600_000 }),
        fc.integer({ min: 1, max: 4 }),
        fc.boolean(),
        fc.nat(10 ** 9),
        fc.nat(10_000),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (pollMs, times, isInTransition, quietForMs, failures, jitter) => {
          const facts = { pollMs, pollMsMax: pollMs * times, isInTransition, quietForMs, jitter };
          const good = nextPollMs({ ...facts, failures: 0 });
          expect(good).toBeGreaterThanOrEqual(Math.min(pollMs, FAST_POLL_MS_MIN));
          expect(good).toBeLessThanOrEqual(pollMs * times);
          const bad = nextPollMs({ ...facts, failures: failures + 1 });
          expect(bad).toBeGreaterThan(0);
          expect(bad).toBeLessThanOrEqual(ERROR_BACKOFF_MS_MAX);
        },
      ),
    );
  });
});

it.each(['pending', 'PENDING', 'stopping', 'shutting-down', 'PROVISIONING', 'DEPROVISIONING', 'starting'])(
  '%s is a state that passes',
  (state) => expect(isTransition(state)).toBe(true),
);
it.each(['running', 'RUNNING', 'stopped', 'STOPPED', 'terminated', 'gone', 'unknown', ''])(
  '%s is a state that stays',
  (state) => expect(isTransition(state)).toBe(false),
);
