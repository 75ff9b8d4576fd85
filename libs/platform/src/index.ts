/** What it takes to run a process: configuration, logs, metrics, health, Redis connections, lifecycle, time. */
export { AddressCounts } from './access/address-counts.js';
export { limitKeyOf } from './access/limit-key.js';
export { type Rate, TokenBucket, TokenBuckets } from './access/token-bucket.js';
export { ANONYMOUS, parseTokens, type TokenProof, Tokens } from './access/tokens.js';
export { WatchedFile } from './access/watched-file.js';
export { type BackoffOptions, backoffMs } from './backoff.js';
export { type Clock, FakeClock, sleep, systemClock, type Timer } from './clock.js';
export { type Address, isLoopbackHost, parseAddress, printAddress } from './config/address.js';
export { parseByteSize, printByteSize } from './config/byte-size.js';
export { type LoadConfigOptions, type LoadedConfig, loadConfig, printableConfig } from './config/config.js';
export { ConfigError, type ConfigProblem } from './config/config-error.js';
export { parseDuration, printDuration } from './config/duration.js';
export { configEnvNames } from './config/environment.js';
export { defineFormat, type Format, type FormatDefinition, formats } from './config/formats.js';
export { configReference, type ProgramDescription } from './config/help.js';
export {
  type ConfigKey,
  type ConfigSchema,
  type ConfigValues,
  defineSchema,
  type ResolvedKey,
  resolveKeys,
} from './config/schema.js';
export { historySchema, logSchema, opsSchema, redisSchema } from './config/shared-schemas.js';
export { type CheckState, Readiness, type ReadinessOptions, type ReadinessReport } from './health.js';
export { type Component, Lifecycle, type LifecycleOptions, type ProcessHost, type StopReport } from './lifecycle.js';
export { createLogger, type Logger, type LoggerOptions } from './logger.js';
export { createMetrics, type MetricsOptions, Registry } from './metrics.js';
export { OpsServer, type OpsServerOptions } from './ops-server.js';
export { printable } from './printable.js';
export { redactUrl } from './redact.js';
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
export { waitForRedis, type WaitForRedisOptions } from './redis/wait.js';
export { version } from './version.js';
