/** Redis' clock. */
import type { RedisConnection } from '@carrierarr/platform';

/** Epoch ms, with its fraction. */
export async function redisNowMs(redis: RedisConnection): Promise<number> {
  const [seconds, micros] = await redis.time();
  return Number(seconds) * 1000 + Number(micros) / 1000;
}
