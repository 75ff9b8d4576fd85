/**
 * What a command needs that serves nothing and is over in a moment: configuration and time. To load Redis, metrics and logs for it would
 * take several times as long as the command itself.
 */
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
export { printable } from './printable.js';
export { redactUrl } from './redact.js';
export { version } from './version.js';
