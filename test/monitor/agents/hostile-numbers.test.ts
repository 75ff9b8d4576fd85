/** Whatever number one agent says, all nodes are shown, and its output can be read. */
import {
  amqpHeartbeatSchema,
  amqpRegistrationSchema,
  decodeEntry,
  fleetSummaryOf,
  nodeBodySchema,
  nodeDetailBodySchema,
  type NodeRecord,
  nodeStatusSchema,
  nodeSummaryOf,
} from '@carrierarr/protocol';
import {
  CommandOutput,
  FleetStatusResponse,
  HealthState,
  NodeStatus,
  NodeType,
  OutputStream,
  RegisterRequest,
} from '@carrierarr/protocol/agent-control';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { timestampOf } from '../../../apps/gateway/src/delivery/encode.js';
import { nodeBodyOf, nodeDetailOf } from '../../../apps/gateway/src/fleet/node-bodies.js';
import { decodeRegistration } from '../../../apps/monitor/src/agents/amqp/decode.js';
import { entryOf, fleetResponseOf, registrationOf, statusOf } from '../../../apps/monitor/src/agents/messages.js';
import { inheritedMemory, planNodes } from '../../../apps/monitor/src/agents/nodes/plan.js';

const NOW_MS = Date.UTC(2025, 0, 1);
const DAY_MS = 24 * 3_600_000;
const LARGEST = Number.MAX_SAFE_INTEGER;
const hostile = fc.oneof(
  fc.constantFrom(0, -1, 1.5, 1e13, 2 ** 31 - 1, LARGEST, -LARGEST, NaN, Infinity, -Infinity, 8.64e15 + 1),
  fc.double(),
  fc.maxSafeInteger(),
);
const any = { nodeType: NodeType.NODE_TYPE_UNSPECIFIED, health: HealthState.HEALTH_STATE_UNSPECIFIED };

function nodeSaying(n: number, key = 'i-1'): NodeRecord {
  const gpu = { index: n, memoryUsedMb: n, memoryTotalMb: n, utilizationPercent: n, temperatureC: n };
  const status = NodeStatus.fromPartial({
    ...{ uptimeSeconds: n, idleSeconds: n, gpus: [gpu], loadedModels: [{ name: 'm', sizeBytes: n }] },
    ...{ nebula: { uptimeSeconds: n }, interruption: { kind: 'spot-termination', at: new Date(n) } },
    resources: { cpuPercent: n, memoryUsedMb: n, memoryTotalMb: n, diskUsedMb: n, diskTotalMb: n },
  });
  const capabilities = { gpuCount: n, gpuMemoryMb: n, cpuCores: n, memoryMb: n, diskMb: n };
  return {
    ...{ key, name: `host-${key}`, seenMs: { grpc: NOW_MS } },
    registration: registrationOf(RegisterRequest.fromPartial({ capabilities }), NOW_MS),
    status: statusOf(status, NOW_MS),
  };
}

function shows(nodes: readonly NodeRecord[]): void {
  const plan = planNodes(
    {
      nodes: new Map(nodes.map((node) => [node.key, node])),
      ...{ isStreaming: () => true, workers: new Map(), listening: { grpc: 0 } },
      ...{ limits: { staleMs: 120_000, deadMs: 300_000 }, termStartMs: 0, nowMs: NOW_MS },
    },
    inheritedMemory([]),
  );
  let step = plan.next();
  while (step.done !== true) step = plan.next();
  expect(step.value.upserts).toHaveLength(nodes.length);
  const seen = { liveness: 'healthy', isStreaming: true, streamlessMs: 0, staleMs: 120_000 } as const;
  const summaries = nodes.map((record) => nodeSummaryOf(record, { ...seen, target: record.name }));
  const bytes = FleetStatusResponse.encode(fleetResponseOf(summaries, any)).finish();
  expect(FleetStatusResponse.decode(bytes).nodes).toHaveLength(nodes.length);
  for (const record of nodes) {
    const node = { ...seen, record, target: record.name };
    nodeBodySchema.parse(JSON.parse(JSON.stringify(nodeBodyOf(node))));
    const detail = nodeDetailBodySchema.parse(JSON.parse(JSON.stringify(nodeDetailOf(node))));
    const { capabilities, gpus = [], resources, status } = detail;
    const whole = [capabilities?.gpu_count, capabilities?.memory_mb, gpus[0]?.index, gpus[0]?.memory_used_mb];
    for (const figure of [...whole, gpus[0]?.temperature_c, resources?.memory_total_mb, status?.idle_seconds])
      expect(figure ?? 0).toSatisfy(Number.isSafeInteger);
  }
}

it('whatever numbers one agent says over gRPC, all nodes are shown', () => {
  fc.assert(fc.property(hostile, (n) => shows([nodeSaying(n), nodeSaying(1, 'i-2'), nodeSaying(n, 'i-3')])));
});

it('whatever an older monitor has stored, all nodes are shown', () => {
  const stored = fc.oneof(fc.maxSafeInteger(), fc.double({ noNaN: true, noDefaultInfinity: true }), fc.constant(1e13));
  fc.assert(
    fc.property(stored, (n) => {
      const status = nodeStatusSchema.parse({ received_ms: NOW_MS, idle_seconds: n, uptime_seconds: n });
      shows([{ ...nodeSaying(1), status }, nodeSaying(1, 'i-2')]);
    }),
  );
});

it('whatever numbers one agent says over RabbitMQ, they are whole and bounded', () => {
  const register = (gpu_count: number) => {
    const said = { action: 'register', node_id: 'i-1', capabilities: { gpu_count, memory_mb: gpu_count } };
    expect(amqpRegistrationSchema.safeParse(said).success).toBe(true);
    const decoded = decodeRegistration(Buffer.from(JSON.stringify(said)), NOW_MS);
    return decoded.kind === 'register' ? decoded.registration.capabilities?.gpu_count : decoded;
  };
  expect([register(1.5), register(-1), register(2 ** 31 - 1), register(1e300), register(8)]).toEqual([
    ...[1, 0, 1_024, 1_024, 8],
  ]);
  const gpu = { index: 0.5, memory_used: 1e300, memory_total: -4, utilization: 5_000, temperature: 1e9 };
  const beat = { node_id: 'i-1', status: 'healthy', resources: { cpu_percent: 1e300, gpus: [gpu] } };
  expect(amqpHeartbeatSchema.parse(beat).resources).toMatchObject({
    cpu_percent: 100,
    gpus: [{ index: 0, memory_used: 1e12, memory_total: 0, utilization: 100, temperature: 1_000 }],
  });
});

it('the GPUs of all nodes fit the message that tells of them', () => {
  const node = { ...nodeSummaryOf(nodeSaying(1), { liveness: 'healthy', target: 'a' }), gpu_count: 2 ** 31 - 1 };
  expect(fleetSummaryOf([node, node]).total_gpus).toBe(2 ** 31 - 1);
});

it('output is logged with its own time if that is within a day of when it came, else with that', () => {
  const timeOf = (timeMs: number) => {
    const runs = [{ stream: OutputStream.OUTPUT_STREAM_STDOUT, lines: 1 }];
    const output = CommandOutput.fromPartial({ commandId: 'x', sequence: 1, body: Buffer.from('a'), runs, timeMs });
    const made = entryOf(output, NOW_MS + 0.4);
    return 'problem' in made ? made : decodeEntry(made.entry).timeMs;
  };
  expect([NOW_MS - DAY_MS, NOW_MS - 1, NOW_MS + DAY_MS].map(timeOf)).toEqual([
    ...[NOW_MS - DAY_MS, NOW_MS - 1, NOW_MS + DAY_MS],
  ]);
  fc.assert(
    fc.property(hostile, (ms) => {
      if (!(Math.abs(ms - NOW_MS) <= DAY_MS)) expect(timeOf(ms)).toBe(NOW_MS);
    }),
  );
});

it('any time that a log may hold can be written', () => {
  const RFC_3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
  fc.assert(fc.property(hostile, (ms) => RFC_3339.test(timestampOf(ms))));
  expect(timestampOf(NOW_MS + 7)).toBe('2025-01-01T00:00:00.007Z');
});
