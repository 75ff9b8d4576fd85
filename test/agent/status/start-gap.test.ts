import { FakeClock } from '@carrierarr/platform';
import { expect, it } from 'vitest';
import { StartGap } from '../../../apps/agent/src/status/start-gap.js';

it('lets the first start at once and each other one a gap after the one before, in their order', async () => {
  const clock = new FakeClock();
  const gap = new StartGap(clock, 50);
  const started: [string, number][] = [];
  const start = async (name: string) => {
    await gap.turn();
    started.push([name, clock.monotonicMs()]);
  };
  void start('a');
  void start('b');
  void start('c');
  await clock.advanceAsync(49);
  expect(started).toEqual([['a', 0]]);
  await clock.advanceAsync(51);
  expect(started).toEqual([
    ['a', 0],
    ['b', 50],
    ['c', 100],
  ]);

  await clock.advanceAsync(1_000);
  void start('d');
  await clock.advanceAsync(0);
  expect(started.at(-1)).toEqual(['d', 1_100]);
});
