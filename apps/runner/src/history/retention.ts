/** Keeps the history within its bounds: once a minute, by one runner of the installation. */
import type { Clock, Logger, Timer } from '@carrierarr/platform';
import { PARTITIONS } from '@carrierarr/protocol';
import type { Retention } from '@carrierarr/store';
import type { RunnerMetrics } from '../metrics.js';

export interface HistoryKeeperOptions {
  retention: Retention;
  /** This process, for the lock. */
  owner: string;
  clock: Clock;
  metrics: RunnerMetrics;
  logger: Logger;
  random?: () => number;
}

const ROUND_MS = 60_000;
/** A little shorter than a round, so that the lock has ended when the next round is due. */
const LOCK_MS = 50_000;
/** The whole store is tidied within this many rounds. */
const ROUNDS_FOR_ALL = 8;

export class HistoryKeeper {
  readonly #o: HistoryKeeperOptions;
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  #isStopped = false;

  constructor(options: HistoryKeeperOptions) {
    this.#o = options;
  }

  start(): void {
    if (this.#isStopped) return;
    const { clock, logger, random = Math.random } = this.#o;
    this.#timer = clock.setTimeout(
      () => {
        this.#running = this.round()
          .catch((error: unknown) => logger.debug({ err: error }, 'history was not tidied; the next round tries again'))
          .finally(() => this.start());
      },
      ROUND_MS * (0.75 + random() / 2),
    );
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#timer?.cancel();
    await this.#running;
  }

  /** One round, unless another runner has done it just now. */
  async round(): Promise<void> {
    const { retention, owner, metrics, logger, clock } = this.#o;
    if (!(await retention.acquire(owner, LOCK_MS))) return;
    // By the clock, since another runner may do the next round.
    const turn = Math.floor(clock.now() / ROUND_MS) % ROUNDS_FOR_ALL;
    for (let partition = turn; partition < PARTITIONS && !this.#isStopped; partition += ROUNDS_FOR_ALL) {
      const { bytes } = await retention.tidyPartition(partition);
      metrics.trimmedBytes.inc(bytes);
    }
    const { bytes, targets } = await retention.trimTotal();
    if (targets.length === 0) return;
    metrics.trimmedBytes.inc(bytes);
    logger.warn(
      { bytes, targets: targets.length, first: targets.slice(0, 5) },
      'output of the least recently active targets removed: all history together was above --history-total-bytes',
    );
  }
}
