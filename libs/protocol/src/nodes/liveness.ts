/**
 * Whether a node lives: a pure function of times. Silence counts only while somebody was there to hear: after the
 * broker was away, or all monitors were, it begins anew, so that nobody is held for dead because nobody listened.
 */
import { type HealthStateName, NODE_CHANNELS, type NodeChannel, type NodeRecord } from './node-record.js';

export const LIVENESS_STATES = ['healthy', 'degraded', 'unhealthy', 'stale', 'dead'] as const;
/** `stale`: not heard of for a while. `dead`: for so long that it counts as gone. Otherwise what it says of itself. */
export type Liveness = (typeof LIVENESS_STATES)[number];

export interface LivenessLimits {
  staleMs: number;
  deadMs: number;
}

/** Since when each channel has been listened to without a pause, epoch ms; absent: nobody listens now. */
export type ListeningSince = Partial<Record<NodeChannel, number>>;

const HEALTH: Readonly<Record<HealthStateName, Liveness>> = {
  HEALTH_STATE_UNSPECIFIED: 'healthy',
  HEALTH_STATE_HEALTHY: 'healthy',
  HEALTH_STATE_DEGRADED: 'degraded',
  HEALTH_STATE_UNHEALTHY: 'unhealthy',
};

/** When it was last heard of on any channel, epoch ms; 0 for never. */
export function lastSeenMs({ seenMs }: Pick<NodeRecord, 'seenMs'>): number {
  let lastMs = 0;
  for (const channel of NODE_CHANNELS) lastMs = Math.max(lastMs, seenMs[channel] ?? 0);
  return lastMs;
}

/**
 * How long it has been silent though somebody listened, ms. Of several channels the shortest silence counts. On one
 * that nobody listens to, its silence says nothing, so then it is 0.
 */
export function silenceMs({ seenMs }: Pick<NodeRecord, 'seenMs'>, listening: ListeningSince, nowMs: number): number {
  let shortestMs = Infinity;
  for (const channel of NODE_CHANNELS) {
    const seen = seenMs[channel];
    if (seen === undefined) continue;
    const since = listening[channel];
    shortestMs = Math.min(shortestMs, since === undefined ? 0 : nowMs - Math.max(seen, since));
  }
  return shortestMs === Infinity ? 0 : Math.max(0, shortestMs);
}

/** What it says of itself: the newer one of status and heartbeat counts. */
export function healthOf({ status, heartbeat }: Pick<NodeRecord, 'status' | 'heartbeat'>): HealthStateName {
  if (heartbeat !== undefined && heartbeat.received_ms > (status?.received_ms ?? 0)) {
    if (heartbeat.status === 'unknown') return status?.health ?? 'HEALTH_STATE_UNSPECIFIED';
    return `HEALTH_STATE_${heartbeat.status.toUpperCase() as 'HEALTHY' | 'DEGRADED' | 'UNHEALTHY'}`;
  }
  return status?.health ?? 'HEALTH_STATE_UNSPECIFIED';
}

export function livenessOf(
  node: Pick<NodeRecord, 'seenMs' | 'status' | 'heartbeat'>,
  listening: ListeningSince,
  { staleMs, deadMs }: LivenessLimits,
  nowMs: number,
): Liveness {
  const silent = silenceMs(node, listening, nowMs);
  if (silent >= deadMs) return 'dead';
  if (silent >= staleMs) return 'stale';
  return HEALTH[healthOf(node)];
}
