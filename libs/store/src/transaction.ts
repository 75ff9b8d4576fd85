/** The results of a MULTI, which ioredis gives with an error each. */

/** What ioredis' `multi()` builds. */
interface Transaction {
  exec(): Promise<[Error | null, unknown][] | null>;
}

/** Runs it and resolves to the replies; throws the first error among them. */
export async function replies<T extends unknown[]>(transaction: Transaction): Promise<T> {
  const results = await transaction.exec();
  if (results === null) throw new Error('Redis gave up a transaction although it watches nothing. Try again.');
  return results.map(([error, value]) => {
    if (error) throw error;
    return value;
  }) as T;
}
