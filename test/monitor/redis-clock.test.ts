import { FakeClock } from '@carrierarr/platform';
import { expect, it } from 'vitest';
import { RedisClock } from '../../apps/monitor/src/redis-clock.js';

it('tells the time of Redis, however wrong the own clock is, and follows it', async () => {
  const own = new FakeClock(1_000_000);
  let aheadMs = 7_000;
  const clock = new RedisClock(own, async () => own.now() + aheadMs);
  await clock.start();
  expect(clock.now()).toBe(1_007_000);
  own.advance(500);
  expect(clock.now()).toBe(1_007_500);
  aheadMs = -3_000;
  await own.advanceAsync(60_000);
  expect(clock.now()).toBe(own.now() - 3_000);
  clock.stop();
  expect(own.pendingTimers).toBe(0);
});

it('does not believe an answer that took long, and stays as it was when none comes', async () => {
  const own = new FakeClock(1_000_000);
  let answer = async () => own.now() + 5_000;
  const clock = new RedisClock(own, () => answer());
  await clock.start();
  answer = async () => {
    own.advance(3_000);
    return 0;
  };
  await own.advanceAsync(60_000);
  expect(clock.now()).toBe(own.now() + 5_000);
  answer = () => Promise.reject(new Error('no connection'));
  await own.advanceAsync(60_000);
  expect(clock.now()).toBe(own.now() + 5_000);
  clock.stop();
});
