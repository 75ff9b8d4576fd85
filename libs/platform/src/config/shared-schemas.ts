/** Settings that several programs share; spread into an app's schema. */
import { formats } from './formats.js';
import { defineSchema } from './schema.js';

export const redisSchema = defineSchema({
  redisUrl: {
    doc: 'Redis 7 or Valkey. User, password and database number may be part of it.',
    format: formats.urlWith(
      ['redis', 'rediss', 'unix'],
      'redis://127.0.0.1:6379, rediss://cache.example:6380 or unix:///run/redis.sock',
    ),
    default: 'redis://127.0.0.1:6379',
  },
  redisMode: {
    doc: 'How Redis is deployed.',
    format: ['single', 'sentinel', 'cluster'],
    default: 'single',
  },
  redisNodes: {
    doc: 'The Sentinels, or some nodes of the Cluster. Replaces the host in the Redis URL.',
    format: formats.listOf(formats.hostPort),
    default: [],
  },
  redisSentinelName: {
    doc: 'Name of the primary that the Sentinels watch.',
    format: formats.text,
    default: 'mymaster',
  },
  redisUsername: { doc: 'Redis user (ACL). Replaces the one in the Redis URL.', format: formats.text, default: null },
  redisPassword: {
    doc: 'Redis password. Replaces the one in the Redis URL.',
    format: formats.text,
    default: null,
    secret: true,
  },
  redisSentinelPassword: { doc: 'Password of the Sentinels.', format: formats.text, default: null, secret: true },
  redisTls: { doc: 'Encrypt connections to Redis; implied by rediss://.', format: formats.boolean, default: false },
  redisTlsCa: {
    doc: 'Certificate authorities (PEM) to trust instead of the system ones.',
    format: formats.filePath,
    default: null,
  },
  redisTlsCert: { doc: 'Client certificate (PEM).', format: formats.filePath, default: null },
  redisTlsKey: { doc: 'Key of the client certificate (PEM).', format: formats.filePath, default: null },
  redisTlsServername: {
    doc: 'Name expected in the certificate of Redis, if not its host.',
    format: formats.text,
    default: null,
  },
  redisKeyPrefix: {
    doc: 'First part of every key and channel, so that several installations can share one Redis.',
    format: formats.textMatching(/^[A-Za-z0-9._-]{1,64}$/, '1 to 64 letters, digits, dots, dashes or underscores'),
    default: 'carrierarr',
  },
});

export const logSchema = defineSchema({
  logLevel: {
    doc: 'The least important messages to log.',
    format: ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
    default: 'info',
  },
  logFormat: {
    doc: 'JSON lines for machines, or lines for people. auto: pretty on a terminal, else json.',
    format: ['auto', 'json', 'pretty'],
    default: 'auto',
  },
});

export const opsSchema = defineSchema({
  opsAddr: {
    doc: 'Where to serve /health, /ready, /metrics and /version. They need no authentication.',
    format: formats.address,
    default: '127.0.0.1:9091',
  },
});

const MINUTE_MS = 60_000;
const TEN_YEARS_MS = 3650 * 24 * 3_600_000;

/**
 * Bounds of the output history. Whoever writes to a log trims it, so gateways and runners of one installation must have
 * the same.
 */
export const historySchema = defineSchema({
  historyEntries: {
    doc: 'Entries of output kept per target (an entry is a line or many). The same for every gateway and runner.',
    format: formats.intBetween(100, 100_000_000),
    default: 200_000,
  },
  historyBytes: {
    doc: 'Bytes of output kept per target. The same for every gateway and runner.',
    format: formats.bytesBetween(64 * 1024, 1024 ** 4),
    default: '64MiB',
  },
  historyAge: {
    doc: 'How long output is kept. The same for every gateway and runner.',
    format: formats.durationBetween(MINUTE_MS, TEN_YEARS_MS),
    default: '168h',
  },
  historyExecutions: {
    doc: 'How long the records of ended executions are kept. The same for every gateway and runner.',
    format: formats.durationBetween(MINUTE_MS, TEN_YEARS_MS),
    default: '720h',
  },
});
