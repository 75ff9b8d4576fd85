/** The status of all workers, as monitors last wrote it. Read at most twice a second, however many ask. */
import type { Clock } from '@carrierarr/platform';
import type { Keys, StatusDocument } from '@carrierarr/protocol';
import { readWorkers, type RedisConnection } from '@carrierarr/store';
import type { RedisHealth } from './redis-health.js';

const FRESH_MS = 500;

export interface StatusOptions {
  connection: RedisConnection;
  keys: Keys;
  redis: RedisHealth;
  clock: Clock;
}

export class Status {
  readonly #o: StatusOptions;
  #document: Promise<StatusDocument> | undefined;
  #readAtMs = 0;

  constructor(options: StatusOptions) {
    this.#o = options;
  }

  /** The document; `workers` is empty if there are none. Throws RedisAwayError. */
  read(): Promise<StatusDocument> {
    const nowMs = this.#o.clock.monotonicMs();
    if (this.#document && nowMs - this.#readAtMs < FRESH_MS) return this.#document;
    const { connection, keys, redis, clock } = this.#o;
    const document = redis
      .bounded(() => readWorkers(connection, keys))
      .then((workers) => ({ workers, timestamp: new Date(clock.now()).toISOString() }));
    // A failure is not kept: whoever asks next tries again.
    document.catch(() => {
      if (this.#document === document) this.#document = undefined;
    });
    this.#document = document;
    this.#readAtMs = nowMs;
    return document;
  }
}
