/** Waiting for Redis when a program starts, with an error that says what was tried. */
import type { Cluster } from 'ioredis';
import { type Clock, systemClock } from '../clock.js';
import { describeRedis, type RedisConnection } from './connection.js';
import type { RedisSettings } from './settings.js';

/** Redis was not usable in time. `cause` is the last thing that went wrong. */
export class RedisUnavailableError extends Error {
  override readonly name = 'RedisUnavailableError';
  readonly code = 'redis_unavailable';
}

export interface WaitForRedisOptions {
  /** For the error's text. */
  readonly settings: RedisSettings;
  readonly deadlineMs?: number;
  readonly clock?: Clock;
}

const DEADLINE_MS = 30_000;
/** Waiting cannot cure these. */
const LOGIN_ERROR = /WRONGPASS|NOAUTH|NOPERM|invalid password/i;

/**
 * Connects and resolves once commands can be sent. Rejects with RedisUnavailableError at the deadline, or at once when
 * Redis refuses the login. The connection goes on trying either way: disconnect it to give up.
 */
export function waitForRedis(redis: RedisConnection, options: WaitForRedisOptions): Promise<void> {
  const { settings, deadlineMs = DEADLINE_MS, clock = systemClock } = options;
  if (redis.status === 'ready') return Promise.resolve();
  return new Promise((resolve, reject) => {
    let lastError: Error | undefined;
    const settle = (finish: () => void) => {
      timer.cancel();
      redis.off('ready', onReady);
      redis.off('error', onError);
      redis.off('end', onEnd);
      finish();
    };
    const giveUp = (what: string) =>
      settle(() => reject(new RedisUnavailableError(unavailable(settings, what, lastError), { cause: lastError })));
    const onReady = () => void primariesAnswer(redis).then(() => settle(resolve));
    const onEnd = () => giveUp('was not reached before its connection was closed');
    const onError = (error: Error) => {
      // A Cluster's own error only says that all nodes failed.
      lastError = (error as { lastNodeError?: Error }).lastNodeError ?? error;
      if (LOGIN_ERROR.test(lastError.message)) giveUp('refused the login');
    };
    const timer = clock.setTimeout(() => giveUp(`did not answer within ${deadlineMs / 1000} s`), deadlineMs);
    redis.on('ready', onReady);
    redis.on('error', onError);
    redis.on('end', onEnd);
    // Rejects with the first failure, while the connection goes on trying; the events above tell the rest.
    if (redis.status === 'wait') redis.connect().catch((error: Error) => (lastError ??= error));
  });
}

/**
 * A Cluster is `ready` when one node has told of all; calls to those that are not connected yet would be refused. One that cannot
 * be reached is no reason to wait longer: its replica may take over.
 */
async function primariesAnswer(redis: RedisConnection): Promise<void> {
  if (!redis.isCluster) return;
  await Promise.allSettled((redis as Cluster).nodes('master').map((node) => node.ping()));
}

function unavailable(settings: RedisSettings, what: string, lastError: Error | undefined): string {
  const reason = lastError ? `: ${lastError.message}` : '';
  const login = settings.password === null ? 'no password was given' : 'the password given is not shown';
  return (
    `Redis (${describeRedis(settings)}) ${what}${reason}. Check that it runs, and check --redis-url ` +
    `(CARRIERARR_REDIS_URL) and the other --redis flags; ${login}.`
  );
}
