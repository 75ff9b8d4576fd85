import { FakeClock } from '@carrierarr/platform';
import { Keys } from '@carrierarr/protocol';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { RedisHealth } from '../../apps/gateway/src/redis-health.js';
import { Status } from '../../apps/gateway/src/status.js';
import { startRedis, type TestRedis } from '../support/redis.js';

let redis: TestRedis;
let connection: Redis;
const keys = new Keys('t');
const clock = new FakeClock();

beforeAll(async () => {
  redis = await startRedis();
  connection = redis.client();
});
afterAll(() => redis.stop());

it('the status is read once for many that ask, and again after half a second', async () => {
  const health = new RedisHealth({ connection, clock, logger: { info: () => undefined, warn: () => undefined } });
  const status = new Status({ connection, keys, redis: health, clock });
  await expect(status.read()).rejects.toThrow('Redis is not available: not asked yet');
  void health.start();
  await vi.waitFor(() => expect(health.state.kind).toBe('available'));
  const read = vi.spyOn(connection, 'hgetall');
  expect(await status.read()).toEqual({ workers: [], timestamp: '2025-01-01T00:00:00.000Z' });
  await connection.hset(
    keys.workers(),
    'b',
    '{"id":"b","provider":"ec2","state":"running"}',
    'a',
    '{"id":"a","provider":"script","state":"up"}',
    'c',
    '{"id":7}',
  );
  clock.advance(499);
  expect(await Promise.all([status.read(), status.read()])).toMatchObject([{ workers: [] }, { workers: [] }]);
  expect(read).toHaveBeenCalledTimes(1);
  clock.advance(1);
  expect((await status.read()).workers.map(({ id }) => id)).toEqual(['a', 'b']);
  health.stop();
});
