/** How long a round trip to Redis takes. Each line of output makes some. */
import { type Check, withoutRedis } from '../check.js';
import { fail, type Finding, ok, warn } from '../finding.js';

const SAMPLES = 20;
const SLOW_MS = 10;
/** Leases and probes count in seconds. */
const BROKEN_MS = 500;

export function judgeLatency(samplesMs: readonly number[]): Finding {
  const sorted = samplesMs.toSorted((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)] ?? 0;
  const most = sorted.at(-1) ?? 0;
  const seen = `A round trip takes ${median.toFixed(1)} ms (the median of ${samplesMs.length}; ${most.toFixed(1)} ms at most).`;
  const advice = 'Put Redis into the same zone, look for what blocks it (SLOWLOG GET), and for CPU limits.';
  if (median > BROKEN_MS) return fail(seen, advice);
  return median > SLOW_MS ? warn(seen, advice) : ok(seen);
}

export const redisLatency: Check = {
  name: 'redis-latency',
  missing: withoutRedis,
  async look(means) {
    const redis = await means.redis();
    const samples: number[] = [];
    for (let sample = 0; sample < SAMPLES; sample++) {
      const fromMs = means.clock.monotonicMs();
      // Reads what every program reads first; on a Cluster it goes to one node.
      await redis.get(means.keys.format());
      samples.push(means.clock.monotonicMs() - fromMs);
    }
    return [judgeLatency(samples)];
  },
};
