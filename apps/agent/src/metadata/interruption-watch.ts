/** Asks EC2 every few seconds whether it will take this instance away, and tells at once when it will. */
import type { Clock, Logger, Timer } from '@carrierarr/platform';
import type { Imds, InterruptionNotice } from './imds.js';

export interface InterruptionWatchOptions {
  imds: Imds;
  onNotice: (notice: InterruptionNotice) => void;
  clock: Clock;
  logger: Logger;
}

/** AWS' own advice: a notice comes two minutes before. */
export const ASK_EVERY_MS = 5_000;

export class InterruptionWatch {
  readonly #o: InterruptionWatchOptions;
  #timer: Timer | undefined;
  #isAsking = false;
  #notice: InterruptionNotice | undefined;
  #failures = 0;

  constructor(options: InterruptionWatchOptions) {
    this.#o = options;
  }

  get notice(): InterruptionNotice | undefined {
    return this.#notice;
  }

  start(): void {
    this.#timer = this.#o.clock.setInterval(() => void this.ask(), ASK_EVERY_MS);
    void this.ask();
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** Asks now. Never rejects. */
  async ask(): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    const { imds, logger, onNotice } = this.#o;
    try {
      const notice = await imds.interruption();
      this.#failures = 0;
      if (notice === undefined || (notice.kind === this.#notice?.kind && notice.atMs === this.#notice.atMs)) return;
      this.#notice = notice;
      logger.warn({ ...notice }, 'this instance will be taken away');
      onNotice(notice);
    } catch (error) {
      // A notice that was given is not taken back by a service that does not answer.
      if (this.#failures++ === 0) logger.warn({ err: error }, 'the metadata service does not answer');
    } finally {
      this.#isAsking = false;
    }
  }
}
