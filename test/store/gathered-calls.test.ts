import { defineScripts } from '@carrierarr/store';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { GatheredCalls } from '../../libs/store/src/gathered-calls.js';
import { startRedis, type TestRedis } from '../support/redis.js';

let redis: TestRedis;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

describe('gathered calls', () => {
  it('are written to the socket at once, in their order, and each has its own answer', async () => {
    const connection = redis.client();
    defineScripts(connection);
    await connection.ping();
    const calls = new GatheredCalls(connection);
    const writes = vi.spyOn(connection.stream, '_writev');
    const answers = [1, 2, 3].map((n) => calls.add(() => connection.rpush('list', String(n))));
    expect(await Promise.all(answers)).toEqual([1, 2, 3]);
    expect(writes).toHaveBeenCalledTimes(1);
    expect(await connection.lrange('list', '0', '-1')).toEqual(['1', '2', '3']);
  });

  it('do not wait when there are as many as may be', async () => {
    const connection = redis.client();
    const calls = new GatheredCalls(connection);
    let made = 0;
    const call = async () => (made += 1);
    for (let i = 1; i < 64; i += 1) void calls.add(call);
    expect(made).toBe(0);
    void calls.add(call);
    expect(made).toBe(64);
  });

  it('fail by themselves, and leave the socket usable for others', async () => {
    const connection = redis.client();
    await connection.ping();
    const calls = new GatheredCalls(connection);
    await connection.set('text', 'x');
    const [failed, fine] = await Promise.allSettled([
      calls.add(() => connection.incr('text')),
      calls.add(() => connection.get('text')),
    ]);
    expect(failed).toMatchObject({ status: 'rejected' });
    expect(fine).toEqual({ status: 'fulfilled', value: 'x' });
    await expect(
      calls.add(async () => {
        throw new Error('at once');
      }),
    ).rejects.toThrow('at once');
    expect(await connection.ping()).toBe('PONG');
  });
});
