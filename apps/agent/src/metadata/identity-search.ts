/**
 * Goes on asking the cloud who this machine is, after it did not answer at the start: at boot its service, or the way to it,
 * may not be there yet, and without an instance id the machine would be two rows for as long as the agent runs.
 */
import { backoffMs, type Clock, type Logger, type Timer } from '@carrierarr/platform';
import type { CloudIdentity } from './cloud-identity.js';

export interface IdentitySearchOptions {
  ask: () => Promise<CloudIdentity | undefined>;
  /** Called once. */
  onFound: (identity: CloudIdentity) => void;
  clock: Clock;
  logger: Logger;
  random?: () => number;
}

/** Between two questions: first and longest bound. A service that comes late comes within minutes. */
const RETRY = { baseMs: 10_000, capMs: 5 * 60_000 };
const RETRY_MS_MIN = 2_000;

export class IdentitySearch {
  readonly #o: IdentitySearchOptions;
  #timer: Timer | undefined;
  #attempt = 0;
  #isStopped = false;

  constructor(options: IdentitySearchOptions) {
    this.#o = options;
  }

  /** To be called after a question that was not answered. */
  start(): void {
    this.#o.logger.warn(
      'the metadata service does not say who this machine is: it is asked again. Until then there is no instance id but ' +
        'that of --instance-id, and no notice of interruptions. Where there is no such service, set --metadata off',
    );
    this.#wait();
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  #wait(): void {
    const { clock, random } = this.#o;
    const pauseMs = RETRY_MS_MIN + backoffMs({ ...RETRY, attempt: this.#attempt++, ...(random && { random }) });
    this.#timer = clock.setTimeout(() => void this.#ask(), pauseMs);
  }

  async #ask(): Promise<void> {
    const identity = await this.#o.ask();
    if (this.#isStopped) return;
    if (identity === undefined) this.#wait();
    else this.#o.onFound(identity);
  }
}
