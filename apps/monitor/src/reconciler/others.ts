/**
 * What others do with a target: then it is not idle, whatever it reports, and what was seen of it before is old. Asked of
 * Redis just before a command is given, because that is the one moment in which it counts.
 */
import type { Keys, WorkerResource } from '@carrierarr/protocol';
import { LOOKED_AT, othersOn, type OthersWork } from '@carrierarr/reconcile';
import { type RedisConnection, targetCommands } from '@carrierarr/store';

export class Others {
  readonly #connection: RedisConnection;
  readonly #keys: Keys;

  constructor({ connection, keys }: { connection: RedisConnection; keys: Keys }) {
    this.#connection = connection;
    this.#keys = keys;
  }

  /** What others than a Worker's last command do on its target. */
  async on(target: string, worker: Pick<WorkerResource, 'metadata' | 'status'>): Promise<OthersWork> {
    const store = { connection: this.#connection, keys: this.#keys };
    return othersOn(worker, await targetCommands(store, target, LOOKED_AT));
  }
}
