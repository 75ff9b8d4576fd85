import type { Lease } from '@carrierarr/store';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LOST_AFTER_MS, LostDetector, OBSERVATION_GAP_MS_MAX } from '../../apps/runner/src/lost-detector.js';

function lease(overrides: Partial<Lease> = {}): Lease {
  return {
    ...{ target: 'w', execution: 'x', fence: 1, state: 'running', runner: 'r', incarnation: 'i', beat: '1' },
    closedUntilMs: 0,
    ...overrides,
  };
}

/** Looks every 2 s from `fromMs` to `toMs`; returns the first time at which something was lost. */
function look(detector: LostDetector, fromMs: number, toMs: number, at: (ms: number) => Lease[]) {
  for (let ms = fromMs; ms <= toMs; ms += 2000) {
    const lost = detector.observe({ leases: at(ms), askedMs: ms, answeredMs: ms + 5 });
    if (lost.length > 0) return { ms, lost };
  }
  return undefined;
}

describe('LostDetector', () => {
  it('finds a lease lost that stood still for ten seconds, within fifteen', () => {
    const found = look(new LostDetector(), 0, 60_000, () => [lease()]);
    expect(found?.ms).toBeGreaterThanOrEqual(LOST_AFTER_MS);
    expect(found?.ms).toBeLessThan(15_000);
    expect(found?.lost[0]?.silentMs).toBeGreaterThanOrEqual(LOST_AFTER_MS);
  });

  it('never finds a lease lost that is renewed now and then', () => {
    expect(
      look(new LostDetector(), 0, 600_000, (ms) => [lease({ beat: String(Math.floor(ms / 9000)) })]),
    ).toBeUndefined();
  });

  it('begins anew when it did not look for a while, as when Redis or itself was away', () => {
    const detector = new LostDetector();
    expect(look(detector, 0, 8000, () => [lease()])).toBeUndefined();
    const backMs = 8000 + OBSERVATION_GAP_MS_MAX + 1000;
    expect(look(detector, backMs, 60_000, () => [lease()])?.ms).toBeGreaterThanOrEqual(backMs + LOST_AFTER_MS);
  });

  it('begins anew for another execution, another start of the runner, or a lease that was away', () => {
    for (const changed of [{ execution: 'y' }, { incarnation: 'j' }]) {
      const found = look(new LostDetector(), 0, 60_000, (ms) => [lease(ms < 8000 ? {} : changed)]);
      expect(found?.ms).toBeGreaterThanOrEqual(8000 + LOST_AFTER_MS);
    }
    const found = look(new LostDetector(), 0, 60_000, (ms) => (ms === 6000 ? [] : [lease()]));
    expect(found?.ms).toBeGreaterThanOrEqual(8000 + LOST_AFTER_MS);
  });

  it('does not look at targets that are closed', () => {
    expect(look(new LostDetector(), 0, 60_000, () => [lease({ state: 'closed' })])).toBeUndefined();
  });

  it('never finds a runner lost that renews each second, whatever outages and pauses there are', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 100, max: 20_000 }), fc.integer({ min: 0, max: 6000 }))),
        (looks) => {
          const detector = new LostDetector();
          let ms = 0;
          for (const [pauseMs, tookMs] of looks) {
            ms += pauseMs;
            // Read at any time between question and answer; renewed at least every 5 s, as after a broken connection.
            const beat = String(Math.floor((ms + tookMs / 2) / 5000));
            const lost = detector.observe({ leases: [lease({ beat })], askedMs: ms, answeredMs: ms + tookMs });
            expect(lost).toEqual([]);
            ms += tookMs;
          }
        },
      ),
    );
  });
});
