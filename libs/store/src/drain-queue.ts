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
  readonly #queue: Queue<DrainJob>;

  /** `connection` must not queue commands while it is offline, so that an add fails at once. */
  constructor(connection: RedisConnection, keys: Keys) {
    this.#queue = new Queue<DrainJob>(COMMAND_QUEUE, {
      connection,
      prefix: keys.bullPrefix,
      skipWaitingForReady: true,
      defaultJobOptions: { removeOnComplete: true, removeOnFail: true },
    });
    // The connection's owner logs its errors; without a listener BullMQ would throw them.
    this.#queue.on('error', () => undefined);
  }

  /** Adds a job for a target, unless one waits already. If it fails, the sweeper adds one within seconds. */
  async add(target: string): Promise<void> {
    await this.#queue.add(DRAIN_JOB, { v: 1, target }, { deduplication: { id: target, keepLastIfActive: true } });
  }

  /** Jobs by state, for metrics. */
  async counts(): Promise<Record<string, number>> {
    return this.#queue.getJobCounts('waiting', 'active', 'prioritized', 'delayed');
  }

  /** Ends the queue's own resources; the connection is its owner's. */
  async close(): Promise<void> {
    await this.#queue.close();
  }
}
