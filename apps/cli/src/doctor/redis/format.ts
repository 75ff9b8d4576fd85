/** Whether what is stored is of a layout that this version knows. */
import { STORE_FORMAT } from '@carrierarr/protocol';
import { type Check, withoutRedis } from '../check.js';
import { fail, type Finding, ok, warn } from '../finding.js';

export function judgeFormat(found: string | null, prefix: string): Finding {
  if (found === null) {
    return warn(
      `There is nothing yet under the key prefix "${prefix}".`,
      'Normal before the first start. Else check --redis-key-prefix and the database number of the URL.',
    );
  }
  if (found !== String(STORE_FORMAT)) {
    return fail(
      `The data under the key prefix "${prefix}" are of format ${found}; this version knows ${STORE_FORMAT}.`,
      'Run the carrierarr version that wrote them, or choose another --redis-key-prefix.',
    );
  }
  return ok(`The data under "${prefix}" are of format ${found}.`);
}

export const redisFormat: Check = {
  name: 'redis-format',
  missing: withoutRedis,
  async look(means) {
    const redis = await means.redis();
    return [judgeFormat(await redis.get(means.keys.format()), means.keys.prefix)];
  },
};
