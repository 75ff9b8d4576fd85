import { describe, expect, it } from 'vitest';
import { BODY_BYTES_MAX, decodeHeartbeat, decodeRegistration } from '../../../apps/monitor/src/agents/amqp/decode.js';

const NOW_MS = Date.UTC(2025, 0, 1);
const bytes = (value: unknown) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));
const registration = (fields: object = {}) =>
  decodeRegistration(
    bytes({ action: 'register', node_id: 'i-0123456789abcdef0', node_type: 'gpu-worker', ...fields }),
    NOW_MS,
  );
const heartbeat = (fields: object = {}) =>
  decodeHeartbeat(bytes({ node_id: 'i-0123456789abcdef0', status: 'healthy', ...fields }), NOW_MS);

describe('a registration', () => {
  it('says all that the registry knows of a node', () => {
    const said = registration({
      nebula_ip: '10.42.0.7',
      public_ip: '203.0.113.7',
      region: 'eu-central-1',
      az: 'eu-central-1a',
      capabilities: { gpu: true, gpu_model: 'A10G', gpu_count: 4, cuda: ['12'] },
      timestamp: '2025-01-01T00:00:00.5Z',
      colour: 'blue',
    });
    expect(said).toEqual({
      kind: 'register',
      node: 'i-0123456789abcdef0',
      registration: {
        type: 'NODE_TYPE_GPU_WORKER',
        instance_id: 'i-0123456789abcdef0',
        nebula_ip: '10.42.0.7',
        public_ip: '203.0.113.7',
        region: 'eu-central-1',
        az: 'eu-central-1a',
        labels: {},
        features: [],
        agent_version: '',
        registered_ms: NOW_MS,
        said_ms: NOW_MS + 500,
        capabilities: {
          ...{ has_gpu: true, gpu_model: 'A10G', gpu_count: 4, gpu_memory_mb: 0 },
          ...{ cpu_cores: 0, memory_mb: 0, disk_mb: 0 },
        },
      },
    });
  });

  it.each([
    ['gpu-worker', 'NODE_TYPE_GPU_WORKER'],
    ['cpu-worker', 'NODE_TYPE_CPU_WORKER'],
    ['lighthouse', 'NODE_TYPE_LIGHTHOUSE'],
    ['', 'NODE_TYPE_UNSPECIFIED'],
    ['toaster', 'NODE_TYPE_UNSPECIFIED'],
  ])('of a node of type %j is of %s', (node_type, type) => {
    expect(registration({ node_type })).toMatchObject({ registration: { type } });
  });

  it.each([
    ['i-0123456789abcdef0', 'i-0123456789abcdef0'],
    ['arn:aws:ecs:eu-central-1:1:task/c/1', 'arn:aws:ecs:eu-central-1:1:task/c/1'],
    ['box-7.example', ''],
  ])('by the name %j names the instance %j', (node_id, instance_id) => {
    expect(registration({ node_id })).toMatchObject({ node: node_id, registration: { instance_id } });
  });

  it('that only says gpu counts one', () => {
    expect(registration({ capabilities: { gpu: true } })).toMatchObject({
      registration: { capabilities: { has_gpu: true, gpu_count: 1 } },
    });
  });

  it.each([
    ['2025-01-01T00:00:00Z', NOW_MS],
    [NOW_MS / 1000, NOW_MS],
    [NOW_MS, NOW_MS],
    ['yesterday', undefined],
    [undefined, undefined],
    [{}, undefined],
  ])('at %j is taken back by what is said at the same time', (timestamp, saidMs) => {
    expect(registration({ action: 'deregister', timestamp })).toEqual({
      ...{ kind: 'deregister', node: 'i-0123456789abcdef0', saidMs },
    });
  });
});

it.each([
  [7, 7],
  [7.5, undefined],
  ['7', undefined],
  [-1, undefined],
  [undefined, undefined],
])('the start %j of an agent is told if it is a number of one', (start_number, start) => {
  expect(registration({ action: 'deregister', start_number })).toMatchObject({ start });
  const registered = registration({ start_number });
  expect(registered.kind === 'register' && registered.registration.start_number).toBe(start);
  const beat = heartbeat({ start_number });
  expect(beat.kind === 'heartbeat' && beat.heartbeat.start_number).toBe(start);
});

describe('a heartbeat', () => {
  it('says how the machine is', () => {
    const gpu = { index: 1, name: 'A10G', memory_used: 3, memory_total: 24_000, utilization: 12.5, temperature: 61 };
    const resources = {
      memory_total_mb: 64_000,
      memory_used_mb: 1_000,
      cpu_percent: 7.5,
      gpus: [gpu],
      models_loaded: ['m'],
    };
    expect(heartbeat({ services: { ollama: true, k3s: false }, resources })).toEqual({
      kind: 'heartbeat',
      node: 'i-0123456789abcdef0',
      heartbeat: {
        status: 'healthy',
        services: { ollama: true, k3s: false },
        resources: {
          ...{ cpu_percent: 7.5, memory_used_mb: 1_000, memory_total_mb: 64_000, disk_used_mb: 0, disk_total_mb: 0 },
        },
        gpus: [
          {
            ...{ index: 1, name: 'A10G', memory_used_mb: 3, memory_total_mb: 24_000, utilization: 12.5 },
            temperature_c: 61,
          },
        ],
        models_loaded: ['m'],
        received_ms: NOW_MS,
      },
    });
  });

  it('may leave out everything but who and how', () => {
    expect(heartbeat({ services: null, resources: null })).toMatchObject({
      heartbeat: { status: 'healthy', services: {}, gpus: [], models_loaded: [] },
    });
  });

  it.each([
    ['2025-01-01T00:00:00.5Z', NOW_MS + 500],
    [7, 7_000],
    ['yesterday', undefined],
    [{}, undefined],
    [null, undefined],
    [-1, undefined],
  ])('at %j says when that was by the clock of its agent, if it can be read', (timestamp, saidMs) => {
    const decoded = heartbeat({ timestamp });
    expect(decoded.kind === 'heartbeat' && decoded.heartbeat.said_ms).toBe(saidMs);
  });
});

describe('what cannot be read', () => {
  it.each([
    ['no JSON', () => decodeHeartbeat(bytes('{"node_id":'), NOW_MS), 'Expected JSON, got {"node_id":'],
    ['no UTF-8', () => decodeHeartbeat(Buffer.from([0x22, 0xff, 0x22]), NOW_MS), 'Expected JSON'],
    ['nothing', () => decodeHeartbeat(bytes(''), NOW_MS), 'Expected JSON'],
    ['a list', () => decodeHeartbeat(bytes([]), NOW_MS), 'expected object'],
    ['another status', () => heartbeat({ status: 'fine' }), 'status: '],
    ['a service that is no yes or no', () => heartbeat({ services: { ollama: 'up' } }), 'services.ollama: '],
    ['figures as text', () => heartbeat({ resources: { cpu_percent: '7' } }), 'resources.cpu_percent: '],
    ['no name', () => registration({ node_id: '' }), 'node_id: '],
    ['a name that is no target', () => registration({ node_id: 'a\nb' }), 'node_id: '],
    ['another action', () => registration({ action: 'shout' }), 'action: '],
    ['capabilities of other types', () => registration({ capabilities: { gpu: 'yes' } }), 'capabilities.gpu: '],
  ])('%s is malformed, and the problem says what was received', (_, decode, problem) => {
    const decoded = decode();
    expect(decoded).toMatchObject({ kind: 'malformed', problem: expect.stringContaining(problem) as string });
  });

  it('is shown in part, on one line', () => {
    const decoded = decodeHeartbeat(bytes(`\n\u001b[2J${'x'.repeat(10_000)}`), NOW_MS);
    if (decoded.kind !== 'malformed') throw new Error(decoded.kind);
    expect(decoded.problem.length).toBeLessThan(300);
    expect(decoded.problem).not.toMatch(/\p{Cc}/u);
    expect(decoded.problem).toContain('(10005 characters)');
  });

  it('is not even looked at when it is too long', () => {
    expect(decodeHeartbeat(Buffer.alloc(BODY_BYTES_MAX + 1, '{'), NOW_MS)).toEqual({
      ...{ kind: 'malformed', problem: `Expected at most ${BODY_BYTES_MAX} bytes, got ${BODY_BYTES_MAX + 1}.` },
    });
  });
});
