/** Events are told one at a time, in order, and not without end. */
import { expect, it } from 'vitest';
import { Telling } from '../../../apps/monitor/src/reconciler/telling.js';

const event = (message: string) => ({ type: 'Normal' as const, reason: 'Starting', message });

function setUp(waitingMax?: number) {
  const told: string[] = [];
  const ends: (() => void)[] = [];
  let dropped = 0;
  const stop = new AbortController();
  const telling = new Telling({
    record(_kind, name, { message }) {
      told.push(`${name} ${message}`);
      return new Promise<void>((resolve) => void ends.push(resolve));
    },
    signal: stop.signal,
    onDropped: () => (dropped += 1),
    ...(waitingMax !== undefined && { waitingMax }),
  });
  const next = async () => {
    ends.shift()?.();
    await new Promise((resolve) => void setImmediate(resolve));
  };
  return { telling, told, next, stop, dropped: () => dropped };
}

it('one at a time, in the order in which they happened', async () => {
  const { telling, told, next } = setUp();
  telling.add('Worker', 'a', [event('1'), event('2')]);
  telling.add('Worker', 'b', [event('3')]);
  expect(told).toEqual(['a 1']);
  await next();
  telling.add('Worker', 'c', [event('4')]);
  expect(told).toEqual(['a 1', 'a 2']);
  for (let n = 0; n < 3; n++) await next();
  expect(told).toEqual(['a 1', 'a 2', 'b 3', 'c 4']);
  telling.add('Worker', 'd', [event('5')]);
  expect(told.at(-1)).toBe('d 5');
});

it('no more wait than are allowed, and what is left out is counted', async () => {
  const { telling, told, next, dropped } = setUp(2);
  telling.add('Worker', 'a', [event('0')]);
  telling.add('Worker', 'a', ['1', '2', '3', '4'].map(event));
  expect(dropped()).toBe(2);
  for (let n = 0; n < 5; n++) await next();
  expect(told).toEqual(['a 0', 'a 1', 'a 2']);
});

it('nothing after the term is over', async () => {
  const { telling, told, next, stop } = setUp();
  telling.add('Worker', 'a', [event('1'), event('2')]);
  stop.abort();
  await next();
  telling.add('Worker', 'a', [event('3')]);
  expect(told).toEqual(['a 1']);
});
