/** Whether the server is new enough: sharded pub/sub came with Redis 7. */
import { type Check, withoutRedis } from '../check.js';
import { fail, type Finding, ok, warn } from '../finding.js';
import { type Info, judgeEach } from './info.js';

const MAJOR_VERSION_MIN = 7;

export function judgeVersion(info: Info): Finding {
  const version = info.get('redis_version');
  if (version === undefined) {
    return warn('The server does not tell its version.', 'Make sure that it is Redis 7.0 or later, or Valkey.');
  }
  const valkey = info.get('valkey_version');
  const shown = valkey === undefined ? `Redis ${version}` : `Valkey ${valkey}`;
  if (Number.parseInt(version, 10) < MAJOR_VERSION_MIN) {
    return fail(`${shown} is too old.`, 'Use Redis 7.0 or later, or Valkey.');
  }
  return ok(`${shown}.`);
}

export const redisVersion: Check = {
  name: 'redis-version',
  missing: withoutRedis,
  look: (means) => judgeEach(means, (info) => [judgeVersion(info)]),
};
