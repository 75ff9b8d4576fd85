import { inSlices } from '@carrierarr/platform';
import { expect, it } from 'vitest';

/** Work of so many steps of so many milliseconds each, by the clock that it is given. */
function workOf(
  steps: number,
  stepMs: number,
): { clock: { monotonicMs: () => number }; steps: Generator<void, string> } {
  let nowMs = 0;
  function* work(): Generator<void, string> {
    for (let i = 0; i < steps; i++) {
      nowMs += stepMs;
      yield;
    }
    return 'done';
  }
  return { clock: { monotonicMs: () => nowMs }, steps: work() };
}

/** How often others had their turn until this was through. */
async function turnsDuring(work: Promise<unknown>): Promise<number> {
  let turns = 0;
  let isThrough = false;
  const others = () => {
    if (isThrough) return;
    turns += 1;
    setImmediate(others);
  };
  setImmediate(others);
  await work;
  isThrough = true;
  return turns;
}

it('long work lets others have their turn after each slice of it', async () => {
  const { clock, steps } = workOf(100, 1);
  const turns = await turnsDuring(inSlices(steps, clock));
  // 33 slices of 3 ms.
  expect(turns).toBeGreaterThanOrEqual(30);
  expect(turns).toBeLessThanOrEqual(36);
});

it('short work is done at once', async () => {
  const { clock, steps } = workOf(100, 0.02);
  expect(await turnsDuring(inSlices(steps, clock))).toBe(0);
});

it('what the work returns or throws is handed on', async () => {
  const { clock, steps } = workOf(3, 1);
  await expect(inSlices(steps, clock)).resolves.toBe('done');
  const broken = (function* () {
    yield;
    throw new Error('the work failed');
  })();
  await expect(inSlices(broken, clock)).rejects.toThrow('the work failed');
});
