import { array, assert, constantFrom, nat, property, tuple } from 'fast-check';
import { expect, it } from 'vitest';
import { Delays } from '../../../apps/monitor/src/reconciler/delays.js';

it('gives keys back in the order of their times, each at the earliest that was set', () => {
  const entry = tuple(constantFrom(...'abcdefghij'.split('')), nat(1_000));
  assert(
    property(array(entry, { maxLength: 200 }), (entries) => {
      const delays = new Delays();
      const earliest = new Map<string, number>();
      for (const [key, dueMs] of entries) {
        delays.set(key, dueMs);
        earliest.set(key, Math.min(dueMs, earliest.get(key) ?? Infinity));
      }
      expect(delays.size).toBe(earliest.size);
      const times: number[] = [];
      for (let nowMs = 0; nowMs <= 1_000; nowMs += 100) {
        for (let key = delays.take(nowMs); key !== undefined; key = delays.take(nowMs)) {
          const dueMs = earliest.get(key) as number;
          expect(dueMs).toBeLessThanOrEqual(nowMs);
          times.push(dueMs);
          earliest.delete(key);
        }
        expect([...earliest.values()].every((dueMs) => dueMs > nowMs)).toBe(true);
        expect(delays.nextMs ?? Infinity).toBe(Math.min(Infinity, ...earliest.values()));
      }
      expect(times).toEqual(times.toSorted((a, b) => a - b));
    }),
  );
});

it('forgets a key that was deleted, and takes a later time for it then', () => {
  const delays = new Delays();
  delays.set('a', 10);
  delays.delete('a');
  expect(delays.take(100)).toBeUndefined();
  delays.set('a', 200);
  expect(delays.nextMs).toBe(200);
});

it('keeps its heap within bounds when the same keys are set earlier again and again', () => {
  const delays = new Delays();
  for (let ms = 1_000_000; ms > 0; ms -= 10) delays.set('a', ms);
  expect(delays.size).toBe(1);
  expect(delays.take(10)).toBe('a');
  expect(delays.nextMs).toBeUndefined();
});
