/** What it takes to run a process: configuration, logs, metrics, health, Redis connections, lifecycle, time. */
export * from './light.js';
export { AddressCounts } from './access/address-counts.js';
export { limitKeyOf } from './access/limit-key.js';
export { type Rate, TokenBucket, TokenBuckets } from './access/token-bucket.js';
export { ANONYMOUS, parseTokens, type TokenProof, Tokens } from './access/tokens.js';
export { WatchedFile } from './access/watched-file.js';
export { type CheckState, Readiness, type ReadinessOptions, type ReadinessReport } from './health.js';
export { type Component, Lifecycle, type LifecycleOptions, type ProcessHost, type StopReport } from './lifecycle.js';
export { createLogger, type Logger, type LoggerOptions } from './logger.js';
export { createMetrics, type MetricsOptions, Registry } from './metrics.js';
export { OpsServer, type OpsServerOptions } from './ops-server.js';
export {
  createRedis,
  describeRedis,
  type RedisConnection,
  type RedisConnectionOptions,
  type RedisRole,
} from './redis/connection.js';
export { type EmbeddedRedis, type EmbeddedRedisOptions, startEmbeddedRedis } from './redis/embedded.js';
export { checkRedisServer, type RedisServerCheck } from './redis/server-check.js';
export { type RedisSettings, type RedisTls, redisSettings } from './redis/settings.js';
export { Seldom } from './seldom.js';
export { waitForRedis, type WaitForRedisOptions } from './redis/wait.js';
