import { COMMAND_QUEUE, Keys } from '@carrierarr/protocol';
import { DrainQueue } from '@carrierarr/store';
import { Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { startRedis, type TestRedis } from '../support/redis.js';

let redis: TestRedis;
const keys = new Keys('t');
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

it('works although it was made, and failed, before its connection was there', async () => {
  const connection = new Redis(redis.port, '127.0.0.1', {
    lazyConnect: true,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
  });
  connection.on('error', () => undefined);
  const queue = new DrainQueue(connection, keys);
  await expect(queue.add('w1')).rejects.toThrow();
  // The first use made it connect.
  await vi.waitFor(() => expect(connection.status).toBe('ready'));
  await queue.add('w1');
  await queue.add('w1');
  expect(await queue.counts()).toMatchObject({ waiting: 1 });
  const seen: string[] = [];
  const worker = new Worker(COMMAND_QUEUE, async (job) => void seen.push((job.data as { target: string }).target), {
    connection: { host: '127.0.0.1', port: redis.port, maxRetriesPerRequest: null },
    prefix: keys.bullPrefix,
  });
  await vi.waitFor(() => expect(seen).toEqual(['w1']), { timeout: 5_000 });
  await worker.close();
  await queue.close();
  connection.disconnect();
});
