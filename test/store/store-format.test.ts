import { Keys, STORE_FORMAT } from '@carrierarr/protocol';
import { checkStoreFormat, StoreFormatError } from '@carrierarr/store';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startRedis, type TestRedis } from '../support/redis.js';

let redis: TestRedis;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

it('an empty store is marked, and taken again with that mark', async () => {
  const [connection, keys] = [redis.client(), new Keys('empty')];
  await checkStoreFormat(connection, keys);
  expect(await connection.get(keys.format())).toBe(String(STORE_FORMAT));
  await checkStoreFormat(connection, keys);
});

it('a store of another format is refused, and left as it is', async () => {
  const [connection, keys] = [redis.client(), new Keys('newer')];
  await connection.set(keys.format(), String(STORE_FORMAT + 1));
  const refused = checkStoreFormat(connection, keys);
  await expect(refused).rejects.toThrow(StoreFormatError);
  await expect(refused).rejects.toThrow(
    `Expected data of format ${STORE_FORMAT} under the Redis key prefix "newer", got "2".`,
  );
  expect(await connection.get(keys.format())).toBe(String(STORE_FORMAT + 1));
});
