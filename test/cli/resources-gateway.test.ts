import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type HttpGateway, startHttpGateway } from '../gateway/http/http-gateway.js';
import { startRedis, type TestRedis } from '../support/redis.js';
import { FakeHost } from './fake-host.js';

let redis: TestRedis;
let gateway: HttpGateway;
let folder: string;

beforeEach(async () => {
  redis = await startRedis();
  gateway = await startHttpGateway(redis, ['--commands-per-second', '50', '--commands-burst', '10']);
  folder = await mkdtemp(join(tmpdir(), 'carrierarr-fleet-'));
});
afterEach(async () => {
  await gateway.stop();
  await redis.stop();
  await rm(folder, { recursive: true });
});

const newHost = () => new FakeHost({ CARRIERARR_URL: gateway.url });

async function run(...argv: string[]) {
  const host = newHost();
  const exitCode = await host.run(...argv);
  return { exitCode, stdout: host.stdout.text, stderr: host.stderr.text };
}

async function file(text: string): Promise<string> {
  const path = join(folder, 'fleet.yaml');
  await writeFile(path, text);
  return path;
}

const FLEET = `
apiVersion: carrierarr.io/v1
kind: WorkerPool
metadata: {name: gpu, labels: {team: ml}}
spec: {replicas: 2, template: {spec: {args: {provision: [--spot]}}}}
---
apiVersion: carrierarr.io/v1
kind: Worker
metadata: {name: "web 1", labels: {team: ml}}
spec: {desired: stopped}
`;

describe('the command line and a gateway', () => {
  it('agree on applying, showing, changing and deleting', async () => {
    const path = await file(FLEET);
    expect((await run('diff', '-f', path)).exitCode).toBe(1);
    expect(await run('apply', '-f', path, '--dry-run')).toMatchObject({
      exitCode: 0,
      stdout: expect.stringMatching(
        /^workerpool\/gpu created \(dry run\): .+\nworker\/web 1 created \(dry run\): .+\n$/,
      ),
    });
    expect(await run('apply', '-f', path)).toEqual({
      exitCode: 0,
      stdout: 'workerpool/gpu created\nworker/web 1 created\n',
      stderr: '',
    });
    expect((await run('apply', '-f', path)).stdout).toBe('workerpool/gpu unchanged\nworker/web 1 unchanged\n');
    expect(await run('diff', '-f', path)).toEqual({ exitCode: 0, stdout: '', stderr: '' });

    expect((await run('scale', 'pool', 'gpu', '--replicas', '3')).exitCode).toBe(0);
    expect((await run('pause', 'worker', 'web 1')).stdout).toBe('worker/web 1 paused\n');
    expect((await run('get', 'pools')).stdout).toMatch(/\ngpu +3 /);
    expect((await run('get', 'workers', '-o', 'name', '-l', 'team=ml')).stdout).toBe('worker/web 1\n');
    expect((await run('diff', '-f', path)).stdout).toMatch(/^- {2}replicas: 3\n\+ {2}replicas: 2$/m);
    const back = await file((await run('get', 'workers', '-o', 'yaml')).stdout);
    expect((await run('apply', '-f', back)).stdout).toBe('worker/web 1 unchanged\n');
    for (const what of ['observed', 'orphans']) expect((await run('get', what)).exitCode).toBe(0);

    const described = await run('describe', 'worker', 'web 1');
    expect(described).toMatchObject({ exitCode: 0, stderr: '' });
    expect(described.stdout).toMatch(/^Why:\n {2}It is paused/m);
    expect(described.stdout).toMatch(/^Next:\n {2}.+$/m);
    expect(described.stdout).toMatch(/^Events:\n {2}TYPE /m);
    expect((await run('plan', 'pool', 'gpu')).stdout).toMatch(/^workerpool\/gpu .*gpu-0/);

    expect((await run('delete', 'worker', 'nobody')).exitCode).toBe(1);
    expect((await run('delete', 'pool', 'gpu')).stdout).toBe('workerpool/gpu is being deleted\n');
    expect((await run('delete', 'worker', 'web 1', '--orphan', '--wait')).stdout).toBe('worker/web 1 deleted\n');
    expect((await run('get', 'workers', 'web 1')).exitCode).toBe(1);
  });

  it('agree on watching, and on pruning by labels', async () => {
    await run('apply', '-f', await file(FLEET));
    const host = newHost();
    const exitCode = host.run('get', 'workers', '-l', 'team=ml', '-w', '-o', 'name');
    await vi.waitFor(() => expect(host.stdout.text).toBe('worker/web 1\n'));
    const added = await file(FLEET.replace('web 1', 'web 2'));
    const pruned = await run('apply', '-f', added, '--prune', '-l', 'team=ml');
    expect(pruned).toMatchObject({
      exitCode: 0,
      stdout: 'workerpool/gpu unchanged\nworker/web 2 created\nworker/web 1 pruned\n',
    });
    // Marked, and kept until its machine is terminated.
    await vi.waitFor(() => expect(host.stdout.text).toBe('worker/web 1\nworker/web 2\nworker/web 1\n'));
    const waiting = run('delete', 'worker', 'web 2', '--wait');
    await vi.waitFor(async () => {
      const marked = await gateway.resourceStore.get('Worker', 'web 2');
      expect(marked?.metadata.deletionTimestamp).toBeDefined();
    });
    await gateway.resourceStore.remove('Worker', 'web 2', undefined);
    expect(await waiting).toEqual({ exitCode: 0, stdout: 'worker/web 2 deleted\n', stderr: '' });
    await vi.waitFor(() => expect(host.stdout.text).toMatch(/worker\/web 2 deleted\n$/));
    host.signal('SIGINT');
    expect(await exitCode).toBe(130);
  });

  it('agree on what is refused, and a fleet is applied at the rate that the gateway allows', async () => {
    const many = Array.from(
      { length: 25 },
      (_, at) => `apiVersion: carrierarr.io/v1\nkind: Worker\nmetadata: {name: w${at}}\nspec: {}\n`,
    );
    const twice = 'apiVersion: carrierarr.io/v1\nkind: Worker\nmetadata: {name: x}\nspec: {target: w3}\n';
    const { exitCode, stdout, stderr } = await run('apply', '-f', await file([...many, twice].join('---\n')));
    expect(exitCode).toBe(1);
    expect(stdout.match(/ created\n/g)).toHaveLength(25);
    expect(stderr).toMatch(/document 26, line 126: worker\/x: .*w3/);
    expect((await run('get', 'workers', '-l', 'a==b!=c')).stderr).toMatch(/label selector/);
  });
});
