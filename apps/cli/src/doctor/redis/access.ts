/** One connection for all checks, made when the first of them needs it. */
import { createRedis, type RedisConnection, type RedisSettings, waitForRedis } from '@carrierarr/platform';
import { Unseen } from '../check.js';

/** Sentinels and Clusters answer late while they elect; this much of a check's time is for judging. */
const SHARE = 0.8;

export class RedisAccess {
  readonly #settings: RedisSettings;
  readonly #timeoutMs: number;
  #connected: Promise<RedisConnection> | undefined;
  #connection: RedisConnection | undefined;

  constructor(settings: RedisSettings, timeoutMs: number) {
    this.#settings = settings;
    this.#timeoutMs = timeoutMs;
  }

  /** Rejects with what is wrong. */
  connect(): Promise<RedisConnection> {
    return (this.#connected ??= this.#connect());
  }

  /** For all checks but the one that tells what is wrong: rejects with `Unseen`. */
  async need(): Promise<RedisConnection> {
    try {
      return await this.connect();
    } catch {
      throw new Unseen('Redis cannot be reached');
    }
  }

  close(): void {
    this.#connection?.disconnect();
  }

  async #connect(): Promise<RedisConnection> {
    const redis = createRedis(this.#settings, { name: 'doctor', role: 'commands' });
    this.#connection = redis;
    await waitForRedis(redis, { settings: this.#settings, deadlineMs: this.#timeoutMs * SHARE });
    return redis;
  }
}
