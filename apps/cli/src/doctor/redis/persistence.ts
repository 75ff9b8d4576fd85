/** Whether what Redis acknowledged is still there after it crashed. */
import { type Check, withoutRedis } from '../check.js';
import { fail, type Finding, ok, warn } from '../finding.js';
import { type Info, judgeEach } from './info.js';

export function judgePersistence(info: Info): Finding {
  if (info.get('loading') === '1') {
    return fail('Redis is still loading its data.', 'Wait until it has, then run this again.');
  }
  if (info.get('aof_last_write_status') === 'err') {
    return fail(
      'Redis cannot write its append-only file, and refuses all writes.',
      'Look at its disk: full, or read-only?',
    );
  }
  if (info.get('rdb_last_bgsave_status') === 'err') {
    return fail(
      'The last snapshot failed, for which Redis by default refuses all writes.',
      'Look at its disk, and at its memory: a snapshot forks.',
    );
  }
  if (info.get('aof_enabled') === '1') return ok('The append-only file is on.');
  if (info.get('aof_enabled') === undefined) {
    return warn('Redis does not tell how it persists.', 'Make sure that its append-only file is on.');
  }
  return warn(
    'The append-only file is off: when Redis crashes, commands that were accepted and output that was shown are gone.',
    'Set appendonly yes, or accept it for a trial.',
  );
}

/** What follows a primary can take over from it. */
export function judgeReplicas(info: Info, isSentinel: boolean): Finding[] {
  if (info.get('role') === 'slave') {
    return [fail('This is a replica: it refuses writes.', 'Name the primary, or the Sentinels that know it.')];
  }
  if (isSentinel && Number(info.get('connected_slaves') ?? 0) === 0) {
    return [warn('No replica follows the primary: there is nothing to fail over to.', 'Start one.')];
  }
  return [];
}

export const redisPersistence: Check = {
  name: 'redis-persistence',
  missing: withoutRedis,
  look: (means) =>
    judgeEach(means, (info) => [
      judgePersistence(info),
      ...judgeReplicas(info, means.redisSettings?.mode === 'sentinel'),
    ]),
};
