/** Where Redis is and how to log in, made from the values of `redisSchema`. */
import { readFileSync } from 'node:fs';
import type { Address } from '../config/address.js';
import { ConfigError, type ConfigProblem } from '../config/config-error.js';
import type { ConfigValues } from '../config/schema.js';
import type { redisSchema } from '../config/shared-schemas.js';
import { redactUrl } from '../redact.js';

export interface RedisTls {
  /** PEM; the system's authorities when left out. */
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  /** Name expected in the certificate; the host when left out. */
  readonly servername?: string;
}

export interface RedisSettings {
  readonly mode: 'single' | 'sentinel' | 'cluster';
  /** One server, the Sentinels, or some nodes of the Cluster. Empty when `socketPath` is set. */
  readonly nodes: readonly Address[];
  readonly socketPath: string | null;
  /** Always 0 on a Cluster. */
  readonly database: number;
  readonly username: string | null;
  readonly password: string | null;
  readonly sentinelName: string;
  readonly sentinelPassword: string | null;
  /** null: not encrypted. */
  readonly tls: RedisTls | null;
  /** First part of every key. Not set on connections: BullMQ refuses ioredis' own prefix. */
  readonly keyPrefix: string;
}

const DEFAULT_PORT = 6379;
const DEFAULT_SENTINEL_PORT = 26_379;

/**
 * Reads the TLS files. Throws ConfigError, for `program`, with every problem: a combination that cannot work, a file
 * that cannot be read.
 */
export function redisSettings(values: ConfigValues<typeof redisSchema>, program = 'carrierarr'): RedisSettings {
  const problems: ConfigProblem[] = [];
  const refuse = (key: string, message: string) => void problems.push({ key, message });
  const url = new URL(values.redisUrl);
  const mode = values.redisMode;
  const isSocket = url.protocol === 'unix:';
  const socketPath = isSocket ? decodeURIComponent(url.pathname) : null;
  const got = redactUrl(values.redisUrl);

  const digits = isSocket ? (url.searchParams.get('db') ?? '') : url.pathname.slice(1);
  if (!/^\d{0,5}$/.test(digits)) {
    refuse(
      'redisUrl',
      `Expected \`--redis-url\` to end in a database number such as /1 or in nothing, got \`${got}\`.`,
    );
  }
  if (isSocket && url.host !== '') {
    refuse('redisUrl', `Expected \`--redis-url\` to have three slashes before the path of a socket, got \`${got}\`.`);
  }
  if (isSocket && mode !== 'single') {
    refuse('redisMode', `\`--redis-mode ${mode}\` cannot be used with a unix socket, got \`--redis-url ${got}\`.`);
  }
  if (mode === 'single' && values.redisNodes.length > 0) {
    refuse('redisNodes', '`--redis-nodes` is only for Sentinel and Cluster: add `--redis-mode sentinel` or `cluster`.');
  }
  if (mode === 'cluster' && Number(digits) !== 0) {
    refuse('redisUrl', `A Redis Cluster has only database 0, got \`--redis-url ${got}\`. Remove \`/${digits}\`.`);
  }

  const isTls = values.redisTls || url.protocol === 'rediss:';
  if (isTls && isSocket) refuse('redisTls', '`--redis-tls` cannot be used with a unix socket. Remove one of them.');
  const tlsFiles = { redisTlsCa: 'ca', redisTlsCert: 'cert', redisTlsKey: 'key' } as const;
  const tls: { -readonly [Field in keyof RedisTls]: RedisTls[Field] } = {};
  for (const [key, field] of Object.entries(tlsFiles) as [keyof typeof tlsFiles, 'ca' | 'cert' | 'key'][]) {
    const path = values[key];
    const flag = `\`--redis-tls-${field}\``;
    if (path === null) continue;
    if (!isTls) refuse(key, `${flag} is set, but TLS is off: add \`--redis-tls\` or use a rediss:// URL.`);
    try {
      tls[field] = readFileSync(path, 'utf8');
    } catch (error) {
      refuse(key, `The file ${path} that ${flag} names cannot be read: ${(error as Error).message}.`);
    }
  }
  if ((values.redisTlsCert === null) !== (values.redisTlsKey === null)) {
    refuse('redisTlsCert', '`--redis-tls-cert` and `--redis-tls-key` belong together: set both or neither.');
  }
  if (values.redisTlsServername !== null) tls.servername = values.redisTlsServername;
  if (problems.length > 0) throw new ConfigError(program, problems);

  const port = Number(url.port) || (mode === 'sentinel' ? DEFAULT_SENTINEL_PORT : DEFAULT_PORT);
  const fromUrl = { host: url.hostname.replace(/^\[|\]$/g, ''), port };
  return {
    mode,
    nodes: isSocket ? [] : values.redisNodes.length > 0 ? values.redisNodes : [fromUrl],
    socketPath,
    database: Number(digits),
    username: values.redisUsername ?? (decodeURIComponent(url.username) || null),
    password: values.redisPassword ?? (decodeURIComponent(url.password) || null),
    sentinelName: values.redisSentinelName,
    sentinelPassword: values.redisSentinelPassword,
    tls: isTls ? tls : null,
    keyPrefix: values.redisKeyPrefix,
  };
}
