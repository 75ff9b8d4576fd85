/**
 * Whether the Redis server can be trusted with a fleet: new enough, and never evicting. It asks INFO only, since managed
 * services forbid CONFIG.
 */
import type { RedisConnection } from './connection.js';

export interface RedisServerCheck {
  /** For example `7.2.4`; null when the server does not tell. Valkey tells the Redis version it is compatible with. */
  readonly version: string | null;
  readonly maxmemoryPolicy: string | null;
  /** What must be changed before starting. */
  readonly errors: readonly string[];
  /** What could not be checked. */
  readonly warnings: readonly string[];
}

const MAJOR_VERSION_MIN = 7;

function infoField(info: string, name: string): string | null {
  return new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? null;
}

/** On a Cluster one node is asked. Rejects only when Redis cannot be reached. */
export async function checkRedisServer(redis: RedisConnection): Promise<RedisServerCheck> {
  const errors: string[] = [];
  const warnings: string[] = [];
  let info = '';
  try {
    info = `${await redis.info('server')}\n${await redis.info('memory')}`;
  } catch (error) {
    if (!/NOPERM|unknown command/i.test((error as Error).message)) throw error;
    warnings.push('Redis does not permit INFO to this user: its version and maxmemory-policy are unchecked.');
    return { version: null, maxmemoryPolicy: null, errors, warnings };
  }

  const version = infoField(info, 'redis_version');
  if (version === null) warnings.push('Redis does not tell its version; 7.0 or later is needed.');
  else if (Number.parseInt(version, 10) < MAJOR_VERSION_MIN) {
    errors.push(`Redis ${version} is too old: use Redis 7.0 or later, or Valkey.`);
  }
  const maxmemoryPolicy = infoField(info, 'maxmemory_policy');
  if (maxmemoryPolicy === null) {
    warnings.push('Redis does not tell its maxmemory-policy; it must be noeviction.');
  } else if (maxmemoryPolicy !== 'noeviction') {
    errors.push(
      `Redis has maxmemory-policy ${maxmemoryPolicy}, so it may delete queued commands and output when memory runs ` +
        "out. Set it to noeviction (redis.conf, or your provider's parameter group).",
    );
  }
  return { version, maxmemoryPolicy, errors, warnings };
}
