/** Refuses a store whose layout this program does not know. */
import type { Keys } from '@carrierarr/protocol';
import { STORE_FORMAT } from '@carrierarr/protocol';
import type { RedisConnection } from './connection.js';

/** Thrown when the stored data are of another format version. */
export class StoreFormatError extends Error {
  override name = 'StoreFormatError';
}

/** Marks an empty store with our format, or checks the mark. Throws {@link StoreFormatError}. */
export async function checkStoreFormat(connection: RedisConnection, keys: Keys): Promise<void> {
  await connection.set(keys.format(), STORE_FORMAT, 'NX');
  const found = await connection.get(keys.format());
  if (found !== String(STORE_FORMAT)) {
    throw new StoreFormatError(
      `Expected data of format ${STORE_FORMAT} under the Redis key prefix "${keys.prefix}", got "${found}". ` +
        `Run the carrierarr version that wrote them, or choose another --redis-key-prefix.`,
    );
  }
}
