/** Nodes as `GET /api/v1/nodes` shows them. The fields are those that existing clients read, and some more. Pure. */
import {
  type FleetStats,
  fleetSummaryOf,
  lastSeenMs,
  type NodeBody,
  type NodeDetailBody,
  type NodeRecord,
  type NodeSummary,
  nodeSummaryOf,
  timeTextOf,
} from '@carrierarr/protocol';
import type { SeenNode } from './node-view.js';

export function nodeBodyOf(node: SeenNode): NodeBody {
  const { record, liveness, target, isStreaming } = node;
  const { registration, status, heartbeat } = record;
  const summary = nodeSummaryOf(record, node);
  return {
    id: record.name,
    type: summary.node_type,
    instance_id: summary.instance_id,
    nebula_ip: summary.nebula_ip,
    public_ip: registration?.public_ip ?? '',
    connected: summary.connected,
    last_seen: timeTextOf(lastSeenMs(record)),
    stream_active: isStreaming,
    ...((status !== undefined || heartbeat !== undefined) && { health: summary.health }),
    ...(status !== undefined && { uptime_seconds: summary.uptime_seconds, idle_seconds: summary.idle_seconds }),
    ...((status !== undefined || heartbeat !== undefined) && {
      ...{ gpu_count: summary.gpu_count, loaded_models: summary.loaded_models },
    }),
    ...healthStatusOf(node),
    ...{ target, liveness },
    ...idleOf(record),
    ...(registration?.agent_version && { agent_version: registration.agent_version }),
    ...(status?.draining && { draining: true }),
  };
}

export function nodeDetailOf(node: SeenNode): NodeDetailBody {
  const { record } = node;
  const { registration, status } = record;
  return {
    ...nodeBodyOf(node),
    region: registration?.region ?? '',
    az: registration?.az ?? '',
    labels: registration?.labels ?? {},
    connected_at: timeTextOf(record.stream?.since_ms ?? registration?.registered_ms ?? lastSeenMs(record)),
    ...(status !== undefined && {
      status: {
        health: nodeSummaryOf(record, node).health,
        uptime_seconds: status.uptime_seconds,
        idle_seconds: status.idle_seconds,
      },
    }),
    ...loadOf(record),
    ...(status !== undefined && Object.keys(status.services).length > 0 && { services: status.services }),
    ...(status?.interruption !== undefined && { interruption: status.interruption }),
    ...(registration?.capabilities !== undefined && { capabilities: registration.capabilities }),
  };
}

/** Counts by what the summaries say; `connected` as there. */
export function fleetStatsOf(summaries: readonly NodeSummary[]): FleetStats {
  return { ...fleetSummaryOf(summaries), connected: summaries.filter(({ connected }) => connected).length };
}

/** What it said over RabbitMQ, until it falls silent: then that. */
function healthStatusOf({ record, liveness }: SeenNode): Pick<NodeBody, 'health_status'> {
  if (liveness === 'stale' || liveness === 'dead') return { health_status: liveness };
  return record.heartbeat === undefined ? {} : { health_status: record.heartbeat.status };
}

function idleOf({ status }: NodeRecord): Pick<NodeBody, 'idle_since'> {
  if (status === undefined || status.idle_seconds <= 0) return {};
  return { idle_since: timeTextOf(status.received_ms - status.idle_seconds * 1000) };
}

/** Resources, GPUs and models by whichever came last, status or heartbeat; nothing before the first of them. */
function loadOf({ status, heartbeat }: NodeRecord): Pick<NodeDetailBody, 'resources' | 'gpus' | 'models'> {
  const isBeatNewer = heartbeat !== undefined && heartbeat.received_ms > (status?.received_ms ?? 0);
  const newest = isBeatNewer ? heartbeat : status;
  if (newest === undefined) return {};
  const resources = newest.resources ?? status?.resources ?? heartbeat?.resources;
  return {
    resources: {
      cpu_percent: resources?.cpu_percent ?? 0,
      memory_used_mb: resources?.memory_used_mb ?? 0,
      memory_total_mb: resources?.memory_total_mb ?? 0,
      ...(resources !== undefined &&
        resources.disk_total_mb > 0 && {
          disk_used_mb: resources.disk_used_mb,
          disk_total_mb: resources.disk_total_mb,
        }),
    },
    gpus: newest.gpus,
    // A heartbeat names only those that are loaded.
    models:
      status?.models ?? heartbeat?.models_loaded.map((name) => ({ name, size_bytes: 0, currently_loaded: true })) ?? [],
  };
}
