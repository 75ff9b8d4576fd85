/**
 * Whether Redis answers. A connection that is up proves nothing (the server may be frozen, or the network a black hole),
 * so it is asked all the time, of a Cluster every part; a call that somebody waits for is bounded by a deadline, long work by these answers, and
 * once Redis is known to be away neither is even tried. So clients learn within a second or two that the gateway is degraded, and requests fail
 * fast instead of piling up (P3).
 */
import type { Clock, Logger, Readiness, Timer } from '@carrierarr/platform';
import type { Keys } from '@carrierarr/protocol';
import type { RedisConnection } from '@carrierarr/store';

/** Longest a request waits for Redis, ms. */
export const REDIS_DEADLINE_MS = 1_000;
const PING_EVERY_MS = 500;
/** Name of the readiness check. */
export const REDIS_CHECK = 'redis';

export type RedisState = { kind: 'available' } | { kind: 'degraded'; reason: string };

/** Redis did not do what it was asked. */
export class RedisAwayError extends Error {
  override name = 'RedisAwayError';
  constructor(
    /** False if the call surely did not reach Redis; true if it may have been carried out. */
    readonly wasSent: boolean,
    readonly reason: string,
    options?: ErrorOptions,
  ) {
    super(`Redis is not available: ${reason}`, options);
  }
}

export interface RedisHealthOptions {
  connection: RedisConnection;
  keys: Pick<Keys, 'ofEachSlot'>;
  clock: Clock;
  logger: Pick<Logger, 'info' | 'warn'>;
  readiness?: Pick<Readiness, 'set'>;
}

export class RedisHealth {
  readonly #o: RedisHealthOptions;
  readonly #listeners = new Set<(state: RedisState) => void>();
  readonly #onReady = () => void this.#ping();
  readonly #onClose = () => this.#become({ kind: 'degraded', reason: 'the connection is closed' });
  #state: RedisState = { kind: 'degraded', reason: 'not asked yet' };
  #timer: Timer | undefined;
  /** When the ping that is under way was sent; undefined if none is. */
  #pingedAtMs: number | undefined;

  constructor(options: RedisHealthOptions) {
    this.#o = options;
  }

  get state(): RedisState {
    return this.#state;
  }

  /** Begins to watch. It is `degraded` until the first answer; resolves when that is there, whatever it says. */
  async start(): Promise<void> {
    const { connection, clock } = this.#o;
    connection.on('ready', this.#onReady);
    connection.on('close', this.#onClose);
    this.#report();
    this.#timer = clock.setInterval(() => void this.#ping(), PING_EVERY_MS);
    await this.#ping();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#o.connection.off('ready', this.#onReady);
    this.#o.connection.off('close', this.#onClose);
  }

  /** Calls `listener` at each change of the state. Returns what ends that. */
  onChange(listener: (state: RedisState) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /**
   * Runs calls that somebody waits for. Throws {@link RedisAwayError} at once while Redis is away, and after
   * {@link REDIS_DEADLINE_MS} when it does not answer; errors that Redis answers with pass through.
   */
  async bounded<T>(work: () => Promise<T>): Promise<T> {
    if (this.#state.kind === 'degraded') throw new RedisAwayError(false, this.#state.reason);
    let timer: Timer | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = this.#o.clock.setTimeout(
        () => reject(new RedisAwayError(true, `no answer within ${REDIS_DEADLINE_MS} ms`)),
        REDIS_DEADLINE_MS,
      );
    });
    try {
      return await Promise.race([work(), late]);
    } catch (error) {
      throw awayErrorOf(error);
    } finally {
      timer?.cancel();
    }
  }

  /**
   * Runs work of many calls, which takes as long as it takes while Redis answers. Throws {@link RedisAwayError} at once while it is
   * away, and when it turns out to be; errors that Redis answers with pass through.
   */
  async whileAvailable<T>(work: () => Promise<T>): Promise<T> {
    if (this.#state.kind === 'degraded') throw new RedisAwayError(false, this.#state.reason);
    let end: (() => void) | undefined;
    const away = new Promise<never>((_, reject) => {
      end = this.onChange((state) => state.kind === 'degraded' && reject(new RedisAwayError(true, state.reason)));
    });
    try {
      return await Promise.race([work(), away]);
    } catch (error) {
      throw awayErrorOf(error);
    } finally {
      end?.();
    }
  }

  async #ping(): Promise<void> {
    const { clock } = this.#o;
    const nowMs = clock.monotonicMs();
    if (this.#pingedAtMs !== undefined) {
      if (nowMs - this.#pingedAtMs >= REDIS_DEADLINE_MS) {
        this.#become({ kind: 'degraded', reason: `no answer within ${REDIS_DEADLINE_MS} ms` });
      }
      return;
    }
    this.#pingedAtMs = nowMs;
    await this.#ask().then(
      () => this.#answered({ kind: 'available' }),
      (error: unknown) => this.#answered({ kind: 'degraded', reason: reasonOf(error) }),
    );
  }

  /** On a Cluster PING would go to any one of its servers, those that live, and say nothing of the others. */
  #ask(): Promise<unknown> {
    const { connection, keys } = this.#o;
    return connection.isCluster
      ? Promise.all(keys.ofEachSlot().map((key) => connection.exists(key)))
      : connection.ping();
  }

  #answered(state: RedisState): void {
    this.#pingedAtMs = undefined;
    if (this.#timer !== undefined) this.#become(state);
  }

  #become(state: RedisState): void {
    const before = this.#state;
    this.#state = state;
    this.#report();
    if (before.kind === state.kind) return;
    if (state.kind === 'degraded') this.#o.logger.warn({ reason: state.reason }, 'Redis does not answer: degraded');
    else this.#o.logger.info('Redis answers');
    for (const listener of this.#listeners) listener(state);
  }

  #report(): void {
    const state = this.#state;
    this.#o.readiness?.set(
      REDIS_CHECK,
      state.kind === 'available',
      state.kind === 'available' ? 'answers' : state.reason,
    );
  }
}

function reasonOf(error: unknown): string {
  if (isNotConnected(error)) return 'there is no connection';
  return error instanceof Error ? error.message : String(error);
}

/** ioredis has no codes for these: the texts of 6.0.0, and a test that fails when they change. */
function isNotConnected(error: unknown): boolean {
  return (
    error instanceof Error && /enableOfflineQueue|Cluster isn't ready|Failed to refresh slots cache/.test(error.message)
  );
}

function isBroken(error: unknown): boolean {
  return (
    error instanceof Error &&
    (/^(Connection is closed|Command timed out|Socket timeout|Reached the max retries|Too many Cluster redirections)/.test(
      error.message,
    ) ||
      error.name === 'MaxRetriesPerRequestError' ||
      error.name === 'AbortError' ||
      'syscall' in error)
  );
}

/** What Redis itself says while it cannot work: it has not carried the call out. */
function isRefusal(error: unknown): boolean {
  return (
    error instanceof Error &&
    /^(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|OOM|MISCONF|NOREPLICAS|BUSY) /.test(error.message)
  );
}

function awayErrorOf(error: unknown): unknown {
  if (error instanceof RedisAwayError) return error;
  if (isNotConnected(error) || isRefusal(error)) return new RedisAwayError(false, reasonOf(error), { cause: error });
  if (isBroken(error)) return new RedisAwayError(true, reasonOf(error), { cause: error });
  return error;
}
