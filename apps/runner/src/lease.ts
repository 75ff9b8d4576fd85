/**
 * Keeps the leases of running executions, and their watchdogs, alive: once a second each lease is renewed in Redis and
 * each watchdog gets a heartbeat. Both come from one timer on purpose: a runner that is frozen does neither, so the
 * others find it lost, and its scripts end.
 *
 * A renewal also tells whether a kill was requested, and whether the execution has been given up (`fenced`): then its
 * script must die at once. While Redis cannot be reached scripts go on for `outageGraceMs` after the last successful
 * renewal. Others hold the target closed for that long (see lost-detector.ts), so nothing runs twice.
 */
import { HEARTBEAT_MS } from '@carrierarr/execution';
import type { Clock, Timer } from '@carrierarr/platform';
import type { RenewAnswer } from '@carrierarr/store';

/** An execution as the keeper sees it. */
export interface LeaseHolder {
  readonly target: string;
  readonly execution: string;
  readonly fence: number;
  /** Heartbeat for the watchdog. */
  beat(): void;
  onKillRequested(by: string): void;
  onFenced(): void;
  onOutOfTouch(silentMs: number): void;
}

export interface LeaseKeeperOptions {
  renew: (target: string, fence: number) => Promise<RenewAnswer>;
  clock: Clock;
  outageGraceMs: number;
  onRenewalFailed?: (error: unknown) => void;
}

interface Held {
  holder: LeaseHolder;
  /** When the last successful renewal (or the claim) was sent: Redis has seen it no earlier. Monotonic ms. */
  renewedMs: number;
  isRenewing: boolean;
}

export class LeaseKeeper {
  readonly #o: LeaseKeeperOptions;
  readonly #held = new Map<string, Held>();
  #timer: Timer | undefined;

  constructor(options: LeaseKeeperOptions) {
    this.#o = options;
  }

  start(): void {
    this.#timer ??= this.#o.clock.setInterval(() => this.#tick(), HEARTBEAT_MS);
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** Begins to renew. `claimedMs`: when the claim was sent, monotonic ms. */
  hold(holder: LeaseHolder, claimedMs: number): void {
    this.#held.set(holder.execution, { holder, renewedMs: claimedMs, isRenewing: false });
  }

  release(execution: string): void {
    this.#held.delete(execution);
  }

  /** Renews one lease now: a kill request has been announced for it. False if this runner does not hold it. */
  refresh(execution: string): boolean {
    const held = this.#held.get(execution);
    if (held === undefined) return false;
    void this.#renew(held);
    return true;
  }

  #tick(): void {
    const now = this.#o.clock.monotonicMs();
    for (const held of this.#held.values()) {
      const silentMs = now - held.renewedMs;
      if (silentMs >= this.#o.outageGraceMs) {
        // Also ends the heartbeats: should killing fail, the watchdog does it.
        held.holder.onOutOfTouch(silentMs);
      } else {
        held.holder.beat();
      }
      if (!held.isRenewing) void this.#renew(held);
    }
  }

  async #renew(held: Held): Promise<void> {
    const { target, execution, fence } = held.holder;
    const sentMs = this.#o.clock.monotonicMs();
    held.isRenewing = true;
    let answer: RenewAnswer;
    try {
      answer = await this.#o.renew(target, fence);
    } catch (error) {
      this.#o.onRenewalFailed?.(error);
      return;
    } finally {
      held.isRenewing = false;
    }
    if (this.#held.get(execution) !== held) return;
    if (answer.kind === 'fenced') {
      this.#held.delete(execution);
      held.holder.onFenced();
      return;
    }
    held.renewedMs = Math.max(held.renewedMs, sentMs);
    if (answer.killRequestedBy !== undefined) held.holder.onKillRequested(answer.killRequestedBy);
  }
}
