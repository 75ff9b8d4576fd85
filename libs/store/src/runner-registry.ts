/** Which runners are there. Not a lock: leases alone decide who may run what. */
import type { Keys, Runner } from '@carrierarr/protocol';
import { runnerSchema } from '@carrierarr/protocol';
import type { RedisConnection } from './connection.js';

/** How long after its last sign of life a runner counts as there, ms. Longer than a restart takes. */
export const RUNNER_SEEN_MS = 60_000;

export class RunnerRegistry {
  readonly #connection: RedisConnection;
  readonly #keys: Keys;

  constructor(connection: RedisConnection, keys: Keys) {
    this.#connection = connection;
    this.#keys = keys;
  }

  /** Announces a runner, or renews its announcement. */
  async announce(runner: Runner): Promise<void> {
    const key = this.#keys.runner(runner.id);
    await this.#connection
      .multi()
      .zadd(this.#keys.runners(), Date.parse(runner.seen_at), runner.id)
      .set(key, JSON.stringify(runner), 'PX', RUNNER_SEEN_MS * 10)
      .zremrangebyscore(this.#keys.runners(), '-inf', Date.parse(runner.seen_at) - RUNNER_SEEN_MS * 10)
      .exec();
  }

  /** The runner's last announcement. */
  async get(id: string): Promise<Runner | undefined> {
    const text = await this.#connection.get(this.#keys.runner(id));
    return text === null ? undefined : runnerSchema.parse(JSON.parse(text));
  }

  /** Runners seen after `sinceMs` (epoch ms). */
  async seenSince(sinceMs: number): Promise<Runner[]> {
    const ids = await this.#connection.zrangebyscore(this.#keys.runners(), `(${sinceMs}`, '+inf');
    const found = await Promise.all(ids.map((id) => this.get(id)));
    return found.filter((runner) => runner !== undefined);
  }
}
