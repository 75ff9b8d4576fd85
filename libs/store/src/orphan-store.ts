/** Machines of ours that belong to no Worker, as the leading monitor lists them and any gateway reads them. */
import { type Keys, type Orphan, orphanSchema } from '@carrierarr/protocol';
import { callScript, type RedisConnection } from './connection.js';
import { refuseDeposed } from './leadership.js';

/** Records of one call: bounds how long Redis is busy with it. */
const RECORDS_PER_CALL_MAX = 1_000;

export class OrphanStore {
  readonly #connection: RedisConnection;
  readonly #keys: Keys;

  constructor({ connection, keys }: { connection: RedisConnection; keys: Keys }) {
    this.#connection = connection;
    this.#keys = keys;
  }

  /** By id. One that cannot be read is left out: it is written anew when it is looked at again. */
  async read(): Promise<Map<string, Orphan>> {
    const stored = await this.#connection.hgetall(this.#keys.orphans());
    const orphans = new Map<string, Orphan>();
    for (const id of Object.keys(stored).toSorted()) {
      const orphan = parsed(stored[id] ?? '');
      if (orphan !== undefined) orphans.set(id, orphan);
    }
    return orphans;
  }

  /** Throws DeposedError. After a failure some may be written: write them again. */
  async write(fence: number, upserts: readonly Orphan[], removed: readonly string[]): Promise<void> {
    const pairs = [...upserts.map((orphan) => [orphan.id, JSON.stringify(orphan)]), ...removed.map((id) => [id, ''])];
    for (let i = 0; i < pairs.length; i += RECORDS_PER_CALL_MAX) {
      const some = pairs.slice(i, i + RECORDS_PER_CALL_MAX).flat();
      const keys = [this.#keys.leader(), this.#keys.orphans()];
      refuseDeposed(fence, await callScript(this.#connection, 'carrierarrWriteOrphans', [...keys, fence, ...some]));
    }
  }
}

function parsed(text: string): Orphan | undefined {
  try {
    return orphanSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined; // No JSON: no orphan of ours.
  }
}
