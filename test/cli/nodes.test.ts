/** Nodes on the command line, against the routes of a gateway. */
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { connected, GPU, status } from '../gateway/fleet/nodes.js';
import { type HttpGateway, startHttpGateway } from '../gateway/http/http-gateway.js';
import { TestMonitor, workerRecord } from '../gateway/status/monitor.js';
import { startRedis, type TestRedis } from '../support/redis.js';
import { FakeHost } from './fake-host.js';

let redis: TestRedis;
let gateway: HttpGateway;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());
beforeEach(async () => {
  const client = redis.client();
  await client.flushall();
  client.disconnect();
  gateway = await startHttpGateway(redis);
  await gateway.announceRunner();
  return () => gateway.stop();
});

const newHost = () => new FakeHost({ CARRIERARR_URL: gateway.url });
async function run(...argv: string[]) {
  const host = newHost();
  const exitCode = await host.run(...argv);
  return { exitCode, stdout: host.stdout.text, stderr: host.stderr.text };
}

describe('carrierarr get nodes', () => {
  it('lists them, with more in wide, and whole as JSON', async () => {
    expect(await run('get', 'nodes')).toMatchObject({
      exitCode: 0,
      stdout: '',
      stderr: expect.stringMatching(/no nodes/),
    });
    await connected(gateway.registry, 'gpu-1', {
      more: { instance_id: 'i-1', nebula_ip: '10.42.0.7' },
      says: status({ gpus: [GPU] }),
    });
    await connected(gateway.registry, 'gpu-2');
    await vi.waitFor(async () => {
      expect((await run('get', 'nodes')).stdout).toMatch(
        /^NODE +TARGET +TYPE .*\ngpu-1 +gpu-1 +gpu-worker +healthy +yes +1 +0 +2m.* ago\ngpu-2 .*\n$/,
      );
    });
    expect((await run('get', 'node', 'i-1', '-o', 'wide')).stdout).toMatch(
      /INSTANCE.*\ngpu-1 .* i-1 +10\.42\.0\.7 +- +1h/,
    );
    expect((await run('get', 'nodes', '-o', 'name')).stdout).toBe('gpu-1\ngpu-2\n');
    expect(JSON.parse((await run('get', 'nodes', 'gpu-1', '-o', 'json')).stdout)).toMatchObject({ id: 'gpu-1' });
    expect(await run('get', 'nodes', 'nobody')).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining('nobody'),
    });
    expect((await run('get', 'executions', '-w')).exitCode).toBe(2);
  });

  it('shows what changes, until Ctrl-C', async () => {
    const { key, fence } = await connected(gateway.registry, 'gpu-1');
    const host = newHost();
    const exitCode = host.run('get', 'nodes', '-w');
    await vi.waitFor(() => expect(host.stdout.text).toMatch(/^NODE .*\ngpu-1 .*healthy +yes .*\n$/), 5_000);
    await gateway.registry.status(key, fence, status({ health: 'HEALTH_STATE_DEGRADED' }));
    await vi.waitFor(() => expect(host.stdout.text).toMatch(/healthy +yes .*\ngpu-1 .*degraded .*\n$/), 10_000);
    await gateway.registry.forget([key], Date.now() + 60_000);
    await vi.waitFor(() => expect(host.stdout.text).toMatch(/degraded .*\ngpu-1 .*gone .*\n$/), 10_000);
    host.signal('SIGINT');
    expect(await exitCode).toBe(130);
  });
});

describe('carrierarr describe node', () => {
  it('says all there is of a node, and what ran on it last', async () => {
    await connected(gateway.registry, 'gpu-1', {
      more: { instance_id: 'i-1', labels: { team: 'ml' }, region: 'eu-central-1', az: 'eu-central-1a' },
      says: status({
        gpus: [GPU],
        models: [{ name: 'llama3', size_bytes: 5 * 1024 ** 3, currently_loaded: true }],
        services: { ollama: { state: 'SERVICE_STATE_RUNNING', message: 'ok\x1b', uptime_seconds: 1 } },
      }),
    });
    const id = await gateway.submit('gpu-1', 'drain');
    const { exitCode, stdout } = await run('describe', 'node', 'i-1');
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^Node: +gpu-1\nTarget: +gpu-1\nType: +gpu-worker\nInstance: +i-1\nLabels: +team=ml\n/);
    expect(stdout).toMatch(/GPUs:\n.*\n {2}0 +A10G +0\.1 of 23\.4 GiB +12\.5 % +41 °C\n/);
    expect(stdout).toMatch(/ {2}llama3 +5\.0 GiB +yes\n/);
    expect(stdout).toMatch(/ {2}ollama +running +ok\\x1b\n/);
    expect(stdout).toContain(id);
    expect((await run('describe', 'node/gpu-1')).stdout).toBe(stdout);
    expect((await run('describe', 'node', 'nobody')).exitCode).toBe(1);
    expect((await run('describe', 'node')).exitCode).toBe(2);
  });
});

describe('carrierarr run on a node', () => {
  it('gives everything after -- to the program, also a --wait, and says so', async () => {
    await connected(gateway.registry, 'gpu-1');
    const { exitCode, stdout, stderr } = await run('run', 'gpu-1', 'exec', '--', 'uname', '-a', '--wait');
    expect(exitCode).toBe(0);
    expect(stderr).toMatch(/`--wait` after `--` was taken for an argument.*`carrierarr run --wait TARGET/);
    expect(await gateway.history.get(stdout.trim())).toMatchObject({
      ...{ executor: 'agent', command: 'exec', args: ['uname', '-a', '--wait'] },
    });
    expect((await run('run', 'gpu-1', 'exec', '--', 'uname', '-a')).stderr).toBe('');
  });

  it('is run under the target of the node, whichever of its names is given', async () => {
    await connected(gateway.registry, 'ip-10-0-0-1', { more: { instance_id: 'i-1' } });
    await new TestMonitor(gateway.connection, gateway.keys).publish({
      upserts: [workerRecord('i-1', { target: 'gpu-1' })],
    });
    await vi.waitFor(() => expect(gateway.status.workerOf('i-1')).toBeDefined());
    const { stdout, stderr } = await run('run', 'ip-10-0-0-1', 'drain');
    expect(stderr).toBe('carrierarr: ip-10-0-0-1 is a node; its commands and output are those of gpu-1.\n');
    expect(await gateway.history.get(stdout.trim())).toMatchObject({ target: 'gpu-1', node: 'i-1' });
  });

  it('has its output and its commands found by whichever of its names', async () => {
    await connected(gateway.registry, 'ip-10-0-0-1', { more: { instance_id: 'i-1' } });
    await new TestMonitor(gateway.connection, gateway.keys).publish({
      upserts: [workerRecord('i-1', { target: 'gpu-1' })],
    });
    await vi.waitFor(() => expect(gateway.status.workerOf('i-1')).toBeDefined());
    const hint = (name: string) => `carrierarr: ${name} is a node; its commands and output are those of gpu-1.\n`;
    await gateway.submit('gpu-1', 'drain');
    for (const name of ['ip-10-0-0-1', 'i-1']) {
      const { stdout, stderr } = await run('ps', '--target', name);
      expect([stderr, stdout]).toEqual([hint(name), expect.stringContaining('drain')]);
    }
    expect((await run('ps', '--target', 'gpu-1')).stdout).toContain('drain');
    expect((await run('logs', 'i-1')).stderr).toContain(hint('i-1'));
    expect((await run('logs', 'gpu-1')).stderr).not.toContain('is a node');
    expect((await run('kill', 'i-1')).exitCode).toBe(0);
    expect((await run('ps', '--target', 'gpu-1')).stdout).not.toContain('drain');
  });

  it('exits with 126 when it cannot be run there', async () => {
    await connected(gateway.registry, 'gpu-1');
    expect((await run('run', 'gpu-1', 'pull-model')).exitCode).toBe(126);
  });
});
