/**
 * Nodes as the fleet API shows them: `GetFleetStatus` over gRPC, `GET /api/v1/fleet` over HTTP. Pure; who asks finds out
 * first whether a node lives and what its target is.
 */
import { INT32_MAX, timeTextOf } from './figures.js';
import { healthOf, lastSeenMs, type Liveness } from './liveness.js';
import type { HealthStateName, NodeRecord, NodeTypeName } from './node-record.js';

/** What is known of a node beside its record. */
export interface NodeSight {
  liveness: Liveness;
  /** That of the worker record with its instance id, else its name. */
  target: string;
}

/** `NodeSummary` of the proto file, by its names. */
export interface NodeSummary {
  node_id: string;
  node_type: NodeTypeName;
  health: HealthStateName;
  nebula_ip: string;
  instance_id: string;
  /** It is not dead. */
  connected: boolean;
  /** Epoch ms; 0: never. */
  last_seen_ms: number;
  uptime_seconds: number;
  idle_seconds: number;
  cpu_percent: number;
  memory_percent: number;
  gpu_count: number;
  /** Those that are in memory now. */
  loaded_models: number;
  target: string;
  liveness: Liveness;
}

/** `FleetSummary` of the proto file. */
export interface FleetSummary {
  total_nodes: number;
  healthy_nodes: number;
  unhealthy_nodes: number;
  gpu_nodes: number;
  total_gpus: number;
}

/** What a node says of itself, as long as it says anything: one that has gone silent is not healthy. */
export function shownHealthOf(node: Pick<NodeRecord, 'status' | 'heartbeat'>, liveness: Liveness): HealthStateName {
  return liveness === 'stale' || liveness === 'dead' ? 'HEALTH_STATE_UNHEALTHY' : healthOf(node);
}

/** Its GPUs: as many as it announced, or shows. */
export function gpuCountOf({ registration, status, heartbeat }: NodeRecord): number {
  return Math.max(
    registration?.capabilities?.gpu_count ?? 0,
    status?.gpus.length ?? 0,
    heartbeat?.gpus.length ?? 0,
    registration?.capabilities?.has_gpu ? 1 : 0,
  );
}

export function nodeSummaryOf(node: NodeRecord, { liveness, target }: NodeSight): NodeSummary {
  const { registration, status, heartbeat } = node;
  // Whatever came last; an agent that speaks over both channels says the same on both.
  const isBeatNewer = heartbeat?.resources !== undefined && heartbeat.received_ms > (status?.received_ms ?? 0);
  const resources = isBeatNewer ? heartbeat.resources : (status?.resources ?? heartbeat?.resources);
  return {
    node_id: node.name,
    node_type: registration?.type ?? 'NODE_TYPE_UNSPECIFIED',
    health: shownHealthOf(node, liveness),
    nebula_ip: registration?.nebula_ip ?? '',
    instance_id: registration?.instance_id ?? '',
    connected: liveness !== 'dead',
    last_seen_ms: lastSeenMs(node),
    uptime_seconds: status?.uptime_seconds ?? 0,
    idle_seconds: status?.idle_seconds ?? 0,
    cpu_percent: resources?.cpu_percent ?? 0,
    memory_percent:
      resources === undefined || resources.memory_total_mb <= 0
        ? 0
        : (100 * resources.memory_used_mb) / resources.memory_total_mb,
    gpu_count: gpuCountOf(node),
    loaded_models:
      status?.models.filter((model) => model.currently_loaded).length ?? heartbeat?.models_loaded.length ?? 0,
    ...{ target, liveness },
  };
}

export function fleetSummaryOf(nodes: readonly NodeSummary[]): FleetSummary {
  const count = (isCounted: (node: NodeSummary) => boolean) => nodes.filter(isCounted).length;
  return {
    total_nodes: nodes.length,
    healthy_nodes: count(({ health }) => health === 'HEALTH_STATE_HEALTHY'),
    unhealthy_nodes: count(({ health }) => health === 'HEALTH_STATE_UNHEALTHY'),
    gpu_nodes: count(({ gpu_count, node_type }) => gpu_count > 0 || node_type === 'NODE_TYPE_GPU_WORKER'),
    total_gpus: Math.min(
      INT32_MAX,
      nodes.reduce((sum, { gpu_count }) => sum + gpu_count, 0),
    ),
  };
}

/**
 * `FleetStatusResponse` in proto JSON with the proto file's names and every default, as Go's protojson writes it: 64-bit
 * integers are texts, a time that is not known is null.
 */
export function fleetJsonOf(nodes: readonly NodeSummary[]) {
  return {
    nodes: nodes.map(({ last_seen_ms, uptime_seconds, idle_seconds, ...rest }) => ({
      ...rest,
      last_seen: last_seen_ms === 0 ? null : timeTextOf(last_seen_ms),
      uptime_seconds: String(Math.trunc(uptime_seconds)),
      idle_seconds: String(Math.trunc(idle_seconds)),
    })),
    summary: fleetSummaryOf(nodes),
  };
}
