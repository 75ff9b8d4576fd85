/** Whether anybody is there to run commands. */
import { RUNNER_SEEN_MS, RunnerRegistry } from '@carrierarr/store';
import { type Check, withoutRedis } from '../check.js';
import { fail, type Finding, ok, warn } from '../finding.js';
import { redisNowMs } from '../redis/now.js';

interface SeenRunner {
  readonly id: string;
  readonly executors?: readonly string[];
}

/** `runners`: those seen within a minute. */
export function judgeRunners(runners: readonly SeenRunner[]): Finding {
  if (runners.length === 0) {
    return fail(
      'No runner has been seen for a minute: commands are refused with no_runner.',
      'Start one (`carrierarr runner --script FILE`), with this Redis and key prefix.',
    );
  }
  const names = runners.map(({ id }) => id).toSorted();
  if (names.length === 1) {
    return warn(`One runner: ${names[0]}.`, 'With a second one, commands go on while one is replaced.');
  }
  return ok(`${names.length} runners: ${names.slice(0, 5).join(', ')}${names.length > 5 ? ', …' : ''}.`);
}

export const runners: Check = {
  name: 'runners',
  missing: withoutRedis,
  async look(means) {
    const redis = await means.redis();
    const sinceMs = (await redisNowMs(redis)) - RUNNER_SEEN_MS;
    return [judgeRunners(await new RunnerRegistry(redis, means.keys).seenSince(Math.floor(sinceMs)))];
  },
};
