/** Whether this user may do what carrierarr does, asked of Redis by dry run. */
import type { RedisConnection } from '@carrierarr/platform';
import type { Keys } from '@carrierarr/protocol';
import { type Check, withoutRedis } from '../check.js';
import { fail, type Finding, ok, skip } from '../finding.js';
import { commandsUsed } from './commands-used.js';

/** More are counted, not named. */
const NAMED_MAX = 8;

export interface DryRun {
  readonly user: string;
  /** What was refused, in Redis' words, by command. */
  readonly refused: ReadonlyMap<string, string>;
  readonly asked: number;
}

/** `dryRun`: null when this user may not even ask. */
export function judgePermissions(dryRun: DryRun | null, { prefix, bullPrefix }: Keys): Finding {
  const needed = `~${prefix}:* ~${bullPrefix}:* &${prefix}:* +@read +@write +@pubsub +@scripting +@transaction +@connection +info +time`;
  if (dryRun === null) {
    return skip(
      'This user may not run ACL WHOAMI and ACL DRYRUN, so its permissions are not known.',
      `Run it once as a user who may (+acl). What carrierarr needs: ${needed}`,
    );
  }
  const { user, refused, asked } = dryRun;
  if (refused.size === 0) return ok(`The user "${user}" may do all of the ${asked} things that were asked for.`);
  const names = [...refused.keys()];
  const more = names.length > NAMED_MAX ? ` and ${names.length - NAMED_MAX} more` : '';
  const first = [...refused.values()][0] ?? '';
  return fail(
    `The user "${user}" may not ${names.slice(0, NAMED_MAX).join(', ')}${more} (${first}).`,
    `As an administrator: ACL SETUSER ${user} ${needed}`,
  );
}

async function tryAll(redis: RedisConnection, keys: Keys): Promise<DryRun | null> {
  try {
    const user = String(await redis.call('ACL', 'WHOAMI'));
    const refused = new Map<string, string>();
    const calls = commandsUsed(keys);
    for (const call of calls) {
      const answer = String(await redis.call('ACL', 'DRYRUN', user, ...call));
      if (answer !== 'OK') refused.set(call[0], answer);
    }
    return { user, refused, asked: calls.length };
  } catch (error) {
    if (/NOPERM|unknown (sub)?command/i.test((error as Error).message)) return null;
    throw error;
  }
}

export const redisPermissions: Check = {
  name: 'redis-permissions',
  missing: withoutRedis,
  look: async (means) => [judgePermissions(await tryAll(await means.redis(), means.keys), means.keys)],
};
