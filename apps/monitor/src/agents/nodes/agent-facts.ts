/**
 * What the row of a worker says of its agent. A status comes every half a minute, and rows go to every frontend, so only
 * what matters changes them: idleness is a point in time, and what always moves (load, when it was last heard of) is
 * brought up to date with other changes, else every few minutes. Pure.
 */
import { isDeepStrictEqual } from 'node:util';
import {
  healthOf,
  type HealthStateName,
  type Interruption,
  interruptionSchema,
  lastSeenMs,
  type Liveness,
  type NodeHeartbeat,
  type NodeRecord,
  type NodeStatusRecord,
  type NodeTypeName,
  timeTextOf,
  type WorkerMetrics,
  type WorkerRecord,
} from '@carrierarr/protocol';

/** How old what always moves may get in a row, ms. */
export const MOVING_MS = 300_000;
/** Agents count whole seconds, and messages take their time: the begin of idleness may seem to move by this much, ms. */
export const IDLE_JITTER_MS = 10_000;

export interface AgentFacts {
  node: string;
  liveness: Liveness;
  connected: boolean;
  type: NodeTypeName;
  health: HealthStateName;
  version: string;
  draining: boolean;
  /** Since when it has had nothing to do, epoch ms, if it does and is heard. */
  idleSinceMs: number | undefined;
  interruption: Interruption | undefined;
  /** As of the last change, or some minutes old. */
  seenMs: number;
  metrics: WorkerMetrics | undefined;
}

/** What changes a row at once, where the rest waits for other changes. */
const SHARP = [
  ...(['node', 'liveness', 'connected', 'type', 'health', 'version', 'draining'] as const),
  ...(['idleSinceMs', 'interruption'] as const),
] as const satisfies readonly (keyof AgentFacts)[];
type SharpFacts = Pick<AgentFacts, (typeof SHARP)[number]>;

export interface Judged {
  liveness: Liveness;
  /** It has a stream. */
  connected: boolean;
  /** A status that is older says nothing of now, ms. */
  staleMs: number;
  nowMs: number;
}

export function isLiving(liveness: Liveness): boolean {
  return liveness !== 'stale' && liveness !== 'dead';
}

/** The facts of a node; the very same object as before if nothing is to be told anew. */
export function factsOf(node: NodeRecord, judged: Judged, before: AgentFacts | undefined): AgentFacts {
  const { liveness, connected, nowMs } = judged;
  const living = isLiving(liveness);
  const seenMs = lastSeenMs(node);
  const sharp: SharpFacts = {
    node: node.name,
    liveness,
    connected,
    type: node.registration?.type ?? 'NODE_TYPE_UNSPECIFIED',
    health: healthOf(node),
    version: node.registration?.agent_version ?? '',
    draining: node.status?.draining ?? false,
    idleSinceMs: living ? idleSinceMs(node, judged, before) : undefined,
    interruption: living ? interruptionOf(node) : undefined,
  };
  if (before !== undefined) {
    // Not for ever anew where nothing newer was heard: nobody may listen.
    const isRecent = before.seenMs === seenMs || (living && nowMs - before.seenMs < MOVING_MS);
    const hasMetrics = (before.metrics === undefined) === (!living || measuredBy(node)?.resources === undefined);
    // Of thousands of nodes, each second or two: no copies.
    if (isRecent && hasMetrics && SHARP.every((field) => isDeepStrictEqual(sharp[field], before[field]))) return before;
  }
  return { ...sharp, seenMs, metrics: living ? metricsOf(node) : undefined };
}

/** Until when the facts of a node stay as they are unless something is heard of it, or it falls silent; epoch ms. */
export function factsHoldUntilMs(node: NodeRecord, facts: AgentFacts, staleMs: number): number {
  if (!isLiving(facts.liveness)) return Infinity;
  const { status } = node;
  const idleUntilMs = facts.idleSinceMs === undefined || status === undefined ? Infinity : status.received_ms + staleMs;
  const movingUntilMs = facts.seenMs === lastSeenMs(node) ? Infinity : facts.seenMs + MOVING_MS;
  return Math.min(movingUntilMs, idleUntilMs);
}

function idleSinceMs(
  { status }: NodeRecord,
  { staleMs, nowMs }: Judged,
  before: AgentFacts | undefined,
): number | undefined {
  // It may live by RabbitMQ alone for long, and its last status be of yesterday.
  if (status === undefined || status.idle_seconds <= 0 || nowMs - status.received_ms >= staleMs) return undefined;
  const sinceMs = status.received_ms - status.idle_seconds * 1_000;
  const shownMs = before?.idleSinceMs;
  return shownMs !== undefined && Math.abs(shownMs - sinceMs) <= IDLE_JITTER_MS ? shownMs : sinceMs;
}

/** Of kinds that are known. */
function interruptionOf({ status }: NodeRecord): Interruption | undefined {
  if (status?.interruption === undefined) return undefined;
  const { kind, at, detail } = status.interruption;
  const isTime = at !== undefined && !Number.isNaN(Date.parse(at));
  return interruptionSchema.safeParse({ kind, detail, ...(isTime && { at: timeTextOf(Date.parse(at)) }) }).data;
}

/** What was said last of how the machine is. */
function measuredBy({ status, heartbeat }: NodeRecord): NodeStatusRecord | NodeHeartbeat | undefined {
  return (heartbeat?.received_ms ?? 0) > (status?.received_ms ?? 0) ? heartbeat : status;
}

function metricsOf(node: NodeRecord): WorkerMetrics | undefined {
  const newest = measuredBy(node);
  const { resources } = newest ?? {};
  if (newest === undefined || resources === undefined) return undefined;
  const { gpus } = newest;
  const { cpu_percent, memory_used_mb, memory_total_mb } = resources;
  return {
    cpu_percent: tenths(cpu_percent),
    ...(memory_total_mb > 0 && { memory_percent: tenths((100 * memory_used_mb) / memory_total_mb) }),
    ...(gpus.length > 0 && {
      gpu_percent: tenths(gpus.reduce((sum, { utilization }) => sum + utilization, 0) / gpus.length),
    }),
    measured_at: timeTextOf(newest.received_ms),
  };
}

function tenths(value: number): number {
  return Math.round(value * 10) / 10;
}

// --- rows ------------------------------------------------------------------------------------------------------------

/** Name of the source of workers of which nothing but an agent tells. */
export const AGENTS_SOURCE = 'agents';

const MEASURED = ['cpu_percent', 'memory_percent', 'gpu_percent'] as const;
const REPLACED = ['health_check', 'last_heartbeat', 'interruption', 'metrics', 'idle_since'] as const;

/** A row of a source with what its agent says. {@link withoutAgent} takes it away again. */
export function withAgent(base: WorkerRecord, facts: AgentFacts): WorkerRecord {
  const isThere = base.gone_at === undefined;
  const said: Partial<WorkerRecord> = {
    // Of one that says nothing of itself there is something to tell once it is silent.
    ...((facts.health !== 'HEALTH_STATE_UNSPECIFIED' || !isLiving(facts.liveness)) && { health_check: facts.liveness }),
    ...(facts.seenMs > 0 && { last_heartbeat: timeTextOf(facts.seenMs) }),
    ...(isThere && facts.idleSinceMs !== undefined && { idle_since: timeTextOf(facts.idleSinceMs) }),
    ...(isThere && facts.interruption !== undefined && { interruption: facts.interruption }),
    ...(isThere && facts.metrics !== undefined && { metrics: { ...base.metrics, ...facts.metrics } }),
  };
  const replaced = REPLACED.filter((field) => said[field] !== undefined);
  return {
    ...base,
    ...said,
    agent: {
      ...{ node: facts.node, liveness: facts.liveness, connected: facts.connected },
      ...(facts.seenMs > 0 && { last_seen: timeTextOf(facts.seenMs) }),
      ...{ type: facts.type, health: facts.health },
      ...(facts.version !== '' && { version: facts.version }),
      ...(facts.draining && { draining: true }),
      instead_of: Object.fromEntries(replaced.map((field) => [field, base[field] ?? null])),
    },
  };
}

/** What the source of a row said itself. */
export function withoutAgent<T extends WorkerRecord>(row: T): T {
  const { agent } = row;
  if (agent === undefined) return row;
  const record = { ...row };
  delete record.agent;
  for (const field of REPLACED) {
    if (!Object.hasOwn(agent.instead_of, field)) continue;
    const own = agent.instead_of[field];
    if (own === null) delete record[field];
    else (record as Record<string, unknown>)[field] = own;
  }
  return record;
}

/** What a row says of its agent, as whoever led before has written it. */
export function factsIn(row: WorkerRecord): AgentFacts | undefined {
  const { agent } = row;
  if (agent === undefined) return undefined;
  const hasOwn = (field: (typeof REPLACED)[number]) => Object.hasOwn(agent.instead_of, field);
  return {
    ...{ node: agent.node, liveness: agent.liveness, connected: agent.connected },
    ...{ type: agent.type, health: agent.health, version: agent.version ?? '', draining: agent.draining ?? false },
    idleSinceMs: hasOwn('idle_since') && row.idle_since !== undefined ? Date.parse(row.idle_since) : undefined,
    interruption: hasOwn('interruption') ? row.interruption : undefined,
    seenMs: agent.last_seen === undefined ? 0 : Date.parse(agent.last_seen),
    metrics: hasOwn('metrics') && row.metrics !== undefined ? measuredIn(row.metrics) : undefined,
  };
}

function measuredIn(metrics: WorkerMetrics): WorkerMetrics {
  const { measured_at } = metrics;
  const measured = MEASURED.filter((field) => metrics[field] !== undefined).map((field) => [field, metrics[field]]);
  return { ...(Object.fromEntries(measured) as Partial<WorkerMetrics>), measured_at };
}

/** The row of a node that no source knows. */
export function rowOfNode(node: NodeRecord, facts: AgentFacts): WorkerRecord {
  const { registration } = node;
  const row: WorkerRecord = {
    ...{
      id: node.key,
      name: node.name,
      provider: 'agent',
      state: facts.liveness === 'dead' ? 'unreachable' : 'running',
    },
    ...(registration?.public_ip && { public_ip: registration.public_ip }),
    ...(registration?.nebula_ip && { private_ip: registration.nebula_ip }),
    ...(registration !== undefined && hasEntries(registration.labels) && { tags: registration.labels }),
    ...{ target: node.name, mapped_by: 'node', source: AGENTS_SOURCE },
  };
  return withAgent(row, facts);
}

function hasEntries(map: Readonly<Record<string, string>>): boolean {
  return Object.keys(map).length > 0;
}
