/** Forgets what nobody has needed for a while: feeds, and listening to every target. Clients often come back. */
import type { Clock, Timer } from '@carrierarr/platform';
import type { CatchUp } from './catch-up.js';
import type { Feeds } from './feeds.js';
import type { LogTail } from './log-tail.js';
import type { Membership } from './membership.js';

export interface SweepOptions {
  feeds: Pick<Feeds, 'all' | 'delete'>;
  membership: Pick<Membership, 'wants' | 'needsAll'>;
  catchUp: Pick<CatchUp, 'uses'>;
  tail: Pick<LogTail, 'unfollow' | 'leaveAll'>;
  clock: Clock;
  onError(error: unknown, target: string): void;
}

/** How long the gateway listens on after the last client that needs it, ms. */
const LINGER_MS = 30_000;
const INTERVAL_MS = 10_000;

export class Sweep {
  readonly #o: SweepOptions;
  #interval: Timer | undefined;
  #allUnusedSinceMs: number | undefined;

  constructor(options: SweepOptions) {
    this.#o = options;
  }

  start(): void {
    this.#interval = this.#o.clock.setInterval(() => this.#run(), INTERVAL_MS);
  }

  stop(): void {
    this.#interval?.cancel();
  }

  /** Somebody needs every target, be it only until the next sweep. */
  allUsed(): void {
    this.#allUnusedSinceMs = undefined;
  }

  #run(): void {
    const { feeds, membership, catchUp, tail, clock } = this.#o;
    const nowMs = clock.monotonicMs();
    for (const feed of feeds.all()) {
      if (membership.wants(feed) || nowMs - feed.activeMs < LINGER_MS || catchUp.uses(feed)) continue;
      feeds.delete(feed);
      void tail.unfollow(feed.target);
    }
    if (membership.needsAll) {
      this.#allUnusedSinceMs = undefined;
      return;
    }
    this.#allUnusedSinceMs ??= nowMs;
    if (nowMs - this.#allUnusedSinceMs >= LINGER_MS) {
      tail.leaveAll().catch((error: unknown) => this.#o.onError(error, '*'));
    }
  }
}
