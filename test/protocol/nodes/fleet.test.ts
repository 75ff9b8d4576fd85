import { fleetJsonOf, fleetSummaryOf, type NodeRecord, nodeSummaryOf } from '@carrierarr/protocol';
import { FleetStatusResponse } from '@carrierarr/protocol/agent-control';
import { expect, it } from 'vitest';

const registration: NonNullable<NodeRecord['registration']> = {
  ...{ type: 'NODE_TYPE_GPU_WORKER', instance_id: 'i-1', nebula_ip: '10.1.0.1', public_ip: '', region: '', az: '' },
  ...{ labels: {}, features: [], agent_version: '', registered_ms: 1 },
};
const status: NonNullable<NodeRecord['status']> = {
  ...{ health: 'HEALTH_STATE_HEALTHY', uptime_seconds: 90, idle_seconds: 30, services: {}, draining: false },
  resources: { cpu_percent: 12.5, memory_used_mb: 1_024, memory_total_mb: 4_096, disk_used_mb: 0, disk_total_mb: 0 },
  gpus: [0, 1].map((index) => ({
    ...{ index, name: 'a', memory_used_mb: 0, memory_total_mb: 0, utilization: 0, temperature_c: 0 },
  })),
  models: [
    { name: 'a', size_bytes: 1, currently_loaded: true },
    { name: 'b', size_bytes: 1, currently_loaded: false },
  ],
  received_ms: 2_000,
};
const heartbeat: NonNullable<NodeRecord['heartbeat']> = {
  ...{ status: 'degraded', services: {}, gpus: [], models_loaded: ['a', 'b', 'c'], received_ms: 1_000 },
  resources: { cpu_percent: 99, memory_used_mb: 1, memory_total_mb: 2, disk_used_mb: 0, disk_total_mb: 0 },
};
const bare: NodeRecord = { key: 'host-a', name: 'host-a', seenMs: {} };
const whole: NodeRecord = {
  ...bare,
  key: 'i-1',
  registration,
  status,
  heartbeat,
  seenMs: { grpc: 2_000, amqp: 1_000 },
};
const living = { liveness: 'healthy', target: 'gpu' } as const;

it('shows a node by what it said last', () => {
  expect(nodeSummaryOf(whole, living)).toEqual({
    ...{ node_id: 'host-a', node_type: 'NODE_TYPE_GPU_WORKER', health: 'HEALTH_STATE_HEALTHY', connected: true },
    ...{ nebula_ip: '10.1.0.1', instance_id: 'i-1', last_seen_ms: 2_000, uptime_seconds: 90, idle_seconds: 30 },
    ...{ cpu_percent: 12.5, memory_percent: 25, gpu_count: 2, loaded_models: 1, target: 'gpu', liveness: 'healthy' },
  });
  const later = { ...whole, heartbeat: { ...heartbeat, received_ms: 3_000 } };
  expect(nodeSummaryOf(later, living)).toMatchObject({
    health: 'HEALTH_STATE_DEGRADED',
    cpu_percent: 99,
    memory_percent: 50,
  });
  const { status: _, ...byHeartbeat } = whole;
  expect(nodeSummaryOf(byHeartbeat, living)).toMatchObject({ loaded_models: 3, uptime_seconds: 0, gpu_count: 0 });
});

it('shows what is not known as nothing', () => {
  expect(nodeSummaryOf(bare, living)).toMatchObject({
    ...{ node_type: 'NODE_TYPE_UNSPECIFIED', health: 'HEALTH_STATE_UNSPECIFIED', instance_id: '', last_seen_ms: 0 },
    ...{ memory_percent: 0, gpu_count: 0 },
  });
  expect(fleetJsonOf([nodeSummaryOf(bare, living)]).nodes[0]).toMatchObject({ last_seen: null, uptime_seconds: '0' });
});

it('a silent node is not healthy, whatever it said, and a dead one is not connected', () => {
  expect(nodeSummaryOf(whole, { ...living, liveness: 'stale' })).toMatchObject({
    health: 'HEALTH_STATE_UNHEALTHY',
    connected: true,
  });
  expect(nodeSummaryOf(whole, { ...living, liveness: 'dead' })).toMatchObject({ connected: false });
});

it('a machine that only says that it has a GPU has one', () => {
  const capabilities = {
    ...{ has_gpu: true, gpu_model: '', gpu_count: 0, gpu_memory_mb: 0, cpu_cores: 0, memory_mb: 0, disk_mb: 0 },
  };
  expect(nodeSummaryOf({ ...bare, registration: { ...registration, capabilities } }, living).gpu_count).toBe(1);
});

it('counts the fleet', () => {
  const nodes = [
    nodeSummaryOf(whole, living),
    nodeSummaryOf(bare, living),
    nodeSummaryOf({ ...bare, registration }, { ...living, liveness: 'dead' }),
  ];
  expect(fleetSummaryOf(nodes)).toEqual({
    ...{ total_nodes: 3, healthy_nodes: 1, unhealthy_nodes: 1, gpu_nodes: 2, total_gpus: 2 },
  });
});

it('its JSON has every field of the proto file and no other', () => {
  const json = fleetJsonOf([nodeSummaryOf(whole, living)]);
  const camel = (name: string) => name.replaceAll(/_(.)/g, (_, letter: string) => letter.toUpperCase());
  const message = FleetStatusResponse.fromPartial({ nodes: [{}], summary: {} });
  expect(
    Object.keys(json.nodes[0] ?? {})
      .map(camel)
      .toSorted(),
  ).toEqual(Object.keys(message.nodes[0] ?? {}).toSorted());
  expect(Object.keys(json.summary).map(camel).toSorted()).toEqual(Object.keys(message.summary ?? {}).toSorted());
  expect(json.nodes[0]).toMatchObject({
    ...{ last_seen: '1970-01-01T00:00:02.000Z', uptime_seconds: '90', idle_seconds: '30' },
  });
});
