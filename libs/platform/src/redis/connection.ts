/**
 * Connections to Redis, by what they are for. The roles differ in what happens while Redis is away, and all of this is
 * about one promise: a command that was sent is never sent again behind the caller's back (C1), and a call made while
 * Redis is away fails at once instead of waiting (P3).
 *
 * - `commands`: a call fails at once when there is no connection. A call that was on its way when the connection broke
 *   rejects, and whether it ran is unknown. ioredis would by default send it again after reconnecting, even when its
 *   caller has long seen a timeout.
 * - `subscriber`: the same, and it forgets its subscriptions when the connection breaks. The gateway subscribes again
 *   itself, since it must read the log after Redis confirmed and before it trusts the channel again. (ioredis'
 *   own resubscription has no rejection handler, so a second break in its middle would end the process.) On a Cluster
 *   ioredis does resubscribe sharded channels, and there is no way to turn that off.
 * - `bullmq`: waits for Redis for ever, as BullMQ requires of its workers' connections.
 *
 * All reconnect for ever, with jitter. None connects before it is used or `waitForRedis` is called; `commands` and
 * `subscriber` need the latter.
 */
import { Cluster, type ClusterOptions, Redis, type RedisOptions } from 'ioredis';
import { backoffMs } from '../backoff.js';
import { printAddress } from '../config/address.js';
import type { Logger } from '../logger.js';
import type { RedisSettings } from './settings.js';

export type RedisConnection = Redis | Cluster;
export type RedisRole = 'commands' | 'subscriber' | 'bullmq';

export interface RedisConnectionOptions {
  /** Shown by CLIENT LIST: program and purpose, such as `gateway-log`. No spaces. */
  readonly name: string;
  readonly role: RedisRole;
  /** Told when the connection is lost and found; without it that is silent. */
  readonly logger?: Pick<Logger, 'info' | 'warn'>;
}

const CONNECT_TIMEOUT_MS = 5_000;
const COMMAND_TIMEOUT_MS = 5_000;
/** A server that answers nothing for this long while commands wait is given up and connected to anew. */
const SILENCE_MS_MAX = 10_000;
const RECONNECT_BASE_MS = 50;
const RECONNECT_CAP_MS = 1_000;
/** Full jitter may say 0, and a dead address must not be dialled in a tight loop. */
const RECONNECT_MS_MIN = 20;

function reconnectDelayMs(times: number): number {
  return Math.max(
    RECONNECT_MS_MIN,
    backoffMs({ attempt: times - 1, baseMs: RECONNECT_BASE_MS, capMs: RECONNECT_CAP_MS }),
  );
}

/** A connection that is not connected yet. The caller closes it with `disconnect()` or `quit()`. */
export function createRedis(settings: RedisSettings, { name, role, logger }: RedisConnectionOptions): RedisConnection {
  const options = sharedOptions(settings, name, role === 'bullmq');
  const redis =
    settings.mode === 'cluster' ? createCluster(settings, role, options) : createSingle(settings, role, options);
  watch(redis, name, logger);
  return redis;
}

function sharedOptions(settings: RedisSettings, name: string, isQueueing: boolean) {
  return {
    connectionName: name,
    connectTimeout: CONNECT_TIMEOUT_MS,
    ...(settings.username === null ? {} : { username: settings.username }),
    ...(settings.password === null ? {} : { password: settings.password }),
    ...(settings.tls === null ? {} : { tls: { ...settings.tls } }),
    // After a failover the old primary may stay reachable as a replica: leave it.
    reconnectOnError: (error: Error) => error.message.startsWith('READONLY'),
    maxRetriesPerRequest: isQueueing ? null : 0,
    autoResendUnfulfilledCommands: isQueueing,
    autoResubscribe: isQueueing,
    // Not for BullMQ, whose workers block on purpose for longer.
    ...(isQueueing ? {} : { commandTimeout: COMMAND_TIMEOUT_MS, socketTimeout: SILENCE_MS_MAX }),
  } satisfies RedisOptions;
}

type SharedOptions = ReturnType<typeof sharedOptions>;

function createCluster({ nodes, tls }: RedisSettings, role: RedisRole, redisOptions: SharedOptions): Cluster {
  const cluster = new Cluster([...nodes], {
    lazyConnect: true,
    enableOfflineQueue: role === 'bullmq',
    shardedSubscribers: role === 'subscriber',
    clusterRetryStrategy: reconnectDelayMs,
    // Not 0 means: send again what was on its way when a node's connection broke.
    ...(role === 'bullmq' ? {} : { retryDelayOnFailover: 0 }),
    // Certificates name hosts, not the addresses that ioredis would look up first.
    ...(tls === null ? {} : { dnsLookup: lookupNothing }),
    redisOptions,
  });
  // By itself ioredis connects to a node when the first call goes there, and refuses all others until that is done. Not before it
  // is ready: its own first look at the Cluster would be refused likewise.
  const connectPrimaries = () => {
    if (cluster.status !== 'ready') return;
    for (const node of cluster.nodes('master')) if (node.status === 'wait') node.connect().catch(() => undefined);
  };
  cluster.on('ready', connectPrimaries);
  cluster.on('refresh', connectPrimaries);
  return cluster;
}

/** The host itself instead of its address. */
const lookupNothing: NonNullable<ClusterOptions['dnsLookup']> = (host, done) => done(null, host);

function createSingle(settings: RedisSettings, role: RedisRole, shared: SharedOptions): Redis {
  const options = {
    ...shared,
    lazyConnect: true,
    enableOfflineQueue: role === 'bullmq',
    retryStrategy: reconnectDelayMs,
    db: settings.database,
  } satisfies RedisOptions;
  if (settings.mode === 'sentinel') {
    return new Redis({
      ...options,
      sentinels: [...settings.nodes],
      name: settings.sentinelName,
      failoverDetector: true,
      ...(settings.sentinelPassword === null ? {} : { sentinelPassword: settings.sentinelPassword }),
      ...(settings.tls === null ? {} : { enableTLSForSentinelMode: true, sentinelTLS: { ...settings.tls } }),
    });
  }
  if (settings.socketPath !== null) return new Redis({ ...options, path: settings.socketPath });
  return new Redis({ ...options, ...settings.nodes[0] });
}

/** Logs losses once each, not every failed attempt. Without an 'error' listener ioredis prints to the console. */
function watch(redis: RedisConnection, name: string, logger: RedisConnectionOptions['logger']): void {
  let isLost = false;
  redis.on('error', (error: Error) => {
    if (!isLost) logger?.warn({ err: error, connection: name }, 'Redis connection failed; trying again until it works');
    isLost = true;
  });
  redis.on('close', () => {
    // A deliberate disconnect closes too, but does not reconnect.
    if (!isLost && redis.status === 'reconnecting') {
      logger?.warn({ connection: name }, 'Redis connection lost; trying again until it works');
      isLost = true;
    }
  });
  redis.on('ready', () => {
    if (isLost) logger?.info({ connection: name }, 'Redis connection works again');
    isLost = false;
  });
}

/** For messages: where Redis is, without user and password. */
export function describeRedis({ mode, nodes, socketPath, sentinelName, tls }: RedisSettings): string {
  if (socketPath !== null) return `unix://${socketPath}`;
  const places = nodes.map(printAddress).join(',');
  if (mode === 'sentinel') return `the primary "${sentinelName}" of the Sentinels at ${places}`;
  if (mode === 'cluster') return `the Cluster at ${places}`;
  return `${tls ? 'rediss' : 'redis'}://${places}`;
}
