/**
 * Whether a node lives: a pure function of times. Silence counts only while somebody was there to hear: after the
 * broker was away, or all monitors were, it begins anew, so that nobody is held for dead because nobody listened.
 *
 * A channel may also be given up for good, such as RabbitMQ once all agents speak gRPC. So one that nobody listens to
 * protects a node only while it is where the node was heard last, and at most for a day. Where no monitor serves agents at all, nobody
 * can be held for dead, but who was not heard since then is stale.
 */
import { type HealthStateName, NODE_CHANNELS, type NodeChannel, type NodeRecord } from './node-record.js';

export const LIVENESS_STATES = ['healthy', 'degraded', 'unhealthy', 'stale', 'dead'] as const;
/** `stale`: not heard of for a while. `dead`: for so long that it counts as gone. Otherwise what it says of itself. */
export type Liveness = (typeof LIVENESS_STATES)[number];

export interface LivenessLimits {
  staleMs: number;
  deadMs: number;
}

/** In the place of a channel: there is a monitor that leads, and none that would listen to any. */
export const NO_CHANNEL = 'none';

/** Since when each channel has been listened to without a pause, epoch ms; absent: nobody listens now. */
export type ListeningSince = Partial<Record<NodeChannel | typeof NO_CHANNEL, number>>;

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

/** What was heard last on a channel that nobody listens to any more counts for so long, ms. */
export const UNHEARD_MS_MAX = 24 * 3_600_000;

/**
 * How long it has been silent though somebody listened, ms. Of several channels the shortest silence counts. On one that
 * nobody listens to, its silence says nothing, so then it is 0, unless it was heard later on another.
 */
export function silenceMs({ seenMs }: Pick<NodeRecord, 'seenMs'>, listening: ListeningSince, nowMs: number): number {
  let shortestMs = Infinity;
  const heardMs = lastHeardMs(seenMs, listening);
  for (const channel of NODE_CHANNELS) {
    const seen = seenMs[channel];
    if (seen === undefined) continue;
    const since = listening[channel];
    if (since !== undefined) shortestMs = Math.min(shortestMs, nowMs - Math.max(seen, since));
    // It may live by this channel alone; what it last said on another may be days old.
    else if (seen > heardMs) return 0;
  }
  return shortestMs === Infinity ? 0 : Math.max(0, shortestMs);
}

/**
 * True if nobody can tell any more whether it lives: it was heard last on a channel that nobody listens to, and for a whole
 * day since then somebody has listened, but to others, or was there to, and did not. It is not known to be dead, and nothing to act on.
 */
export function isOutOfHearing(
  { seenMs }: Pick<NodeRecord, 'seenMs'>,
  listening: ListeningSince,
  nowMs: number,
): boolean {
  const lastMs = lastSeenMs({ seenMs });
  if (lastMs <= lastHeardMs(seenMs, listening)) return false;
  // Not by the clock alone: all monitors may have been away, and this channel may be heard again a moment after others.
  const watchedSinceMs = unservedSinceMs(listening) ?? Math.min(...channelsOf(listening));
  return nowMs - Math.max(lastMs, watchedSinceMs) >= UNHEARD_MS_MAX;
}

function channelsOf(listening: ListeningSince): number[] {
  return NODE_CHANNELS.flatMap((channel) => listening[channel] ?? []);
}

/** Since when no agent can be heard because no monitor serves any; undefined if that is not so, or not known. */
function unservedSinceMs(listening: ListeningSince): number | undefined {
  return channelsOf(listening).length === 0 ? listening[NO_CHANNEL] : undefined;
}

/** When it was last heard of on a channel that is listened to, epoch ms; 0 for never. */
function lastHeardMs(seenMs: NodeRecord['seenMs'], listening: ListeningSince): number {
  let lastMs = 0;
  for (const channel of NODE_CHANNELS)
    if (listening[channel] !== undefined) lastMs = Math.max(lastMs, seenMs[channel] ?? 0);
  return lastMs;
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
  const unservedMs = nowMs - Math.max(lastSeenMs(node), unservedSinceMs(listening) ?? Infinity);
  if (Math.max(silent, unservedMs) >= staleMs || isOutOfHearing(node, listening, nowMs)) return 'stale';
  return HEALTH[healthOf(node)];
}
