/** Whether the clocks agree. Tokens expire by them, and schedules and ages are told by them. */
import type { Clock } from '@carrierarr/platform';
import { type Check, NO_GATEWAY, NO_REDIS, type Means, Unseen } from './check.js';
import { fail, type Finding, ok, skip, warn } from './finding.js';
import { gatewayTime } from './gateway/time.js';
import { redisNowMs } from './redis/now.js';

const OFF_MS = 1_000;
/** JSON Web Tokens are refused, and agents look dead. */
const BROKEN_MS = 30_000;
const LOOKS = 3;

export interface Skew {
  /** Theirs minus ours, ms. */
  readonly skewMs: number;
  /** How far off that may be: half a round trip, and what the other rounds. */
  readonly uncertainMs: number;
}

export function judgeSkew(whose: string, { skewMs, uncertainMs }: Skew): Finding {
  const offMs = Math.max(0, Math.abs(skewMs) - uncertainMs);
  if (offMs <= OFF_MS) return ok(`The clock of ${whose} agrees with this machine's within ${inSeconds(OFF_MS)}.`);
  const seen = `The clock of ${whose} is ${inSeconds(offMs)} ${skewMs > 0 ? 'ahead of' : 'behind'} this machine's.`;
  const advice = 'Synchronise both with NTP (chrony, systemd-timesyncd).';
  return offMs > BROKEN_MS ? fail(seen, advice) : warn(seen, advice);
}

function inSeconds(ms: number): string {
  return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
}

/** Asks a few times and keeps the quickest answer. `roundsMs`: the other's clock tells only steps of this. */
export async function measureSkew(clock: Clock, ask: () => Promise<number>, roundsMs = 0): Promise<Skew> {
  let best: Skew | undefined;
  for (let look = 0; look < LOOKS; look++) {
    const beforeMs = clock.monotonicMs();
    const theirsMs = await ask();
    const halfMs = (clock.monotonicMs() - beforeMs) / 2;
    const skewMs = theirsMs + roundsMs / 2 - (clock.now() - halfMs);
    const uncertainMs = halfMs + roundsMs / 2;
    if (best === undefined || uncertainMs < best.uncertainMs) best = { skewMs, uncertainMs };
  }
  return best ?? { skewMs: 0, uncertainMs: 0 };
}

async function ofRedis({ redis: connect, clock }: Means): Promise<Finding> {
  try {
    const redis = await connect();
    return judgeSkew('Redis', await measureSkew(clock, () => redisNowMs(redis)));
  } catch (error) {
    if (error instanceof Unseen) return skip(`Not looked at: ${error.message}.`);
    throw error;
  }
}

async function ofGateway({ gateway, clock }: Means): Promise<Finding> {
  if (gateway === null) return skip(`Not looked at: ${NO_GATEWAY}.`);
  const first = await gatewayTime(gateway);
  if (first === undefined) {
    return skip('The gateway tells no time: there is no Date header, and its status needs a token that it takes.');
  }
  const { whose, roundsMs } = first;
  const ask = async () => (await gatewayTime(gateway))?.timeMs ?? first.timeMs;
  return judgeSkew(whose, await measureSkew(clock, ask, roundsMs));
}

export const clock: Check = {
  name: 'clock',
  missing: ({ redisSettings, gateway }) =>
    redisSettings === null && gateway === null ? `${NO_REDIS}, and ${NO_GATEWAY}` : undefined,
  async look(means) {
    const findings = means.redisSettings === null ? [] : [await ofRedis(means)];
    return means.gateway === null ? findings : [...findings, await ofGateway(means)];
  },
};
