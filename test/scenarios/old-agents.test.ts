/** Agents, llm-proxy and frontends of today against this control plane: what `wire` sections 1 to 3 say, by an agent that knows no more. */
import { expect, onTestFinished, test } from 'vitest';
import { Installation, type InstallationOptions } from '../support/installation.js';
import { OldAgent, type OldAgentOptions, type Plain } from '../support/old-agent.js';
import type { Program } from '../support/programs.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';

const AGENT_FLAGS = ['--grpc-addr', '127.0.0.1:0'];
/** A stream whose other end says nothing is given up after two keepalive intervals. */
const HALF_OPEN_MS = 45_000;

async function start(options: InstallationOptions = {}): Promise<Installation> {
  const { monitorFlags = [], ...more } = options;
  return Installation.start({
    ...{ gateways: 1, runners: 1, monitors: 1 },
    ...more,
    monitorFlags: [...AGENT_FLAGS, ...monitorFlags],
  });
}

/** Where a monitor serves agents. */
async function grpcOf(monitor: Program): Promise<string> {
  return until('the monitor to say where it serves agents', () => {
    const line = monitor
      .output()
      .split('\n')
      .find((text) => text.includes('agents are served'));
    return line === undefined ? undefined : ((JSON.parse(line) as Plain)['address'] as string);
  });
}

async function agentOf(
  it: Installation,
  options: Omit<OldAgentOptions, 'address'>,
  monitor = it.monitors[0] as Program,
) {
  return agentAt(await grpcOf(monitor), options);
}

function agentAt(address: string, options: Omit<OldAgentOptions, 'address'>): OldAgent {
  const agent = new OldAgent({ address, ...options });
  onTestFinished(() => agent.close());
  return agent;
}

async function get(it: Installation, path: string): Promise<Plain> {
  const answer = await fetch(`${it.gateway(0).url}${path}`);
  return { http: answer.status, body: await answer.json() };
}

async function node(it: Installation, id: string): Promise<Plain | undefined> {
  const { body } = await get(it, '/api/v1/nodes');
  return (body as Plain[]).find((each) => each['id'] === id);
}

function streaming(it: Installation, id: string): Promise<Plain> {
  return until(`${id} to have a stream`, async () => {
    const found = await node(it, id);
    return found?.['stream_active'] === true && found['health'] !== undefined && found;
  });
}

async function post(it: Installation, body: unknown): Promise<Plain> {
  const answer = await fetch(`${it.gateway(0).url}/api/v1/command`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { http: answer.status, ...((await answer.json()) as Plain) };
}

test('an agent registers, streams, and is seen on every route as frontends know it', async () => {
  const it = await start();
  const agent = await agentOf(it, { hostName: 'gpu-host-1', instanceId: 'i-0001' });
  expect(await agent.register()).toMatchObject({
    ...{ accepted: true, heartbeat_interval_sec: 30, status_interval_sec: 30 },
    assigned_id: expect.any(String),
  });
  agent.connect();
  const beat = await agent.heartbeat();
  expect(beat).toMatchObject({ ok: true });
  expect(Math.abs(Number(beat['server_time'].seconds) * 1000 - Date.now())).toBeLessThan(60_000);
  const row = await streaming(it, 'gpu-host-1');
  expect(row).toMatchObject({
    ...{ id: 'gpu-host-1', type: 'NODE_TYPE_GPU_WORKER', instance_id: 'i-0001', nebula_ip: '10.42.0.7' },
    ...{ public_ip: '203.0.113.7', connected: true, stream_active: true, health: 'HEALTH_STATE_HEALTHY' },
    ...{ uptime_seconds: 3600, idle_seconds: 42, gpu_count: 2, loaded_models: expect.anything() },
  });
  expect(new Date(row['last_seen'] as string).toISOString()).toBeTruthy();
  expect((await get(it, '/api/v1/nodes?type=gpu-worker')).body).toHaveLength(1);
  expect((await get(it, '/api/v1/nodes?type=lighthouse')).body).toEqual([]);
  for (const id of ['gpu-host-1', 'i-0001']) {
    const one = await get(it, `/api/v1/nodes/${id}`);
    expect(one['body']).toMatchObject({
      ...{ id: 'gpu-host-1', region: 'eu-central-1', az: 'eu-central-1a', labels: { rack: 'r1' } },
      connected_at: expect.any(String),
      status: { health: 'HEALTH_STATE_HEALTHY', uptime_seconds: 3600, idle_seconds: 42 },
      resources: { cpu_percent: 12.5, memory_used_mb: 8000, memory_total_mb: 32000 },
      models: [{ name: 'llama3:8b', size_bytes: 4_700_000_000, currently_loaded: true }],
    });
    expect(one['body'].gpus[1]).toEqual({
      ...{ index: 1, name: 'T4', memory_used_mb: 4000, memory_total_mb: 16000, utilization: 35.5, temperature_c: 61 },
    });
  }
  expect((await get(it, '/api/v1/nodes/nobody')).http).toBe(404);
  expect((await get(it, '/api/v1/stats')).body).toEqual({
    ...{ total_nodes: 1, healthy_nodes: 1, unhealthy_nodes: 0, gpu_nodes: 1, total_gpus: 2, connected: 1 },
  });
  // The HTTP fleet is the gRPC one in proto JSON.
  const byGrpc = await agent.fleet();
  const byHttp = (await get(it, '/api/v1/fleet')).body as Plain;
  expect(byHttp['nodes'][0]).toMatchObject({
    ...{ node_id: 'gpu-host-1', node_type: 'NODE_TYPE_GPU_WORKER', health: 'HEALTH_STATE_HEALTHY', connected: true },
    ...{ uptime_seconds: '3600', idle_seconds: '42', cpu_percent: 12.5, memory_percent: 25, gpu_count: 2 },
    loaded_models: 1,
  });
  for (const key of [
    'node_id',
    'node_type',
    'health',
    'nebula_ip',
    'instance_id',
    'connected',
    'uptime_seconds',
    'gpu_count',
  ]) {
    expect(byHttp['nodes'][0][key]).toEqual(byGrpc['nodes'][0][key]);
  }
  expect(byHttp['summary']).toEqual(byGrpc['summary']);
  expect((await agent.fleet({ node_type: 'NODE_TYPE_LIGHTHOUSE' }))['nodes']).toEqual([]);
});

test('a command by HTTP reaches the agent once, and its output every frontend', async () => {
  const it = await start();
  const watcher = await it.oldClient('watcher', it.gateway(0), { keepsLines: true });
  const agent = await agentOf(it, { hostName: 'gpu-host-1' });
  await agent.register();
  agent.connect();
  await streaming(it, 'gpu-host-1');

  const sent = await post(it, { node_id: 'gpu-host-1', type: 'EXEC', args: { cmd: 'echo "a b" | wc' }, timeout: 30 });
  expect(sent).toMatchObject({ http: 200, sent: true, command_id: expect.any(String) });
  const command = await agent.command();
  expect(command).toMatchObject({
    ...{ command_id: sent['command_id'], type: 'COMMAND_TYPE_EXEC', args: { cmd: 'echo "a b" | wc' } },
    timeout_seconds: 30,
  });
  agent.result(command.command_id, { exit_code: 3, success: false, stdout: 'one\ntwo\n', stderr: 'oops\n' });
  const result = await watcher.socket.next('the result', ({ type }) => type === 'result');
  expect(result).toMatchObject({ target: 'gpu-host-1', exit_code: 3 });
  const lines = watcher.socket.messages.filter(({ type }) => type === 'stdout' || type === 'stderr');
  expect(lines.map(({ type, target, data }) => [type, target, data])).toEqual([
    ['stdout', 'gpu-host-1', 'one'],
    ['stdout', 'gpu-host-1', 'two'],
    ['stderr', 'gpu-host-1', 'oops'],
  ]);
  await until('the result to be acknowledged', () =>
    agent.received.some((message) => message['ack']?.message_id === command.command_id),
  );
  expect(agent.commands()).toHaveLength(1);

  expect(await post(it, { node_id: 'gpu-host-1', type: 'DANCE' })).toMatchObject({ http: 400 });
  expect(await post(it, { node_id: 'nobody', type: 'DRAIN' })).toMatchObject({ http: 502 });
  expect((await get(it, '/api/v1/command')).http).toBe(405);
});

test('a broadcast reaches every node', async () => {
  const it = await start();
  const agents = [];
  for (const hostName of ['a', 'b', 'c']) {
    const agent = await agentOf(it, { hostName });
    await agent.register();
    agent.connect();
    agents.push(agent);
  }
  for (const name of ['a', 'b', 'c']) await streaming(it, name);
  expect(await post(it, { node_id: '*', type: 'DRAIN' })).toMatchObject({ http: 200, sent_to: 3 });
  for (const agent of agents) {
    const { command_id: id, type } = await agent.command();
    expect(type).toBe('COMMAND_TYPE_DRAIN');
    agent.result(id);
  }
});

test('an agent that does not register again is still what it was, at another monitor, and its command comes back over the new stream', async () => {
  const it = await start({ monitors: 2 });
  const [first, second] = it.monitors as [Program, Program];
  const options = { hostName: 'gpu-host-1', instanceId: 'i-0001' };
  const agent = await agentOf(it, options, first);
  await agent.register();
  agent.connect();
  await streaming(it, 'gpu-host-1');
  const { command_id: commandId } = await post(it, { node_id: 'i-0001', type: 'EXEC', args: { cmd: 'sleep 60' } });
  await agent.command();
  it.retire(first);
  await first.kill();
  const again = agentAt(await grpcOf(second), options);
  again.connect();
  await until('the node to be served by the other monitor', async () => {
    const found = await node(it, 'gpu-host-1');
    return (
      found?.['stream_active'] === true && found['type'] === 'NODE_TYPE_GPU_WORKER' && found['instance_id'] === 'i-0001'
    );
  });
  // It may have run: it is not sent again.
  again.result(commandId, { exit_code: 0, stdout: 'done\n' });
  const ended = await until('the execution to end', async () => {
    const { body } = await get(it, `/api/v1/executions/${commandId}`);
    return body['state'] === 'ended' && body;
  });
  expect(ended).toMatchObject({ outcome: 'succeeded', exit_code: 0 });
  expect([...agent.commands(), ...again.commands()]).toHaveLength(1);
});

test('of two streams of one node the newer one counts, and the older one is ended', async () => {
  const it = await start({ monitors: 2 });
  const [first, second] = it.monitors as [Program, Program];
  const old = await agentOf(it, { hostName: 'gpu-host-1' }, first);
  await old.register();
  old.connect();
  await streaming(it, 'gpu-host-1');
  const fresh = await agentOf(it, { hostName: 'gpu-host-1' }, second);
  fresh.connect();
  await until('the older stream to be ended', () => old.ends.length > 0, 1_500);
  await post(it, { node_id: 'gpu-host-1', type: 'DRAIN' });
  fresh.result((await fresh.command()).command_id);
  expect(old.commands()).toEqual([]);
});

test('a half-open stream is found out, and the node shows it', { timeout: HALF_OPEN_MS + 30_000 }, async () => {
  const it = await start();
  const proxy = await startTcpProxy(Number((await grpcOf(it.monitors[0] as Program)).split(':')[1]));
  onTestFinished(() => proxy.stop());
  const agent = agentAt(`127.0.0.1:${proxy.port}`, { hostName: 'gpu-host-1' });
  await agent.register();
  agent.connect();
  await streaming(it, 'gpu-host-1');
  proxy.hold();
  await until(
    'the stream to be given up',
    async () => (await node(it, 'gpu-host-1'))?.['stream_active'] === false,
    HALF_OPEN_MS,
  );
  expect(await node(it, 'gpu-host-1')).toMatchObject({ connected: true });
});

test('an agent that reads nothing costs its monitor nothing, and others are served', async () => {
  const it = await start({ monitorFlags: ['--poll', '1s'] });
  const lazy = await agentOf(it, { hostName: 'lazy' });
  await lazy.register();
  lazy.connect();
  const eager = await agentOf(it, { hostName: 'eager' });
  await eager.register();
  eager.connect();
  await streaming(it, 'lazy');
  await streaming(it, 'eager');
  lazy.stopReading();
  for (let i = 0; i < 5; i++) expect(await post(it, { node_id: 'lazy', type: 'DRAIN' })).toMatchObject({ sent: true });
  await post(it, { node_id: 'eager', type: 'DRAIN' });
  eager.result((await eager.command()).command_id);
  await until('the other one to have ended', async () => {
    const { body } = await get(it, '/api/v1/executions?target=eager');
    return body['executions'][0]?.state === 'ended';
  });
});

test('what an agent logs comes out on its target, and old frontends do not notice', async () => {
  const it = await start();
  const old = await it.oldClient('old', it.gateway(0), { keepsLines: true });
  const logs: string[] = [];
  await it.newClient('new', {
    targets: '*',
    onMessage: (message) => {
      if (message.type === 'log') logs.push(`${message['target']} ${message['data']}`);
      if (message.type === 'lines' && message['stream'] === 'log')
        logs.push(...(message['lines'] as string[]).map((line) => `${message['target']} ${line}`));
    },
  });
  const agent = await agentOf(it, { hostName: 'gpu-host-1' });
  await agent.register();
  agent.connect();
  await streaming(it, 'gpu-host-1');
  agent.log('ollama was restarted');
  await until('the log line', () =>
    logs.find((line) => line.startsWith('gpu-host-1 ') && line.includes('ollama was restarted')),
  );
  expect(old.socket.messages.filter((message) => message['target'] === 'gpu-host-1')).toEqual([]);
});

test('llm-proxy finds the best GPU worker in the list of nodes', async () => {
  const it = await start();
  for (const [hostName, gpus, health] of [
    ['small', 1, 'HEALTH_STATE_HEALTHY'],
    ['large', 4, 'HEALTH_STATE_HEALTHY'],
    ['ill', 8, 'HEALTH_STATE_DEGRADED'],
  ] as const) {
    const agent = await agentOf(it, { hostName });
    await agent.register({ nebula_ip: `10.0.0.${gpus}`, capabilities: { has_gpu: true, gpu_count: gpus } });
    agent.connect();
    agent.status({ health, gpus: Array.from({ length: gpus }, (_, index) => ({ index, name: 'T4' })) });
    await streaming(it, hostName);
  }
  const best = await until('all three to be as they are', async () => {
    const { body } = await get(it, '/api/v1/nodes');
    const usable = (body as Plain[]).filter(
      (each) =>
        each['type'] === 'NODE_TYPE_GPU_WORKER' &&
        each['connected'] === true &&
        !Number.isNaN(Date.parse(each['last_seen'] as string)),
    );
    if (usable.length < 3 || usable.some((each) => each['health'] === undefined)) return false;
    return usable.toSorted(
      (a, b) =>
        Number(b['health'] === 'HEALTH_STATE_HEALTHY') - Number(a['health'] === 'HEALTH_STATE_HEALTHY') ||
        b['gpu_count'] - a['gpu_count'],
    )[0];
  });
  expect(`http://${best['nebula_ip']}:11434`).toBe('http://10.0.0.4:11434');
});
