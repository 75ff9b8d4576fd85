/** Whether Redis can be reached and lets this user in, and is what it is said to be: one server, Sentinel or Cluster. */
import { describeRedis, type RedisSettings } from '@carrierarr/platform';
import { type Check, withoutRedis } from '../check.js';
import { fail, type Finding, ok } from '../finding.js';
import { RedisAccess } from './access.js';
import { parseInfo } from './info.js';

export type RedisMode = RedisSettings['mode'];

const WORDS: Record<RedisMode, string> = { single: 'one server', sentinel: 'behind Sentinels', cluster: 'a Cluster' };

/** `reported`: what the server itself says (`redis_mode`); undefined if it does not. */
export function judgeMode(where: string, configured: RedisMode, reported: string | undefined): Finding {
  if (reported === 'sentinel') {
    return fail(
      `${where} is a Sentinel, not a Redis.`,
      'Give the Sentinels in --redis-nodes, with --redis-mode sentinel and --redis-sentinel-name.',
    );
  }
  if (reported === 'cluster' && configured !== 'cluster') {
    return fail(
      `${where} is a node of a Cluster.`,
      'Add --redis-mode cluster, and some of its nodes in --redis-nodes.',
    );
  }
  if (reported === 'standalone' && configured === 'cluster') {
    return fail(`${where} is one server, no Cluster.`, 'Take --redis-mode cluster away.');
  }
  return ok(`Reached ${where}: ${WORDS[configured]}.`);
}

export const redisConnection: Check = {
  name: 'redis',
  missing: withoutRedis,
  async look({ redisSettings, config }) {
    if (redisSettings === null) return [];
    const access = new RedisAccess(redisSettings, config.timeout);
    try {
      const redis = await access.connect();
      const text = await redis.info('server').catch(() => '');
      return [judgeMode(describeRedis(redisSettings), redisSettings.mode, parseInfo(text).get('redis_mode'))];
    } catch (error) {
      return [fail((error as Error).message, 'Nothing works without Redis: start there.')];
    } finally {
      access.close();
    }
  },
};
