/** Who has a stream, which of several counts, what ends one: monitors in this process, real Redis, sockets, generated stubs. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { Server, status as codes } from '@grpc/grpc-js';
import { HealthState, Hello, NodeStatus, NodeType } from '@carrierarr/protocol/agent-control';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { startFreezingProxy } from '../../support/freezing-proxy.js';
import { startRedis, type TestRedis } from '../../support/redis.js';
import { startTcpProxy } from '../../support/tcp-proxy.js';
import { until } from '../../support/until.js';
import { installationOf, type TestStream } from './support.js';

let redis: TestRedis;
let home: ReturnType<typeof installationOf>;
beforeAll(async () => {
  redis = await startRedis();
});
beforeEach(() => {
  home = installationOf(redis);
});
afterEach(() => home.stop());
afterAll(() => redis.stop());

describe('an agent that stops', () => {
  it('and says so is gone at once, and nobody waits for it to die', async () => {
    const { agent } = await home.monitor('m1');
    const connection = agent();
    await connection.register({ nodeId: 'host-a', instanceId: 'i-1' });
    const stream = connection.stream().hello('host-a', { instanceId: 'i-1' }).status('host-a');
    await home.streaming('i-1');
    stream.say({ $case: 'goodbye', value: {} });
    stream.call.end();
    expect(await stream.ended).toMatchObject({ code: codes.OK });
    await until('its node to be gone', async () => (await home.node('i-1')) === undefined);
    expect(home.follow.nodes.size).toBe(0);
  });

  it('and says so where Redis is out of reach hears that nobody has taken it', async () => {
    const url = new URL(redis.url);
    const proxy = await startTcpProxy(Number(url.port));
    url.port = String(proxy.port);
    const { agent } = await home.monitor('m1', [], url.href);
    const stream = agent().stream().hello('host-a').status('host-a');
    await home.streaming('host-a');
    proxy.stop();
    stream.say({ $case: 'goodbye', value: {} });
    stream.call.end();
    expect(await stream.ended).toMatchObject({ code: codes.UNAVAILABLE });
  });

  it.each([
    ['ends its stream', (stream: TestStream) => stream.call.end()],
    ['loses its stream', (stream: TestStream) => stream.call.cancel()],
  ])('or %s without a word stays known: it may come back, or be dead', async (_what, end) => {
    const { agent } = await home.monitor('m1');
    const stream = agent().stream().hello('host-a').status('host-a');
    await home.streaming('host-a');
    end(stream);
    await until('its end', async () => (await home.node('host-a'))?.streamEndedMs !== undefined);
    expect((await home.node('host-a'))?.status).toBeDefined();
  });

  it('is not taken at its word by a monitor that stops: only it can say goodbye', async () => {
    const first = await home.monitor('m1');
    first.agent().stream().hello('host-a').status('host-a');
    await home.streaming('host-a');
    await first.monitor.stop();
    expect((await home.node('host-a'))?.status).toBeDefined();
  });
});

describe('an agent in use today', () => {
  it('registers, streams, beats, and is seen with all it said', async () => {
    const { agent, metric } = await home.monitor('m1');
    const connection = agent();
    const answer = await connection.register({
      ...{ nodeId: 'host-a', nodeType: NodeType.NODE_TYPE_GPU_WORKER, instanceId: 'i-1', nebulaIp: '10.1.0.1' },
      ...{ region: 'eu', availabilityZone: 'eu-1', labels: { a: 'b' } },
    });
    expect(answer).toEqual({
      ...{ accepted: true, message: '', assignedId: 'host-a', heartbeatIntervalSec: 30, statusIntervalSec: 30 },
      features: ['commands.v1'],
    });
    const service = { state: 1, message: 'up', uptimeSeconds: 9 };
    connection.stream().status('host-a', {
      ...{ health: HealthState.HEALTH_STATE_HEALTHY, uptimeSeconds: 60, idleSeconds: 30, ollama: service },
      resources: { cpuPercent: 5, memoryUsedMb: 1, memoryTotalMb: 4, diskUsedMb: 1, diskTotalMb: 2 },
      loadedModels: [{ name: 'llama', sizeBytes: 5, currentlyLoaded: true }],
      gpus: [{ index: 0, name: 'A10', memoryUsedMb: 1, memoryTotalMb: 2, utilizationPercent: 3, temperatureC: 4 }],
    });
    const node = await until('its status', async () => {
      const found = await home.node('host-a');
      return found?.status === undefined ? undefined : found;
    });
    expect(node).toMatchObject({
      ...{ key: 'i-1', name: 'host-a' },
      registration: { type: 'NODE_TYPE_GPU_WORKER', nebula_ip: '10.1.0.1', az: 'eu-1', labels: { a: 'b' } },
      status: {
        ...{ health: 'HEALTH_STATE_HEALTHY', idle_seconds: 30 },
        services: { ollama: { state: 'SERVICE_STATE_RUNNING', message: 'up', uptime_seconds: 9 } },
      },
    });
    expect((await home.streaming('i-1')).stream?.monitor).toMatch(/^m1 /);
    expect(await connection.heartbeat('host-a')).toMatchObject({ ok: true });
    expect(await connection.heartbeat('nobody')).toMatchObject({ ok: false });
    const { nodes, summary } = await connection.fleet();
    expect(nodes).toMatchObject([
      {
        ...{ nodeId: 'host-a', nodeType: NodeType.NODE_TYPE_GPU_WORKER, health: HealthState.HEALTH_STATE_HEALTHY },
        ...{ nebulaIp: '10.1.0.1', instanceId: 'i-1', connected: true, uptimeSeconds: 60, idleSeconds: 30 },
        ...{ cpuPercent: 5, memoryPercent: 25, gpuCount: 1, loadedModels: 1, target: 'host-a', liveness: 'healthy' },
      },
    ]);
    expect(Math.abs(Date.now() - (nodes[0]?.lastSeen?.getTime() ?? 0))).toBeLessThan(60_000);
    expect(summary).toEqual({ totalNodes: 1, healthyNodes: 1, unhealthyNodes: 0, gpuNodes: 1, totalGpus: 1 });
    expect((await connection.fleet({ nodeType: NodeType.NODE_TYPE_LIGHTHOUSE })).nodes).toEqual([]);
    expect((await connection.fleet({ health: HealthState.HEALTH_STATE_UNHEALTHY })).nodes).toEqual([]);
    expect((await connection.fleet({ health: HealthState.HEALTH_STATE_HEALTHY })).nodes).toHaveLength(1);
    expect(await metric('streams')).toBe(1);
    expect(await metric('messages_total{kind="status"}')).toBe(1);
  });

  it('that never registers again after its connection broke is the same node', async () => {
    const { agent } = await home.monitor('m1');
    const first = agent();
    await first.register({ nodeId: 'host-a', instanceId: 'i-1' });
    const stream = first.stream().status('host-a');
    const before = await home.streaming('i-1');
    stream.call.cancel();
    await until('its end', async () => (await home.node('i-1'))?.stream === undefined);
    agent().stream().status('host-a');
    const after = await home.streaming('host-a');
    expect(after.key).toBe('i-1');
    expect(after.stream?.fence).toBeGreaterThan(before.stream?.fence ?? 0);
    expect([...home.follow.nodes.keys()]).toEqual(['i-1']);
  });

  it('of a host name that another machine has too is told apart by its connection', async () => {
    const { agent } = await home.monitor('m1');
    const [a, b] = [agent(), agent()];
    await a.register({ nodeId: 'ip-10-0-0-1', instanceId: 'i-1' });
    await b.register({ nodeId: 'ip-10-0-0-1', instanceId: 'i-2' });
    const [first, second] = [a.stream(), b.stream()];
    first.status('ip-10-0-0-1', { uptimeSeconds: 1 });
    await home.streaming('i-1');
    second.status('ip-10-0-0-1', { uptimeSeconds: 2 });
    await home.streaming('i-2');
    await until('both statuses', async () => (await home.node('i-2'))?.status !== undefined);
    expect((await home.node('i-1'))?.status?.uptime_seconds).toBe(1);
    expect((await home.node('i-2'))?.status?.uptime_seconds).toBe(2);
    expect((await home.streaming('i-1')).stream).toBeDefined();
  });

  it('that does not even say its name in its status is who registered over the connection', async () => {
    const { agent } = await home.monitor('m1');
    const connection = agent();
    await connection.register({ nodeId: '', instanceId: 'i-1' });
    connection.stream().status('');
    expect((await home.streaming('i-1')).name).toBe('i-1');
  });
});

describe('intervals', () => {
  it('are told in whole seconds, as the protocol has them, also where they were set otherwise', async () => {
    const { agent } = await home.monitor('m1', [
      ...['--agent-status-interval', '2500ms', '--agent-heartbeat-interval', '1200ms'],
    ]);
    const intervals = { heartbeatIntervalSec: 1, statusIntervalSec: 3 };
    expect(await agent().register({ nodeId: 'host-a' })).toMatchObject(intervals);
    const registration = { nodeId: 'host-b' } as never;
    expect(await agent().stream().hello('host-b', { registration }).next('config')).toMatchObject(intervals);
  });
});

describe('intervals that nobody set', () => {
  it('are half a minute, or less where nodes are stale sooner', async () => {
    const { agent } = await home.monitor('m1', []);
    const told = await agent().register({ nodeId: 'host-a' });
    expect(told).toMatchObject({ heartbeatIntervalSec: 30, statusIntervalSec: 30 });
    const hasty = await home.monitor('m2', ['--stale-timeout', '20s']);
    const sooner = { heartbeatIntervalSec: 10, statusIntervalSec: 10 };
    expect(await hasty.agent().register({ nodeId: 'host-b' })).toMatchObject(sooner);
  });
});

describe('a carrierarr agent', () => {
  it('needs no registration beside its stream, and is told the intervals there', async () => {
    const { agent } = await home.monitor('m1', ['--agent-status-interval', '5s']);
    const stream = agent().stream();
    const registration = { nodeId: 'host-a', instanceId: 'i-1', region: 'eu' };
    stream.hello('host-a', { instanceId: 'i-1', agentVersion: '1.2.3', registration: registration as never });
    expect(await stream.next('config')).toEqual({
      ...{ heartbeatIntervalSec: 30, statusIntervalSec: 5, idleShutdownMinutes: 0, onlyIntervals: true },
    });
    stream.status('host-a', {
      services: { web: { state: 4, message: '', uptimeSeconds: 0 } },
      interruption: { kind: 'spot', at: new Date(5_000), detail: 'soon' },
      draining: true,
    });
    const node = await until('its status', async () => {
      const found = await home.node('i-1');
      return found?.status === undefined ? undefined : found;
    });
    expect(node).toMatchObject({
      registration: { region: 'eu', features: ['commands.v1'], agent_version: '1.2.3' },
      status: {
        services: { web: { state: 'SERVICE_STATE_ERROR' } },
        interruption: { kind: 'spot', at: '1970-01-01T00:00:05.000Z', detail: 'soon' },
        draining: true,
      },
    });
  });
});

describe('of two streams of one node the newer counts', () => {
  it('and the older ends at once', async () => {
    const { agent, metric } = await home.monitor('m1');
    const older = agent().stream().status('n1');
    await home.streaming('n1');
    const newer = agent().stream().status('n1');
    expect(await older.ended).toEqual({
      code: codes.ABORTED,
      details: 'There is a newer stream of this node: that one counts, and this one ends.',
    });
    newer.status('n1', { uptimeSeconds: 9 });
    await until('the newer to be heard', async () => (await home.node('n1'))?.status?.uptime_seconds === 9);
    await home.streaming('n1');
    expect(await metric('takeovers_total')).toBe(1);
  });

  it('also across two monitors', async () => {
    const [m1, m2] = [await home.monitor('m1'), await home.monitor('m2')];
    const older = m1.agent().stream().status('n1');
    await home.streaming('n1');
    m2.agent().stream().status('n1');
    expect(await older.ended).toMatchObject({ code: codes.ABORTED });
    const node = await home.streaming('n1');
    expect(node.stream?.monitor).toMatch(/^m2 /);
  });

  it('and the older ends with its next message where nobody told of the newer', async () => {
    const { agent } = await home.monitor('m1');
    const older = agent().stream().status('n1');
    const { stream } = await home.streaming('n1');
    const silently = `${(stream?.fence ?? 0) + 1} 1 another-monitor`;
    await home.connection.hset(home.keys.nodeStreams(), 'n1', silently);
    older.status('n1', { uptimeSeconds: 9 });
    expect(await older.ended).toMatchObject({ code: codes.ABORTED });
    expect(await home.connection.hget(home.keys.nodeStreams(), 'n1')).toBe(silently);
  });
});

describe('a stream ends', () => {
  it.each([
    [
      'that begins with something else',
      { $case: 'accepted', value: { commandId: 'x', fence: 1 } } as const,
      /status that names the node/,
    ],
    ['whose node has no name', { $case: 'status', value: NodeStatus.fromPartial({}) } as const, /must not be empty/],
    [
      'whose node has a name that nobody may have',
      { $case: 'status', value: NodeStatus.fromPartial({ nodeId: 'a{b}' }) } as const,
      /"a\{b\}" cannot be used: a target must not contain/,
    ],
    [
      'whose agent registers with an instance id that is no name',
      {
        $case: 'hello',
        value: Hello.fromPartial({ nodeId: 'host-a', registration: { nodeId: 'host-a', instanceId: 'i-1\n{b}' } }),
      } as const,
      /"i-1\\n\{b\}" cannot be used: a target must not contain/,
    ],
    [
      'whose agent says that it runs more than it may',
      {
        $case: 'hello',
        value: Hello.fromPartial({ nodeId: 'host-a', running: Array.from({ length: 1_001 }, (_each, i) => `c${i}`) }),
      } as const,
      /at most 1000 commands that run, got 1001/,
    ],
  ])('%s', async (_, payload, why) => {
    const { agent } = await home.monitor('m1');
    const stream = agent().stream().say(payload);
    const end = await stream.ended;
    expect(end.code).toBe(codes.INVALID_ARGUMENT);
    expect(end.details).toMatch(why);
  });

  it('over which more messages come than are allowed', async () => {
    const { agent, metric } = await home.monitor('m1', ['--agent-messages-per-second', '5']);
    const stream = agent().stream();
    for (let i = 0; i < 30; i += 1) stream.status('n1');
    expect(await stream.ended).toEqual({
      code: codes.RESOURCE_EXHAUSTED,
      details: 'More than 5 messages a second (--agent-messages-per-second).',
    });
    expect(await metric('refused_total{reason="messages"}')).toBe(1);
  });

  it('over which more bytes come than are allowed', async () => {
    const { agent } = await home.monitor('m1', ['--agent-bytes-per-second', '64KiB']);
    const stream = agent().stream();
    const message = 'x'.repeat(60_000);
    for (let i = 0; i < 5; i += 1) stream.status('n1', { ollama: { state: 1, message, uptimeSeconds: 0 } });
    expect(await stream.ended).toMatchObject({ code: codes.RESOURCE_EXHAUSTED });
  });

  it('with a message that is too large', async () => {
    const { agent } = await home.monitor('m1', ['--grpc-message-bytes-max', '128KiB']);
    const stream = agent().stream().status('n1');
    await home.streaming('n1');
    stream.status('n1', { ollama: { state: 1, message: 'x'.repeat(200_000), uptimeSeconds: 0 } });
    expect(await stream.ended).toMatchObject({ code: codes.RESOURCE_EXHAUSTED });
    await until('its end to be known', async () => (await home.node('n1'))?.stream === undefined);
  });

  it.each([
    ['from its address', '--agent-streams-per-address-max'],
    ['in all', '--agent-streams-max'],
  ])('that is one too many %s', async (_, flag) => {
    const { agent, metric } = await home.monitor('m1', [flag, '1']);
    const first = agent().stream().status('n1');
    await home.streaming('n1');
    const second = agent().stream();
    expect(await second.ended).toEqual({ code: codes.RESOURCE_EXHAUSTED, details: expect.stringContaining(flag) });
    expect(await metric('refused_total{reason="streams"}')).toBe(1);
    first.call.cancel();
    await until('room', async () => (await metric('streams')) === 0);
    agent().stream().status('n2');
    await home.streaming('n2');
  });

  it.each([
    ['from its address', ['--agent-streams-per-address-max', '1']],
    ['in all', ['--agent-streams-max', '1']],
  ])('for which there are too many connections %s, which say nothing', async (_, flags) => {
    const { address, agent, metric } = await home.monitor('m1', flags);
    const port = Number(address.split(':')[1]);
    const silent = Array.from({ length: 2 * 1 + 16 }, () => connect({ port, host: '127.0.0.1' }));
    await Promise.all(silent.map((socket) => once(socket, 'connect')));
    const oneMore = connect({ port, host: '127.0.0.1' });
    oneMore.on('error', () => undefined);
    await once(oneMore, 'close');
    expect(await metric('refused_total{reason="connections"}')).toBe(1);
    // Those that were there stay.
    expect(silent.filter((socket) => socket.closed)).toEqual([]);
    for (const socket of silent) socket.destroy();
    agent().stream().status('n1');
    await home.streaming('n1');
  });

  it('whose other end went silent without a word, when it does not answer pings', async () => {
    const { address } = await home.monitor('m1', ['--grpc-keepalive', '300ms', '--grpc-keepalive-timeout', '300ms']);
    const proxy = await startFreezingProxy(Number(address.split(':')[1]));
    try {
      home.agentAt(proxy.address).stream().status('n1');
      await home.streaming('n1');
      proxy.freeze();
      await until('its end to be known', async () => (await home.node('n1'))?.stream === undefined);
    } finally {
      proxy.stop();
    }
  });

  it('not because its agent pings often, and neither does a connection without one', async () => {
    const { address } = await home.monitor('m1');
    const options = { 'grpc.keepalive_time_ms': 20, 'grpc.keepalive_timeout_ms': 2_000 };
    const busy = home.agentAt(address, { ...options, 'grpc.keepalive_permit_without_calls': 1 });
    await busy.register({ nodeId: 'n1' });
    const stream = busy.stream().status('n1');
    const { stream: before } = await home.streaming('n1');
    for (let i = 1; i <= 30; i += 1) {
      stream.status('n1', { uptimeSeconds: i });
      await until('the status', async () => (await home.node('n1'))?.status?.uptime_seconds === i);
    }
    expect((await home.streaming('n1')).stream?.fence).toBe(before?.fence);
  });
});

it('a registration too many from one address is refused, and one whose name nobody may have', async () => {
  const { agent, metric } = await home.monitor('m1', ['--agent-calls-per-second', '1']);
  const connection = agent();
  await expect(connection.register({ nodeId: '*' })).rejects.toMatchObject({ code: codes.INVALID_ARGUMENT });
  const many = await Promise.allSettled(Array.from({ length: 40 }, () => connection.register({ nodeId: 'n1' })));
  const refused = many.flatMap((each) => (each.status === 'rejected' ? [each.reason as { code: number }] : []));
  expect(refused.length).toBeGreaterThan(10);
  expect(new Set(refused.map(({ code }) => code))).toEqual(new Set([codes.RESOURCE_EXHAUSTED]));
  expect(await metric('refused_total{reason="calls"}')).toBe(refused.length);
});

it('an agent that does not read gets nothing heaped up for it, and all of it once it reads', async () => {
  const { agent, metric } = await home.monitor('m1');
  const stream = agent().stream().hello('n1');
  await home.streaming('n1');
  await stream.next('config');
  stream.call.pause();
  const commands = 120;
  const text = 'x'.repeat(60_000);
  for (let i = 0; i < commands; i += 1)
    await home.command('n1', { target: `t${i}`, args: { cmd: text }, argv: [text] });
  await until('a look at all of them', async () => (await metric('commands_open')) === commands);
  // Two windows of HTTP/2 and what lies in buffers on the way: far from all 14 MB.
  expect(await metric('commands_sent_total')).toBeLessThan(commands / 2);
  stream.call.resume();
  await until('all of them', () => new Set(stream.of('command').map(({ commandId }) => commandId)).size === commands);
}, 40_000);

describe('a monitor that stops', () => {
  it('sends its agents to another, and says before that it serves no more', async () => {
    const [m1, m2] = [await home.monitor('m1'), await home.monitor('m2')];
    const streams = ['n1', 'n2', 'n3'].map((name) => m1.agent().stream().status(name));
    for (const name of ['n1', 'n2', 'n3']) await home.streaming(name);
    const stopping = m1.monitor.stop();
    for (const { ended } of streams)
      expect(await ended).toEqual({ code: codes.UNAVAILABLE, details: 'This monitor stops. Connect to another.' });
    await stopping;
    expect(m1.readiness.ready().checks['agents']).toMatchObject({ ok: false, detail: 'stopping' });
    expect(m1.monitor.agentsAddress).toBeUndefined();
    await expect(m1.agent().register({ nodeId: 'n1' })).rejects.toMatchObject({ code: codes.UNAVAILABLE });
    m2.agent().stream().status('n1');
    expect((await home.streaming('n1')).stream?.monitor).toMatch(/^m2 /);
    expect((await home.node('n2'))?.stream).toBeUndefined();
  });

  it('waits for the ends of all streams to be stored, also where gRPC has shut down before they ended', async () => {
    vi.spyOn(Server.prototype, 'tryShutdown').mockImplementation((done) => done());
    onTestFinished(() => void vi.restoreAllMocks());
    const { agent, monitor } = await home.monitor('m1');
    for (const name of ['n1', 'n2', 'n3']) agent().stream().status(name);
    for (const name of ['n1', 'n2', 'n3']) await home.streaming(name);
    await monitor.stop();
    for (const name of ['n1', 'n2', 'n3']) expect([name, (await home.node(name))?.stream]).toEqual([name, undefined]);
  });

  it('listens no more, as far as liveness goes, but another does', async () => {
    const m1 = await home.monitor('m1');
    await until('it to listen', async () => {
      await home.follow.refresh();
      return home.follow.listening.grpc;
    });
    expect(m1.readiness.ready().checks['agents']).toMatchObject({ ok: true, detail: `listens on ${m1.address}` });
    await m1.monitor.stop();
    expect(await home.connection.zcard(home.keys.servingMonitors())).toBe(0);
  });
});

it('a monitor whose port is taken says so, does everything else, and takes the port when it is free', async () => {
  const first = await home.monitor('m1');
  const second = home.monitor('m2', ['--grpc-addr', first.address]);
  await first.agent().register({ nodeId: 'n1' });
  const serving = () => home.connection.zrange(home.keys.servingMonitors(), 0, '-1');
  // Or nodes would be stale because nobody means to hear them.
  await until('it to say that it serves agents', async () => (await serving()).some((name) => name.startsWith('m2 ')));
  await first.monitor.stop();
  expect((await second).address).toBe(first.address);
});
