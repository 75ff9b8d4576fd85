import { inSlices } from '@carrierarr/store';
import { expect, it } from 'vitest';

/** Work of so many steps of so many milliseconds each, by the clock that it is given. */
function workOf(
  steps: number,
  stepMs: number,
  onStep: () => void,
): { clock: { monotonicMs: () => number }; steps: Generator<void, string> } {
  let nowMs = 0;
  function* work(): Generator<void, string> {
    for (let i = 0; i < steps; i++) {
      nowMs += stepMs;
      onStep();
      yield;
    }
    return 'done';
  }
  return { clock: { monotonicMs: () => nowMs }, steps: work() };
}

/** How often others had their turn before each slice of this work, but the first. */
async function turnsBetweenSlices(steps: number, stepMs: number): Promise<number[]> {
  let turns = 0;
  let isThrough = false;
  const others = () => {
    if (isThrough) return;
    turns += 1;
    setImmediate(others);
  };
  setImmediate(others);
  const seen: number[] = [];
  const { clock, steps: work } = workOf(steps, stepMs, () => seen.push(turns));
  await inSlices(work, clock);
  isThrough = true;
  return seen.map((at, i) => at - (seen[i - 1] ?? 0)).filter((gap) => gap > 0);
}

it('long work rests after each slice of it, and others have turn after turn meanwhile', async () => {
  const gaps = await turnsBetweenSlices(100, 1);
  // Slices of 2 ms.
  expect(gaps.length).toBe(49);
  // Somewhere among so many rests the machine lets them: a mere turn each would be 49.
  expect(gaps.reduce((sum, gap) => sum + gap)).toBeGreaterThan(2 * gaps.length);
});

it('very long work rests a hundred times, then only lets others have their turn', async () => {
  const gaps = await turnsBetweenSlices(200, 2);
  expect(gaps.length).toBe(199);
  expect(gaps.slice(100)).toEqual(Array.from({ length: 99 }, () => 1));
});

it('short work is done at once', async () => {
  expect(await turnsBetweenSlices(100, 0.0199)).toEqual([]);
});

it('what the work returns or throws is handed on', async () => {
  const { clock, steps } = workOf(3, 1, () => undefined);
  await expect(inSlices(steps, clock)).resolves.toBe('done');
  const broken = (function* () {
    yield;
    throw new Error('the work failed');
  })();
  await expect(inSlices(broken, clock)).rejects.toThrow('the work failed');
});
