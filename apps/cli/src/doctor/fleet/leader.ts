/** Whether a monitor leads: else nobody polls, and nothing is kept as it should be. */
import { type Check, withoutRedis } from '../check.js';
import { type Finding, ok, warn } from '../finding.js';
import { redisNowMs } from '../redis/now.js';

export interface LeaderFacts {
  /** Its name, and something that differs with each start. */
  readonly holder: string | undefined;
  /** Of its lease, Redis' ms. */
  readonly untilMs: number;
  readonly nowMs: number;
}

export function judgeLeader({ holder, untilMs, nowMs }: LeaderFacts): Finding {
  if (holder !== undefined && untilMs > nowMs) return ok(`${holder.split(' ', 1)[0]} leads.`);
  return warn(
    'No monitor leads: states are not watched, and workers are not kept as their owners asked.',
    'Start monitors (`carrierarr monitor`), unless you only send commands. If some run: do they reach this Redis?',
  );
}

export const leader: Check = {
  name: 'monitors',
  missing: withoutRedis,
  async look(means) {
    const redis = await means.redis();
    const [{ holder, until = '0' }, nowMs] = await Promise.all([redis.hgetall(means.keys.leader()), redisNowMs(redis)]);
    return [judgeLeader({ holder, untilMs: Number(until), nowMs })];
  },
};
