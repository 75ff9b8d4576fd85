/**
 * The port behind which every check stands. A check looks (a thin probe) and judges (a pure function of what the probe
 * saw); it changes nothing in what it looks at.
 */
import type { Clock, RedisConnection, RedisSettings } from '@carrierarr/platform';
import type { Keys } from '@carrierarr/protocol';
import type { GatewayAccess } from '../client/settings.js';
import type { Finding } from './finding.js';
import type { DoctorConfig } from './schema.js';

/** What checks look with. */
export interface Means {
  readonly config: DoctorConfig;
  /** Null when no gateway is named. */
  readonly gateway: GatewayAccess | null;
  /** Null when no Redis is named. */
  readonly redisSettings: RedisSettings | null;
  readonly keys: Keys;
  readonly env: NodeJS.ProcessEnv;
  /** Of this program. */
  readonly version: string;
  readonly clock: Clock;
  /** The one connection of all checks, connected. Rejects with `Unseen` when Redis cannot be reached. */
  readonly redis: () => Promise<RedisConnection>;
}

export interface Check {
  /** As it stands in the report. */
  readonly name: string;
  /** Why there is nothing to look at; undefined when there is something. */
  missing(means: Means): string | undefined;
  /** Throws `Unseen` when something else has to be put right first. Any other error is a finding of its own. */
  look(means: Means): Promise<readonly Finding[]>;
  /** How long it may take beyond what every check may, ms. */
  extraMs?(means: Means): number;
}

/** It could not be looked at, for a reason that another check tells. */
export class Unseen extends Error {
  override readonly name = 'Unseen';
}

export const NO_REDIS = 'no Redis is named (--redis-url)';
export const NO_GATEWAY = 'no gateway is named (--url)';

export const withoutRedis = ({ redisSettings }: Means): string | undefined =>
  redisSettings === null ? NO_REDIS : undefined;

/** The gateway of a check that was not skipped. */
export function gatewayOf({ gateway }: Means): GatewayAccess {
  if (gateway === null) throw new Unseen(NO_GATEWAY);
  return gateway;
}
