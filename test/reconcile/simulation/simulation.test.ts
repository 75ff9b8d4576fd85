/**
 * Many seeds, each a run of a model world. A failing seed is printed; `SIM_SEED=123 npx vitest run
 * test/reconcile/simulation` replays it and tells its story; `SIM_SEEDS=100000` runs more, from `SIM_SEED` on.
 */
import { expect, it } from 'vitest';
import { Broken } from './broken.js';
import { type Run, simulate } from './simulate.js';

const { SIM_SEED, SIM_SEEDS } = process.env;
const firstSeed = Number(SIM_SEED ?? 1);
const seeds = Number(SIM_SEEDS ?? (SIM_SEED === undefined ? 10_000 : 1));
const tell = SIM_SEED !== undefined && seeds === 1 ? (line: string) => process.stdout.write(`${line}\n`) : undefined;

function run(seed: number): Run {
  try {
    return simulate(seed, {}, tell);
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    throw new Error(`seed ${seed}: ${what} (SIM_SEED=${seed} replays it)`, { cause: error });
  }
}

it('keeps every promise in every run', { timeout: 600_000 }, () => {
  const sum: Run = { commands: 0, lost: 0, machines: 0, leaders: 0, removed: 0, idleStops: 0 };
  for (let seed = firstSeed; seed < firstSeed + seeds; seed += 1) {
    const each = run(seed);
    for (const key of Object.keys(sum) as (keyof Run)[]) sum[key] += each[key];
  }
  // What never happens is not tested.
  if (seeds >= 100) expect(Object.entries(sum).filter(([, count]) => count < seeds / 10)).toEqual([]);
});

it.each([
  ['the commands of deposed leaders are accepted', { noFence: true }],
  ['what is stale is taken for fresh', { actOnStale: true }],
  ['polls from before the end of a command are taken for later ones', { trustOldPolls: true }],
  ['what was given before is forgotten', { noExpectations: true }],
] as const)('goes red when %s', { timeout: 60_000 }, (_, breaks) => {
  const isRed = (seed: number) => {
    try {
      simulate(seed, breaks);
      return false;
    } catch (error) {
      expect(error).toBeInstanceOf(Broken);
      return true;
    }
  };
  expect(Array.from({ length: 300 }, (__, index) => index + 1).some(isRed)).toBe(true);
});
