/** What monitors wrote about the workers. */
import type { Keys, WorkerStatus } from '@carrierarr/protocol';
import { workerStatusSchema } from '@carrierarr/protocol';
import type { RedisConnection } from './connection.js';

/** All known workers, sorted by id; a record that cannot be read is left out. */
export async function readWorkers(connection: RedisConnection, keys: Keys): Promise<WorkerStatus[]> {
  const records = await connection.hgetall(keys.workers());
  const workers: WorkerStatus[] = [];
  for (const text of Object.values(records)) {
    const worker = parseWorker(text);
    if (worker !== undefined) workers.push(worker);
  }
  return workers.toSorted((a, b) => (a.id < b.id ? -1 : 1));
}

function parseWorker(text: string): WorkerStatus | undefined {
  try {
    return workerStatusSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
