/** Nodes as a monitor writes them to the registry. */
import type { NodeHeartbeat, NodeRegistration, NodeStatusRecord } from '@carrierarr/protocol';
import type { NodeRegistry } from '@carrierarr/store';

export function registration(more: Partial<NodeRegistration> = {}): NodeRegistration {
  return {
    ...{ type: 'NODE_TYPE_GPU_WORKER', instance_id: '', nebula_ip: '', public_ip: '', region: '', az: '' },
    ...{ labels: {}, features: [], agent_version: '', registered_ms: Date.parse('2026-03-01T10:00:00Z') },
    ...more,
  };
}

export function status(more: Partial<NodeStatusRecord> = {}): NodeStatusRecord {
  return {
    ...{ health: 'HEALTH_STATE_HEALTHY', uptime_seconds: 3_600, idle_seconds: 120, services: {}, models: [] },
    ...{ gpus: [], draining: false, received_ms: Date.now() },
    ...more,
  };
}

export function heartbeat(more: Partial<NodeHeartbeat> = {}): NodeHeartbeat {
  return { ...{ status: 'healthy', services: {}, gpus: [], models_loaded: [], received_ms: Date.now() }, ...more };
}

export const GPU = {
  ...{ index: 0, name: 'A10G', memory_used_mb: 100, memory_total_mb: 24_000, utilization: 12.5, temperature_c: 41 },
};

/** A node with a stream that a monitor serves. */
export async function connected(
  registry: NodeRegistry,
  name: string,
  { more = {}, says = status() }: { more?: Partial<NodeRegistration>; says?: NodeStatusRecord } = {},
): Promise<{ key: string; fence: number }> {
  await registry.listen('m1', ['grpc']);
  await registry.register(name, registration(more), 'grpc');
  const answer = await registry.openStream(name, undefined, 'm1');
  if (answer.kind !== 'open') throw new Error(answer.kind);
  await registry.status(answer.key, answer.fence, says);
  return answer;
}
