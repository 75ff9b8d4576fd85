/**
 * Takes drain jobs off the queue. A job only says that a target may have commands; the claim in Redis decides whether
 * one runs here. So BullMQ may deliver a job twice, late or to two runners: the claim gives a command to one, once, and
 * the sweeper replaces a job that was lost.
 */
import type { Logger } from '@carrierarr/platform';
import { COMMAND_QUEUE, drainJobSchema, type Keys } from '@carrierarr/protocol';
import { type Job, Worker } from 'bullmq';
import type { Cluster, Redis } from 'ioredis';
import type { RunnerMetrics } from './metrics.js';

export interface DrainWorkerOptions {
  /** Of role `bullmq`; its owner closes it. */
  connection: Redis | Cluster;
  keys: Keys;
  concurrency: number;
  /** Runs the next command of a target, if this runner gets it. */
  drain: (target: string) => Promise<void>;
  metrics: RunnerMetrics;
  logger: Logger;
}

/**
 * After this long without its runner a job counts as stalled and frees its target's place in the queue, ms. Shorter than
 * BullMQ's 30 s: a job taken too early does no harm here, one that waits holds up its target.
 */
const LOCK_MS = 10_000;
const STALLED_CHECK_MS = 5_000;

export class DrainWorker {
  readonly #worker: Worker;
  readonly #o: DrainWorkerOptions;

  constructor(options: DrainWorkerOptions) {
    const { connection, keys, concurrency, logger } = options;
    this.#o = options;
    this.#worker = new Worker(COMMAND_QUEUE, (job) => this.#process(job), {
      ...{ connection, prefix: keys.bullPrefix, concurrency, autorun: false },
      ...{ lockDuration: LOCK_MS, stalledInterval: STALLED_CHECK_MS, maxStalledCount: 0 },
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 0 },
    });
    // The connection logs its losses itself; without a listener the error would end the process.
    this.#worker.on('error', (error) => logger.debug({ err: error }, 'queue worker'));
    this.#worker.on('failed', (job, error) =>
      logger.debug({ err: error, target: job?.data?.target }, 'drain job failed'),
    );
  }

  start(): void {
    this.#worker.run().catch((error: unknown) => this.#o.logger.error({ err: error }, 'queue worker ended'));
  }

  /** Takes no more jobs; those that run go on. */
  async pause(): Promise<void> {
    await this.#worker.pause(true);
  }

  /**
   * Resolves when the jobs have ended in the queue too. One that is left active keeps its target's place there, and with it
   * every command that waits for the target, until its lock has run out.
   */
  async close(): Promise<void> {
    await this.#worker.close();
  }

  async #process(job: Job): Promise<void> {
    const { metrics, logger, drain } = this.#o;
    const parsed = drainJobSchema.safeParse(job.data);
    if (!parsed.success) {
      metrics.badJobs.inc();
      logger.error(
        { job: job.id, version: (job.data as { v?: unknown } | null)?.v },
        'Expected a drain job of version 1: this runner is older than what added it, so it leaves it. Upgrade the runner.',
      );
      return;
    }
    await drain(parsed.data.target);
  }
}
