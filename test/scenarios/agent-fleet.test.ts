/** Agents with all that they work with: gateway, runner, two monitors, and an agent, each a process of its own. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { isRunning } from '../support/processes.js';
import { type Program, startGateway, startMonitor, startProgram, startRunner, WORKSPACE } from '../support/programs.js';
import { startRedis, type TestRedis } from '../support/redis.js';
import { until } from '../support/until.js';

const AGENTS_PORT = /"address":"127\.0\.0\.1:(\d+)"[^\n]*"msg":"agents are served"/;
let redis: TestRedis;
let folder: string;
let gateway: Program;
let monitors: Program[];
const programs: Program[] = [];
const agents: Program[] = [];

function kept(program: Program): Program {
  programs.push(program);
  return program;
}

beforeAll(async () => {
  redis = await startRedis({ appendOnly: true });
  const started = async (program: Program) => {
    await kept(program).ready();
    return program;
  };
  const flags = ['--grpc-addr', '127.0.0.1:0'];
  gateway = await started(startGateway({ name: 'gateway', redisUrl: redis.url }));
  await started(
    startRunner({ name: 'runner', redisUrl: redis.url, script: join(WORKSPACE, 'scripts/mock-worker.sh') }),
  );
  monitors = [];
  for (const name of ['m1', 'm2']) monitors.push(await started(startMonitor({ name, redisUrl: redis.url, flags })));
}, 120_000);
afterAll(async () => {
  await Promise.all(programs.splice(0).map((program) => program.kill()));
  await redis.stop();
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'carrierarr-agent-fleet-'));
});
afterEach(async () => {
  await Promise.all(agents.splice(0).map((program) => program.kill()));
  await rm(folder, { recursive: true, force: true });
});

async function agent(node: string): Promise<Program> {
  const ports = await until('where monitors serve agents', () => {
    const found = monitors.map((monitor) => AGENTS_PORT.exec(monitor.output())?.[1]);
    return found.every((port) => port !== undefined) && found;
  });
  const args = ['agent', '-control-plane', ports.map((port) => `127.0.0.1:${port}`).join(','), '--node-id', node];
  args.push('--state-dir', join(folder, 'state'), '--health-port', '0', '--metadata', 'off', '--allow-exec', '*');
  const listens = /"address":"127\.0\.0\.1:(\d+)","msg":"health/;
  const program = startProgram({ name: 'agent', args: [...args, '--log-format', 'json'], listens });
  agents.push(program);
  await program.ready();
  await until('the node to be known', async () => {
    const nodes = (await (await fetch(`${gateway.url}/api/v1/nodes`)).json()) as {
      id: string;
      stream_active: boolean;
    }[];
    return nodes.some(({ id, stream_active: isActive }) => id === node && isActive);
  });
  return program;
}

const run = (node: string, script: string) =>
  kept(
    startProgram({
      name: 'run',
      args: ['run', '--url', gateway.url, '--wait', node, 'exec', '--', 'sh', '-c', script],
    }),
  );

it('shows output and exit code of a program on the node', async () => {
  await agent('node-1');
  const ran = run('node-1', 'echo out; echo err >&2; exit 7');
  expect(await ran.ended).toMatchObject({ code: 7 });
  expect(ran.stdout()).toBe('out\n');
  expect(ran.output()).toContain('err\n');
});

it('tells that a command is lost when the agent was killed and is back, with nothing of it left', async () => {
  const first = await agent('node-2');
  const ran = run('node-2', 'echo $$; sleep 300');
  const pid = await until('its process', () => Number(ran.stdout().trim()) || undefined);
  await first.kill();
  await until('its end', () => !isRunning(pid), 20_000);
  await agent('node-2');
  expect(await ran.ended).toMatchObject({ code: 125 });
  expect(ran.output()).toContain('restarted while the command ran');
});

it('loses and doubles no line when the monitor is killed that serves the agent', async () => {
  const last = await agent('node-3');
  const ran = run('node-3', 'for i in $(seq 1 100); do echo $i; sleep 0.05; done');
  await until('some output', () => ran.stdout().includes('10\n'));
  const serving = monitors.find((monitor) => monitor.output().includes('"name":"node-3"'));
  expect(serving).toBeDefined();
  await serving?.kill();
  expect(await ran.ended).toMatchObject({ code: 0 });
  expect(ran.stdout()).toBe(Array.from({ length: 100 }, (_, i) => `${i + 1}\n`).join(''));
  expect(last.output()).toContain('no connection to the control plane');
});
