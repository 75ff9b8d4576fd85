/** The fleet API as existing clients know it, field by field. */
import {
  fleetBodySchema,
  fleetStatsSchema,
  nodeBodySchema,
  nodeCommandSentSchema,
  nodeDetailBodySchema,
} from '@carrierarr/protocol';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { startRedis, type TestRedis } from '../../support/redis.js';
import { type HttpGateway, startHttpGateway } from '../http/http-gateway.js';
import { TestMonitor, workerRecord } from '../status/monitor.js';
import { connected, GPU, heartbeat, registration, status } from './nodes.js';

let redis: TestRedis;
let gw: HttpGateway;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());
// A gateway each: what one remembers of nodes is no other's.
beforeEach(async () => {
  const client = redis.client();
  await client.flushall();
  client.disconnect();
  gw = await startHttpGateway(redis);
  await gw.announceRunner();
  return () => gw.stop();
});

async function get<T>(path: string, schema: { parse(value: unknown): T }): Promise<T> {
  const response = await fetch(`${gw.url}${path}`);
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toBe('application/json');
  return schema.parse(await response.json());
}
const nodes = async (query = '') => get(`/api/v1/nodes${query}`, nodeBodySchema.strict().array());
const node = async (id: string) => get(`/api/v1/nodes/${encodeURIComponent(id)}`, nodeDetailBodySchema.strict());
const failure = async (path: string, init?: RequestInit) => {
  const response = await fetch(`${gw.url}${path}`, init);
  return { status: response.status, ...((await response.json()) as { error: string; code: string }) };
};
const command = (body: unknown, headers: Record<string, string> = { 'content-type': 'application/json' }) =>
  fetch(`${gw.url}/api/v1/command`, { method: 'POST', headers, body: JSON.stringify(body) });
const sent = async (body: unknown) => {
  const response = await command(body);
  expect(response.status).toBe(200);
  return nodeCommandSentSchema.parse(await response.json());
};

/** Keys beyond those that existing clients know. */
const MORE = ['target', 'liveness'];
const LISTED = ['id', 'type', 'instance_id', 'nebula_ip', 'public_ip', 'connected', 'last_seen', 'stream_active'];
const ONCE_KNOWN = ['health', 'uptime_seconds', 'idle_seconds', 'gpu_count', 'loaded_models'];
const keysOf = (value: object) => Object.keys(value).toSorted();

describe('GET /api/v1/fleet', () => {
  it('is proto JSON: every field, 64-bit integers as texts, enums by name', async () => {
    const resources = {
      ...{ cpu_percent: 12.5, memory_used_mb: 500, memory_total_mb: 2_000, disk_used_mb: 1, disk_total_mb: 2 },
    };
    const says = status({ resources, gpus: [GPU], uptime_seconds: 3_600.9, idle_seconds: 7 });
    await connected(gw.registry, 'gpu-1', { more: { instance_id: 'i-1', nebula_ip: '10.42.0.7' }, says });
    const fleet = await get('/api/v1/fleet', fleetBodySchema.strict());
    expect(fleet).toEqual({
      nodes: [
        {
          ...{ node_id: 'gpu-1', node_type: 'NODE_TYPE_GPU_WORKER', health: 'HEALTH_STATE_HEALTHY' },
          ...{ nebula_ip: '10.42.0.7', instance_id: 'i-1', connected: true, last_seen: expect.any(String) },
          ...{ uptime_seconds: '3600', idle_seconds: '7', cpu_percent: 12.5, memory_percent: 25 },
          ...{ gpu_count: 1, loaded_models: 0, target: 'gpu-1', liveness: 'healthy' },
        },
      ],
      summary: { total_nodes: 1, healthy_nodes: 1, unhealthy_nodes: 0, gpu_nodes: 1, total_gpus: 1 },
    });
    expect(fleet.nodes[0]?.last_seen).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  });

  it('has every field also of a node of which nothing is known, and of no nodes', async () => {
    expect(await get('/api/v1/fleet', fleetBodySchema.strict())).toEqual({
      nodes: [],
      summary: { total_nodes: 0, healthy_nodes: 0, unhealthy_nodes: 0, gpu_nodes: 0, total_gpus: 0 },
    });
    await gw.registry.openStream('bare', undefined, 'm1');
    await vi.waitFor(async () => {
      expect((await get('/api/v1/fleet', fleetBodySchema.strict())).nodes).toMatchObject([
        {
          ...{ node_id: 'bare', node_type: 'NODE_TYPE_UNSPECIFIED', health: 'HEALTH_STATE_UNSPECIFIED' },
          ...{ nebula_ip: '', instance_id: '', uptime_seconds: '0', idle_seconds: '0', cpu_percent: 0 },
        },
      ]);
    });
  });
});

describe('GET /api/v1/nodes', () => {
  it('lists what was registered, and more once a status is known', async () => {
    await gw.registry.register('a', registration({ nebula_ip: '10.0.0.1', public_ip: '1.2.3.4' }), 'grpc');
    await connected(gw.registry, 'b', { says: status({ gpus: [GPU], health: 'HEALTH_STATE_DEGRADED' }) });
    const [a, b] = await nodes();
    expect(keysOf(a!)).toEqual([...LISTED, ...MORE].toSorted());
    expect(a).toMatchObject({
      ...{ id: 'a', type: 'NODE_TYPE_GPU_WORKER', nebula_ip: '10.0.0.1', public_ip: '1.2.3.4' },
      ...{ connected: true, stream_active: false },
    });
    expect(keysOf(b!)).toEqual([...LISTED, ...ONCE_KNOWN, ...MORE, 'idle_since'].toSorted());
    expect(b).toMatchObject({
      health: 'HEALTH_STATE_DEGRADED',
      uptime_seconds: 3_600,
      gpu_count: 1,
      stream_active: true,
    });
  });

  it('tells what heartbeats over RabbitMQ say', async () => {
    await gw.registry.amqpBeat('i-1', heartbeat({ status: 'degraded', gpus: [GPU], models_loaded: ['llama3'] }));
    const [only] = await nodes();
    expect(only).toMatchObject({
      ...{ id: 'i-1', health_status: 'degraded', health: 'HEALTH_STATE_DEGRADED', gpu_count: 1, loaded_models: 1 },
    });
    expect(only).not.toHaveProperty('uptime_seconds');
  });

  it('filters by type, however that is written', async () => {
    await gw.registry.register('gpu', registration(), 'grpc');
    await gw.registry.register('house', registration({ type: 'NODE_TYPE_LIGHTHOUSE' }), 'grpc');
    for (const type of ['gpu-worker', 'NODE_TYPE_GPU_WORKER', 'GPU_WORKER']) {
      expect((await nodes(`?type=${type}`)).map(({ id }) => id)).toEqual(['gpu']);
    }
    expect(await nodes('?type=cpu-worker')).toEqual([]);
    expect(await failure('/api/v1/nodes?type=gpus')).toMatchObject({
      ...{ status: 400, error: expect.stringContaining('gpu-worker') },
    });
  });

  it('is an empty list when there are none', async () => {
    expect(await nodes()).toEqual([]);
  });

  it('lets a proxy find its workers: GPU workers that are connected, healthy ones first, then by GPUs', async () => {
    const gpus = (n: number) => Array.from({ length: n }, (_, index) => ({ ...GPU, index }));
    const says = (n: number, more = {}) => ({ says: status({ gpus: gpus(n), ...more }) });
    await connected(gw.registry, 'small', says(1));
    await connected(gw.registry, 'big', { ...says(4), more: { nebula_ip: '10.42.0.9' } });
    await connected(gw.registry, 'sick', says(8, { health: 'HEALTH_STATE_UNHEALTHY' }));
    await connected(gw.registry, 'house', { ...says(16), more: { type: 'NODE_TYPE_LIGHTHOUSE' } });
    await connected(gw.registry, 'gone', says(32));
    await gw.connection.zadd(gw.keys.nodesSeen('grpc'), 1, 'gone');
    const listening = (await gw.connection.hget(gw.keys.listening(), 'grpc'))!.split(' ');
    await gw.connection.hset(gw.keys.listening(), 'grpc', `1 ${listening[1]}`);

    const all = (await (await fetch(`${gw.url}/api/v1/nodes`)).json()) as ProxyNode[];
    const usable = all
      .filter(({ type, connected: isConnected }) => type === 'NODE_TYPE_GPU_WORKER' && isConnected)
      .toSorted((x, y) => rank(y) - rank(x) || y.gpu_count - x.gpu_count);
    expect(usable.map(({ id }) => id)).toEqual(['big', 'small', 'sick']);
    expect(`http://${usable[0]?.nebula_ip}:11434`).toBe('http://10.42.0.9:11434');
    for (const { last_seen } of all) expect(Number.isNaN(Date.parse(last_seen))).toBe(false);
  });
});

describe('GET /api/v1/nodes/{id}', () => {
  it('has all that is known of a node, by either of its names', async () => {
    const resources = { cpu_percent: 3, memory_used_mb: 1, memory_total_mb: 2, disk_used_mb: 3, disk_total_mb: 4 };
    const models = [{ name: 'llama3', size_bytes: 4_700_000_000, currently_loaded: true }];
    await connected(gw.registry, 'gpu 1/a', {
      more: { instance_id: 'i-1', region: 'eu-central-1', az: 'eu-central-1a', labels: { team: 'ml' } },
      says: status({ resources, gpus: [GPU], models }),
    });
    const one = await node('gpu 1/a');
    expect(await node('i-1')).toEqual(one);
    const known = [...LISTED, ...ONCE_KNOWN, 'region', 'az', 'labels', 'connected_at', 'status', 'resources'];
    expect(keysOf(one)).toEqual([...known, 'gpus', 'models', ...MORE, 'idle_since'].toSorted());
    expect(one).toMatchObject({
      ...{ id: 'gpu 1/a', region: 'eu-central-1', az: 'eu-central-1a', labels: { team: 'ml' }, gpus: [GPU], models },
      status: { health: 'HEALTH_STATE_HEALTHY', uptime_seconds: 3_600, idle_seconds: 120 },
      resources,
      loaded_models: 1,
    });
    expect(Date.now() - Date.parse(one.connected_at)).toBeLessThan(60_000);
  });

  it('has less of a node that has said no status', async () => {
    await gw.registry.register('a', registration(), 'grpc');
    expect(keysOf(await node('a'))).toEqual([...LISTED, 'region', 'az', 'labels', 'connected_at', ...MORE].toSorted());
  });

  it('is 404 if there is no such node', async () => {
    expect(await failure('/api/v1/nodes/nobody')).toMatchObject({ status: 404, code: 'not_found' });
  });
});

describe('GET /api/v1/stats', () => {
  it('counts', async () => {
    await connected(gw.registry, 'a', { says: status({ gpus: [GPU, { ...GPU, index: 1 }] }) });
    await connected(gw.registry, 'b', {
      ...{ more: { type: 'NODE_TYPE_CPU_WORKER' }, says: status({ health: 'HEALTH_STATE_UNHEALTHY' }) },
    });
    expect(await get('/api/v1/stats', fleetStatsSchema.strict())).toEqual({
      ...{ total_nodes: 2, healthy_nodes: 1, unhealthy_nodes: 1, gpu_nodes: 1, total_gpus: 2, connected: 2 },
    });
  });
});

describe('liveness', () => {
  it('goes by the limits that monitors have, and says who has fallen silent', async () => {
    await connected(gw.registry, 'a');
    const { staleMs, deadMs } = { staleMs: 200_000, deadMs: 400_000 };
    await gw.registry.setLimits({ staleMs, deadMs });
    const silentFor = async (ms: number) => {
      const nowMs = await gw.store.redisNowMs();
      await gw.connection.zadd(gw.keys.nodesSeen('grpc'), nowMs - ms, 'a');
      await gw.connection.hset(gw.keys.listening(), 'grpc', `1 ${nowMs + 60_000}`);
      // Times are read again only as they grow.
      const next = await startHttpGateway(redis);
      const [only] = nodeBodySchema.array().parse(await (await fetch(`${next.url}/api/v1/nodes`)).json());
      await next.stop();
      return only;
    };
    expect(await silentFor(190_000)).toMatchObject({ liveness: 'healthy', connected: true });
    expect(await silentFor(210_000)).toMatchObject({
      ...{ liveness: 'stale', connected: true, health_status: 'stale', health: 'HEALTH_STATE_UNHEALTHY' },
    });
    expect(await silentFor(410_000)).toMatchObject({ liveness: 'dead', connected: false, health_status: 'dead' });
  });
});

describe('without Redis', () => {
  it('answers with what was known, while that is young', async () => {
    await connected(gw.registry, 'a');
    expect(await nodes()).toHaveLength(1);
    redis.freeze();
    try {
      await vi.waitFor(() => expect(gw.health.state.kind).toBe('degraded'), 10_000);
      expect(await nodes()).toHaveLength(1);
      expect(await node('a')).toMatchObject({ id: 'a' });
      const refused = await failure('/api/v1/command', { method: 'POST', body: '{"node_id":"a","type":"DRAIN"}' });
      expect(refused).toMatchObject({ status: 503, code: 'unavailable' });
    } finally {
      redis.thaw();
    }
  });
});

describe('POST /api/v1/command', () => {
  it('sends a command to a node, and answers with the execution that it became', async () => {
    await connected(gw.registry, 'gpu-1', { more: { instance_id: 'i-1' } });
    const answer = await sent({
      node_id: 'i-1',
      type: 'PULL_MODEL',
      args: { model: 'llama3', insecure: 'true' },
      timeout: 60,
    });
    expect(answer).toEqual({ command_id: expect.any(String), sent: true, target: 'gpu-1' });
    expect(await gw.history.get(answer.command_id)).toMatchObject({
      ...{ target: 'gpu-1', command: 'pull-model', args: ['llama3', 'insecure=true'], executor: 'agent', node: 'i-1' },
      timeout_ms: 60_000,
    });
  });

  it('runs a line for a shell as one', async () => {
    await connected(gw.registry, 'a');
    const { command_id: id } = await sent({ node_id: 'a', type: 'EXEC', args: { cmd: 'echo $HOME | wc -c' } });
    expect(await gw.history.get(id)).toMatchObject({ command: 'exec', args: ['sh', '-c', 'echo $HOME | wc -c'] });
  });

  it('goes to the target that the cloud gives the node', async () => {
    await connected(gw.registry, 'ip-10-0-0-1', { more: { instance_id: 'i-1' } });
    await new TestMonitor(gw.connection, gw.keys).publish({ upserts: [workerRecord('i-1', { target: 'gpu one' })] });
    await vi.waitFor(() => expect(gw.status.workerOf('i-1')).toBeDefined());
    expect(await sent({ node_id: 'ip-10-0-0-1', type: 'DRAIN' })).toMatchObject({ target: 'gpu one' });
    expect(await node('i-1')).toMatchObject({ id: 'ip-10-0-0-1', target: 'gpu one' });
  });

  it('broadcasts to every node that has a stream', async () => {
    await connected(gw.registry, 'a');
    await connected(gw.registry, 'b');
    await gw.registry.register('c', registration(), 'grpc');
    const answer = await sent({ node_id: '*', type: 'DRAIN' });
    if (!('sent_to' in answer)) throw new Error('no broadcast');
    expect(answer).toMatchObject({ sent_to: 2, executions: [{ target: 'a' }, { target: 'b' }] });
    for (const { execution_id: id } of answer.executions) {
      expect(await gw.history.get(id)).toMatchObject({ client_id: answer.command_id, command: 'drain' });
    }
    expect(await sent({ node_id: '*', type: 'DRAIN' })).toMatchObject({ sent_to: 2 });
  });

  it('sends a broadcast to nobody when nobody is connected', async () => {
    expect(await sent({ node_id: '*', type: 'DRAIN' })).toMatchObject({ sent_to: 0 });
  });

  it('takes a body whatever its content type: curl sends a form by itself', async () => {
    await connected(gw.registry, 'a');
    for (const type of ['application/x-www-form-urlencoded', 'text/plain']) {
      expect((await command({ node_id: 'a', type: 'DRAIN', extra: 1 }, { 'content-type': type })).status).toBe(200);
    }
  });

  it('refuses what it cannot send, and says what it could', async () => {
    await connected(gw.registry, 'a');
    await gw.registry.register('streamless', registration(), 'grpc');
    const refused = async (body: unknown) =>
      failure('/api/v1/command', { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body) });
    expect(await refused({ node_id: 'a', type: 'DANCE' })).toMatchObject({
      ...{ status: 400, code: 'bad_command', error: expect.stringMatching(/SHUTDOWN, REBOOT.*got "DANCE"/) },
    });
    expect(await refused({ node_id: 'a', type: 'PULL_MODEL', args: { x: 'y' } })).toMatchObject({
      ...{ status: 400, error: expect.stringContaining('args.model') },
    });
    expect(await refused({ node_id: 'nobody', type: 'DRAIN' })).toMatchObject({
      status: 502,
      code: 'node_not_connected',
    });
    expect(await refused({ node_id: 'streamless', type: 'DRAIN' })).toMatchObject({ status: 502 });
    expect(await refused('{')).toMatchObject({ status: 400, code: 'bad_message' });
    expect(await refused({ type: 'DRAIN' })).toMatchObject({ status: 400, error: expect.stringContaining('node_id') });
    expect(await failure('/api/v1/command')).toMatchObject({ status: 405, code: 'method_not_allowed' });
  });

  it('counts against the rate of commands', async () => {
    const slow = await startHttpGateway(redis, ['--commands-per-second', '1', '--commands-burst', '1']);
    const ask = () => fetch(`${slow.url}/api/v1/command`, { method: 'POST', body: '{"node_id":"*","type":"DRAIN"}' });
    expect((await ask()).status).toBe(200);
    expect((await ask()).status).toBe(429);
    await slow.stop();
  });
});

/** What a proxy reads of a node. */
interface ProxyNode {
  id: string;
  type: string;
  connected: boolean;
  health?: string;
  gpu_count: number;
  nebula_ip: string;
  last_seen: string;
}

function rank({ health }: ProxyNode): number {
  return health === 'HEALTH_STATE_HEALTHY' ? 1 : 0;
}
