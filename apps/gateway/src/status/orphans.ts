/** The machines that belong to no Worker, as the leading monitor lists them, with how fresh what is known of each is. */
import type { OrphansBody, SeenWorker } from '@carrierarr/protocol';
import type { OrphanStore } from '@carrierarr/store';
import { RedisAwayError, type RedisHealth } from '../redis-health.js';
import type { ObservedStatus, StatusFeed } from './status-feed.js';

export interface OrphansOptions {
  store: Pick<OrphanStore, 'read'>;
  status: Pick<StatusFeed, 'observed' | 'refresh'>;
  redis: RedisHealth;
}

export class Orphans {
  readonly #o: OrphansOptions;

  constructor(options: OrphansOptions) {
    this.#o = options;
  }

  /** Body of `GET /api/v1/orphans`. Throws RedisAwayError. */
  async list(): Promise<OrphansBody> {
    const { store, status, redis } = this.#o;
    const orphans = await redis.bounded(() => store.read());
    // What is listed was published before.
    await status.refresh();
    const { workers, timestamp } = await status.observed();
    const items = workers.flatMap((worker) => {
      const orphan = orphans.get(worker.id);
      // One that has vanished since the last look costs nobody anything.
      if (orphan === undefined || worker.gone_at !== undefined) return [];
      const { state, observed_at, stale, age_seconds, launch_time } = worker;
      return [
        {
          ...{ ...orphan, state, observed_at },
          ...(launch_time !== undefined && { launch_time }),
          ...(stale !== undefined && { stale }),
          ...(age_seconds !== undefined && { age_seconds }),
        },
      ];
    });
    return { timestamp, items };
  }

  /** Everything that is known of the workers, with a mark on those that are orphans. Throws RedisAwayError. */
  async marked(): Promise<ObservedStatus> {
    const { store, status, redis } = this.#o;
    const observed = await status.observed();
    try {
      const orphans = await redis.bounded(() => store.read());
      if (orphans.size === 0) return observed;
      const mark = (worker: SeenWorker) => {
        const orphan = orphans.get(worker.id);
        return orphan === undefined || worker.gone_at !== undefined
          ? worker
          : { ...worker, orphaned_since: orphan.since };
      };
      return { ...observed, workers: observed.workers.map(mark) };
    } catch (error) {
      // What was known before is served all the same.
      if (error instanceof RedisAwayError) return observed;
      throw error;
    }
  }
}
