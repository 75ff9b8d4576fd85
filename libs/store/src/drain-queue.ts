/**
 * The BullMQ queue `commands`. Its jobs say only "target T has commands": the order is kept by T's list in Redis,
 * exclusion by T's lease. Deduplication keeps at most one job waiting per target; an add while T's job is active is
 * kept and started after it (`keepLastIfActive`), so the end of one command leads to the next.
 */
import type { DrainJob, Keys } from '@carrierarr/protocol';
import { COMMAND_QUEUE, DRAIN_JOB } from '@carrierarr/protocol';
import { Queue } from 'bullmq';
import type { RedisConnection } from './connection.js';

export class DrainQueue {
  readonly #connection: RedisConnection;
  readonly #prefix: string;
  #queue: Queue<DrainJob> | undefined;
  #closed = false;

  /** `connection` must not queue commands while it is offline, so that an add fails at once. It stays its owner's. */
  constructor(connection: RedisConnection, keys: Keys) {
    this.#connection = connection;
    this.#prefix = keys.bullPrefix;
  }

  /** Adds a job for a target, unless one waits already. If it fails, the sweeper adds one within seconds. */
  async add(target: string): Promise<void> {
    await this.#use((queue) =>
      queue.add(DRAIN_JOB, { v: 1, target }, { deduplication: { id: target, keepLastIfActive: true } }),
    );
  }

  /** Jobs by state, for metrics. */
  async counts(): Promise<Record<string, number>> {
    return this.#use((queue) => queue.getJobCounts('waiting', 'active', 'prioritized', 'delayed'));
  }

  /**
   * A queue begins with a look at Redis, and one that failed then fails for ever: it is made at the first use, not
   * before the connection is, and anew after a failure.
   */
  async #use<T>(work: (queue: Queue<DrainJob>) => Promise<T>): Promise<T> {
    if (this.#closed) throw new Error('The queue is closed.');
    const queue = (this.#queue ??= this.#open());
    try {
      return await work(queue);
    } catch (error) {
      if (this.#queue === queue) this.#queue = undefined;
      queue.close().catch(() => undefined);
      throw error;
    }
  }

  #open(): Queue<DrainJob> {
    const queue = new Queue<DrainJob>(COMMAND_QUEUE, {
      connection: this.#connection,
      prefix: this.#prefix,
      skipWaitingForReady: true,
      defaultJobOptions: { removeOnComplete: true, removeOnFail: true },
    });
    // The connection's owner logs its errors; without a listener BullMQ would throw them.
    queue.on('error', () => undefined);
    return queue;
  }

  /** Ends the queue's own resources. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#queue?.close();
  }
}
