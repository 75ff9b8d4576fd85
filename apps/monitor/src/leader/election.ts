/**
 * One monitor leads at a time. A lease in Redis says who; its fence, which grows with each change, is in everything a
 * leader writes, so that a deposed one can change nothing (S2). The fence is what keeps the promise. The rest is manners:
 * a leader that has not renewed for {@link TERM_MS} by its own clock stops by itself, before the lease runs out and
 * another takes it; one that ends gives the lease back at once and says so.
 *
 * A leader's reign is a term: it gets a signal that ends everything of it. The next term of this process begins only
 * when all of the last one has ended.
 */
import type { Clock, Logger, Timer } from '@carrierarr/platform';
import { DeposedError, type Leadership } from '@carrierarr/store';
import type { ElectionMetrics } from './metrics.js';

/** Between two attempts of a standby, ms. */
export const CAMPAIGN_MS = 500;
/** Between two renewals of a leader, ms. */
export const RENEW_MS = 1_000;
/** A leader whose last successful renewal began longer ago stops, ms. Well below the life of the lease. */
export const TERM_MS = 2_000;
/** Rest after a term that ended by an error of its own, ms: others come first. */
export const FAILED_TERM_REST_MS = 2_000;

export interface Term {
  readonly fence: number;
  /** Aborts when the term is over, whatever ended it. Nothing of the term may act after that. */
  readonly signal: AbortSignal;
  /** Ends the term: an answer said that somebody else leads. */
  deposed(error: DeposedError): void;
}

export interface ElectionOptions {
  leadership: Pick<Leadership, 'hold' | 'raise' | 'release'>;
  /** This monitor, unlike any other. */
  holder: string;
  /** What a leader does. Resolves when all of it has ended, soon after the signal; a rejection ends the term. */
  lead: (term: Term) => Promise<void>;
  /** Called when it becomes known who leads. */
  onLeader?: (leader: { holder: string; isUs: boolean }) => void;
  clock: Clock;
  logger: Pick<Logger, 'info' | 'warn' | 'error' | 'debug'>;
  metrics: ElectionMetrics;
}

interface Reign {
  readonly fence: number;
  readonly controller: AbortController;
  /** When the last successful renewal was sent, monotonic ms. */
  renewedMs: number;
  deadline: Timer;
  /** Resolves when nothing of it is left. */
  ended: Promise<void>;
}

export class Election {
  readonly #o: ElectionOptions;
  #reign: Reign | undefined;
  #timer: Timer | undefined;
  #asking: Promise<void> | undefined;
  #askAgain = false;
  #isStopped = false;
  #leader: string | undefined;

  constructor(options: ElectionOptions) {
    this.#o = options;
  }

  /** The fence of the present term; undefined while another leads, or nobody. */
  get fence(): number | undefined {
    return this.#reign?.controller.signal.aborted === false ? this.#reign.fence : undefined;
  }

  start(): void {
    this.#ask();
  }

  /** There may be no leader now: tries at once. */
  nudge(): void {
    if (this.fence === undefined) this.#ask();
  }

  /** Ends the term, gives the lease back, and resolves when nothing of the term is left. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#timer?.cancel();
    const reign = this.#reign;
    if (reign !== undefined) {
      const wasLeading = !reign.controller.signal.aborted;
      this.#end(reign, 'stopping');
      // The next leader need not wait for what is still on its way: its fence refuses that.
      if (wasLeading) await this.#release(reign.fence);
    }
    await this.#asking;
    // An answer that was on its way may have given us the lease.
    await this.#reign?.ended;
  }

  /** Asks for the lease; one question at a time. */
  #ask(): void {
    if (this.#isStopped) return;
    if (this.#asking !== undefined) {
      this.#askAgain = true;
      return;
    }
    this.#timer?.cancel();
    this.#askAgain = false;
    this.#asking = this.#hold()
      .catch((error: unknown) => this.#o.logger.debug({ err: error }, 'the lease of the leader could not be asked for'))
      .finally(() => {
        this.#asking = undefined;
        this.#schedule();
      });
  }

  #schedule(): void {
    if (this.#isStopped) return;
    if (this.#askAgain) return this.#ask();
    const delayMs = this.fence === undefined ? CAMPAIGN_MS : RENEW_MS;
    this.#timer = this.#o.clock.setTimeout(() => this.#ask(), delayMs);
  }

  async #hold(): Promise<void> {
    const { leadership, holder, clock } = this.#o;
    const before = this.#reign;
    // A term that is over but not yet gone: the next one would meet it.
    if (before?.controller.signal.aborted) return;
    const sentMs = clock.monotonicMs();
    const answer = await leadership.hold(holder);
    if (this.#isStopped) {
      if (answer.leads && before === undefined) await this.#release(answer.fence);
      return;
    }
    this.#tell(answer.leads ? holder : answer.holder);
    if (!answer.leads) {
      if (before !== undefined) this.#end(before, `${answer.holder} leads`);
      return;
    }
    if (before === undefined) return this.#begin(answer.fence, sentMs);
    // The lease ran out or was lost, and is ours again under a new number: what the old one promised is void.
    if (answer.fence !== before.fence) this.#end(before, 'the lease was lost and taken again');
    else if (!before.controller.signal.aborted) this.#renewed(before, sentMs);
  }

  async #begin(fence: number, sentMs: number): Promise<void> {
    const { leadership, lead, clock, logger, metrics } = this.#o;
    await leadership.raise(fence);
    if (this.#isStopped) return this.#release(fence);
    if (clock.monotonicMs() - sentMs >= TERM_MS) {
      logger.warn({ fence }, 'taking the lead took so long that the lease may be gone; trying again');
      return;
    }
    const controller = new AbortController();
    const reign: Reign = {
      ...{ fence, controller, renewedMs: sentMs },
      deadline: { cancel: () => undefined },
      ended: Promise.resolve(),
    };
    this.#reign = reign;
    this.#renewed(reign, sentMs);
    metrics.leader.set(1);
    metrics.transitions.inc();
    logger.info({ fence }, 'this monitor leads');
    const term: Term = { fence, signal: controller.signal, deposed: (error) => this.#end(reign, error.message) };
    reign.ended = lead(term)
      .catch(async (error: unknown) => {
        if (error instanceof DeposedError) return this.#end(reign, error.message);
        if (controller.signal.aborted) return logger.debug({ err: error }, 'the term ended with an error');
        logger.error({ err: error }, 'leading failed; another monitor may try');
        this.#end(reign, 'leading failed');
        await this.#release(fence);
        await new Promise<void>((resolve) => void clock.setTimeout(resolve, FAILED_TERM_REST_MS));
      })
      .finally(() => {
        this.#end(reign, 'it ended by itself');
        this.#reign = undefined;
        this.nudge();
      });
  }

  #renewed(reign: Reign, sentMs: number): void {
    const { clock } = this.#o;
    reign.renewedMs = sentMs;
    reign.deadline.cancel();
    reign.deadline = clock.setTimeout(
      () => this.#end(reign, `the lease could not be renewed for ${TERM_MS / 1000} s`),
      Math.max(0, sentMs + TERM_MS - clock.monotonicMs()),
    );
  }

  #end(reign: Reign, why: string): void {
    if (reign.controller.signal.aborted) return;
    reign.deadline.cancel();
    this.#o.metrics.leader.set(0);
    this.#o.logger.info({ fence: reign.fence, why }, 'this monitor leads no more');
    reign.controller.abort(new Error(`The term is over: ${why}.`));
  }

  async #release(fence: number): Promise<void> {
    const { leadership, holder, logger } = this.#o;
    await leadership
      .release(holder, fence)
      .catch((error: unknown) => logger.debug({ err: error }, 'the lease was not given back; it runs out by itself'));
  }

  #tell(leader: string): void {
    if (leader === this.#leader) return;
    this.#leader = leader;
    this.#o.onLeader?.({ holder: leader, isUs: leader === this.#o.holder });
  }
}
