/**
 * Which monitor leads: a lease in Redis, by Redis' clock, with a fence that grows with each change of leader.
 *
 * The lease alone stops nobody who stalls after looking at it. So every write of a leader carries its fence: what
 * lies beside the lease is compared with the lease itself (`DeposedError`), and commands, which lie in 64 other
 * slots, with a fence that a new leader raises there before it acts ({@link Leadership.raise}). Nothing here has a
 * timer: the caller says when to hold.
 */
import type { Keys } from '@carrierarr/protocol';
import { PARTITIONS } from '@carrierarr/protocol';
import { callScript, type RedisConnection } from './connection.js';

/** How long a leader leads without renewing, ms. */
export const LEASE_MS = 3_000;

/** Thrown by every fenced write of a leader that is not leader any more. Nothing was written. */
export class DeposedError extends Error {
  override name = 'DeposedError';

  constructor(
    readonly fence: number,
    readonly present: string,
  ) {
    super(
      `Expected fence ${fence} to be that of the leader, but ` +
        (present === ''
          ? 'nobody leads'
          : present === `${fence}`
            ? 'its lease has run out'
            : `the leader's is ${present}`) +
        `: nothing was written. Stop acting, hold the lease anew, and read everything again.`,
    );
  }
}

/** Throws {@link DeposedError} if that is what a fenced script answered. */
export function refuseDeposed(fence: number | undefined, [what, present]: readonly unknown[]): void {
  if (what === 'deposed') throw new DeposedError(fence ?? 0, String(present));
}

export type HoldAnswer = { leads: true; fence: number } | { leads: false; holder: string; leftMs: number };

export interface LeadershipOptions {
  connection: RedisConnection;
  keys: Keys;
  /** Default {@link LEASE_MS}; must be the same for all monitors. */
  leaseMs?: number;
}

export class Leadership {
  readonly #connection: RedisConnection;
  readonly #keys: Keys;
  readonly #leaseMs: number;

  constructor({ connection, keys, leaseMs = LEASE_MS }: LeadershipOptions) {
    this.#connection = connection;
    this.#keys = keys;
    this.#leaseMs = leaseMs;
  }

  /**
   * Takes the lease if it is free or has run out, or renews it. `holder` must be unique to the running process. The
   * fence stays the same while renewals come in time; one that differs from the last one is a new reign.
   */
  async hold(holder: string): Promise<HoldAnswer> {
    const [what, first, leftMs] = await callScript(this.#connection, 'carrierarrHold', [
      this.#keys.leader(),
      this.#keys.leaderFence(),
      holder,
      this.#leaseMs,
      this.#keys.leaderChannel(),
    ]);
    if (what === 'leads') return { leads: true, fence: Number(first) };
    return { leads: false, holder: String(first), leftMs: Number(leftMs) };
  }

  /**
   * Has commands of all older leaders refused, in every partition. To be done once after a new fence and before
   * acting; when it fails, some partitions may be raised: do it again.
   */
  async raise(fence: number): Promise<void> {
    // Not a pipeline, which on Cluster must keep to one slot. They are sent together all the same.
    await Promise.all(
      Array.from({ length: PARTITIONS }, (_, p) =>
        callScript(this.#connection, 'carrierarrRaise', [this.#keys.controllerFence(p), fence]),
      ),
    );
  }

  /** Gives the lease back, if it is still ours, and says so on the channel, so that another can take it at once. */
  async release(holder: string, fence: number): Promise<void> {
    await callScript(this.#connection, 'carrierarrRelease', [
      this.#keys.leader(),
      holder,
      fence,
      this.#keys.leaderChannel(),
    ]);
  }
}
