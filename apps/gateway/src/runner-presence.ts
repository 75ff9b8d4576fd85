/** Whether anybody would carry out a command: runners say so in Redis, and one look serves many commands. */
import type { Clock } from '@carrierarr/platform';
import { RUNNER_SEEN_MS, type RunnerRegistry } from '@carrierarr/store';
import { RedisAwayError, type RedisHealth } from './redis-health.js';

/** How long a look at the runners counts. Short when there were none: somebody may be starting one. */
const RUNNERS_FRESH_MS = 2_000;
const NO_RUNNERS_FRESH_MS = 250;

export interface RunnerPresenceOptions {
  runners: Pick<RunnerRegistry, 'seenSince'>;
  redis: RedisHealth;
  clock: Clock;
}

export class RunnerPresence {
  readonly #o: RunnerPresenceOptions;
  #look: { found: Promise<boolean>; untilMs: number } | undefined;

  constructor(options: RunnerPresenceOptions) {
    this.#o = options;
  }

  /** A runner has been seen lately. Throws RedisAwayError. */
  async isKnown(): Promise<boolean> {
    const { runners, clock, redis } = this.#o;
    const nowMs = clock.monotonicMs();
    if (this.#look && nowMs < this.#look.untilMs) return this.#look.found;
    const found = redis
      .bounded(() => runners.seenSince(clock.now() - RUNNER_SEEN_MS))
      .then((seen) => seen.length > 0)
      .catch((error: unknown) => {
        // Whatever became of the look: no command was sent yet.
        throw error instanceof RedisAwayError ? new RedisAwayError(false, error.reason, { cause: error }) : error;
      });
    const look = { found, untilMs: nowMs + RUNNERS_FRESH_MS };
    this.#look = look;
    try {
      if (!(await found)) look.untilMs = nowMs + NO_RUNNERS_FRESH_MS;
    } catch (error) {
      look.untilMs = nowMs;
      throw error;
    }
    return found;
  }
}
