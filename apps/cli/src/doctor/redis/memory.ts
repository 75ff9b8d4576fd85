/** Whether Redis may throw our data away, and how much room it has. */
import { type Check, withoutRedis } from '../check.js';
import { fail, type Finding, ok, warn } from '../finding.js';
import { type Info, judgeEach } from './info.js';

/** Above it there is little room for an outage of runners, or for more targets. */
const FULL_SHARE = 0.8;

function mebibytes(bytes: number): string {
  return `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
}

export function judgeMemory(info: Info): Finding[] {
  const policy = info.get('maxmemory_policy');
  const findings = [
    policy === undefined
      ? warn('The server does not tell its maxmemory-policy.', 'Make sure that it is noeviction.')
      : policy === 'noeviction'
        ? ok('maxmemory-policy is noeviction.')
        : fail(
            `maxmemory-policy is ${policy}: when memory runs out, queued commands and output are deleted.`,
            "Set it to noeviction, in redis.conf or in your provider's parameter group.",
          ),
  ];
  const used = Number(info.get('used_memory') ?? 0);
  const most = Number(info.get('maxmemory') ?? 0);
  const inUse = `${mebibytes(used)} in use`;
  if (most === 0) {
    findings.push(
      warn(
        `${inUse}, without a limit (maxmemory 0): the system ends Redis when memory runs out.`,
        'Set maxmemory below what the machine or container has.',
      ),
    );
  } else if (used > FULL_SHARE * most) {
    findings.push(
      warn(
        `${inUse} of ${mebibytes(most)}.`,
        'When it is full, commands are refused. Give Redis more, or lower --history-bytes, --history-total-bytes or --history-age.',
      ),
    );
  } else findings.push(ok(`${inUse} of ${mebibytes(most)}.`));
  return findings;
}

export const redisMemory: Check = {
  name: 'redis-memory',
  missing: withoutRedis,
  look: (means) => judgeEach(means, judgeMemory),
};
