import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { POOL_LABEL, type WorkerPoolResource, workerSpecSchema } from '@carrierarr/protocol';
import { createResource } from '@carrierarr/store';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { type HttpGateway, startHttpGateway } from '../gateway/http/http-gateway.js';
import { startRedis, type TestRedis } from '../support/redis.js';
import { FakeHost } from './fake-host.js';

let redis: TestRedis;
let gateway: HttpGateway;
let folder: string;

beforeEach(async () => {
  redis = await startRedis();
  gateway = await startHttpGateway(redis);
  folder = await mkdtemp(join(tmpdir(), 'carrierarr-backup-'));
});
afterEach(async () => {
  await gateway.stop();
  await redis.stop();
  await rm(folder, { recursive: true });
});

async function run(...argv: string[]) {
  const host = new FakeHost({ CARRIERARR_URL: gateway.url });
  const exitCode = await host.run(...argv);
  return { exitCode, stdout: host.stdout.text, stderr: host.stderr.text };
}

async function file(name: string, text: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, text);
  return path;
}

const FLEET = `
apiVersion: carrierarr.io/v1
kind: WorkerPool
metadata: {name: gpu, labels: {team: ml}}
spec: {replicas: 3, template: {metadata: {labels: {tier: a}}, spec: {args: {provision: [--spot]}, idleStopAfter: 30m}}}
---
apiVersion: carrierarr.io/v1
kind: Worker
metadata: {name: "web 1", labels: {team: web}}
spec: {desired: stopped, target: web}
`;

/** As the pool itself makes it. */
async function member(name: string, spec: Record<string, unknown> = {}): Promise<void> {
  const pool = (await gateway.resourceStore.get('WorkerPool', 'gpu')) as WorkerPoolResource;
  const { template } = pool.spec;
  const worker = createResource(
    {
      apiVersion: 'carrierarr.io/v1',
      kind: 'Worker',
      metadata: { name, labels: { tier: 'a', [POOL_LABEL]: 'gpu' } },
      spec: workerSpecSchema.parse({ ...template.spec, ...spec }),
    },
    {
      ...{ uid: `uid of ${name}`, nowIso: new Date().toISOString(), templateHash: 'x' },
      owner: { kind: 'WorkerPool', name: 'gpu', uid: pool.metadata.uid },
    },
  );
  await gateway.resourceStore.put(worker, '0');
}

const documentsOf = (text: string) =>
  parseAllDocuments(text).map((document) => document.toJS() as Record<string, unknown>);

describe('a backup of desired state', () => {
  it('has what owners wrote, reads back as it was, and can be applied, too', async () => {
    await run('apply', '-f', await file('fleet.yaml', FLEET));
    for (const name of ['gpu-0', 'gpu-1', 'gpu-2']) await member(name);
    const { exitCode, stdout, stderr } = await run('export');
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    const [pool, worker, ...more] = documentsOf(stdout);
    expect(more).toEqual([]);
    // These the pool makes by itself, so they are not written down; nor is anything of the server's.
    expect(Object.keys(pool ?? {})).toEqual(['apiVersion', 'kind', 'metadata', 'spec']);
    expect(pool).toMatchObject({ metadata: { name: 'gpu', labels: { team: 'ml' } }, spec: { replicas: 3 } });
    expect(worker).toMatchObject({ metadata: { name: 'web 1' }, spec: { target: 'web', desired: 'stopped' } });

    const backup = await file('backup.yaml', stdout);
    expect((await run('import', '-f', backup)).stdout).toBe('workerpool/gpu unchanged\nworker/web 1 unchanged\n');
    expect((await run('apply', '-f', backup)).stdout).toBe('workerpool/gpu unchanged\nworker/web 1 unchanged\n');
    await redis.client().flushall();
    expect((await run('import', '-f', backup, '--dry-run')).stdout).toBe(
      'workerpool/gpu created (dry run)\nworker/web 1 created (dry run)\n',
    );
    expect((await run('get', 'pools', '-o', 'name')).stdout).toBe('');
    expect((await run('import', '-f', backup)).stdout).toBe('workerpool/gpu created\nworker/web 1 created\n');
    expect((await run('export')).stdout).toContain('name: web 1');
    expect((await run('export', '-l', 'team=web')).stdout).not.toContain('gpu');
  });

  it('keeps the ordinals that a pool has, what is paused, and what has yet to be rolled out', async () => {
    await run('apply', '-f', await file('fleet.yaml', FLEET));
    await member('gpu-1');
    await member('gpu-4', { paused: true });
    await member('gpu-7', { args: { provision: ['--old'] } });
    const { stdout } = await run('export', '-l', 'team=ml');
    expect(documentsOf(stdout)[0]?.['status']).toMatchObject({
      workers: [
        { name: 'gpu-1' },
        { name: 'gpu-4', spec: { paused: true } },
        { name: 'gpu-7', spec: { args: { provision: ['--old'] } } },
      ],
    });
    const before = await members();
    const backup = await file('backup.yaml', stdout);
    await redis.client().flushall();
    expect(await run('import', '-f', backup)).toEqual({
      exitCode: 0,
      stdout: 'workerpool/gpu created\nworker/gpu-1 created\nworker/gpu-4 created\nworker/gpu-7 created\n',
      stderr: '',
    });
    expect(await members()).toEqual(before);
    const pool = await gateway.resourceStore.get('WorkerPool', 'gpu');
    expect(pool?.spec.paused).toBe(false);
    for (const { metadata } of (await gateway.resourceStore.list('Worker')).items) {
      expect(metadata.owner).toEqual({ kind: 'WorkerPool', name: 'gpu', uid: pool?.metadata.uid });
    }
    expect((await run('import', '-f', backup)).stdout).toBe('workerpool/gpu unchanged\n');
    expect((await run('export', '-l', 'team=ml')).stdout).toBe(stdout);
  });

  it('of nothing says so, and is restored as nothing; an empty file is no backup', async () => {
    const backup = await file('backup.yaml', (await run('export')).stdout);
    expect(await readFile(backup, 'utf8')).toBe('# There were no workers and pools.\n');
    expect(await run('import', '-f', backup)).toEqual({
      ...{ exitCode: 0, stdout: '' },
      stderr: 'carrierarr: There is nothing to restore: the files say that there were no workers and pools.\n',
    });
    const failed = await run('import', '-f', await file('failed.yaml', '\n'));
    expect(failed).toMatchObject({ exitCode: 1, stdout: '' });
    expect(failed.stderr).toContain('The files are empty, which those of `carrierarr export` never are');
    await run('apply', '-f', await file('fleet.yaml', FLEET));
    expect((await run('export')).stdout).not.toContain('#');
  });

  it('goes on where an import ended in the middle', async () => {
    await run('apply', '-f', await file('fleet.yaml', FLEET));
    await member('gpu-3');
    const backup = await file('backup.yaml', (await run('export', '-l', 'team=ml')).stdout);
    await redis.client().flushall();
    const half = (await readFile(backup, 'utf8'))
      .replace('paused: false', 'paused: true')
      .replace(/^status:[\s\S]*/m, '');
    await run('apply', '-f', await file('half.yaml', half));
    expect((await run('import', '-f', backup)).exitCode).toBe(1);
    expect((await run('import', '-f', backup, '--replace')).stdout).toBe(
      'workerpool/gpu configured\nworker/gpu-3 created\n',
    );
    expect((await gateway.resourceStore.get('WorkerPool', 'gpu'))?.spec.paused).toBe(false);
  });

  it('leaves alone what is there and differs, unless it is to replace it', async () => {
    await run('apply', '-f', await file('fleet.yaml', FLEET));
    const backup = await file('backup.yaml', (await run('export')).stdout);
    await run('scale', 'pool', 'gpu', '--replicas', '9');
    const kept = await run('import', '-f', backup);
    expect(kept).toMatchObject({ exitCode: 1, stdout: 'worker/web 1 unchanged\n' });
    expect(kept.stderr).toMatch(/workerpool\/gpu: It is there, and differs .*--replace/);
    expect((await run('import', '-f', backup, '--replace')).stdout).toMatch(/^workerpool\/gpu configured\n/);
    expect((await gateway.resourceStore.get('WorkerPool', 'gpu'))?.spec.replicas).toBe(3);
  });

  it('does not have what is being deleted, and says so', async () => {
    await run('apply', '-f', await file('fleet.yaml', FLEET));
    await run('delete', 'worker', 'web 1');
    const { stdout, stderr } = await run('export');
    expect(stdout).not.toContain('web 1');
    expect(stderr).toBe('carrierarr: worker/web 1 is left out: it is being deleted.\n');
  });

  it('refuses what is no list of Workers, and Workers that are none of the pool', async () => {
    await run('apply', '-f', await file('fleet.yaml', FLEET));
    await member('gpu-3');
    const text = (await run('export', '-l', 'team=ml')).stdout;
    await redis.client().flushall();
    expect((await run('import', '-f', await file('a.yaml', text.replace('name: gpu-3', 'nam: gpu-3')))).stderr).toMatch(
      /status\.workers\.0/,
    );
    expect(
      (await run('import', '-f', await file('b.yaml', text.replace('name: gpu-3', 'name: cpu-3')))).stderr,
    ).toMatch(/must be gpu-0, gpu-1 and so on/);
  });
});

describe('PUT of a Worker as one of a pool', () => {
  const put = async (name: string, pool: string, spec: Record<string, unknown> = {}) => {
    const response = await fetch(`${gateway.url}/api/v1/workers/${name}?pool=${pool}`, {
      method: 'PUT',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ apiVersion: 'carrierarr.io/v1', kind: 'Worker', metadata: { name }, spec }),
    });
    return { status: response.status, body: (await response.json()) as { code?: string; error?: string } };
  };

  it('is only for a pool that is paused, and for names that are not taken', async () => {
    expect(await put('gpu-1', 'gpu')).toMatchObject({ status: 404, body: { code: 'not_found' } });
    await run('apply', '-f', await file('fleet.yaml', FLEET));
    expect(await put('gpu-1', 'gpu')).toMatchObject({
      status: 409,
      body: { error: expect.stringContaining('not paused') },
    });
    await run('pause', 'pool', 'gpu');
    expect((await put('gpu-1', 'gpu')).status).toBe(201);
    expect(await put('gpu-1', 'gpu')).toMatchObject({
      status: 409,
      body: { error: expect.stringContaining('already') },
    });
    expect(await put('gpu-2', 'gpu', { target: 'web-9' })).toMatchObject({
      status: 422,
      body: { code: 'bad_resource' },
    });
  });
});

async function members() {
  const { items } = await gateway.resourceStore.list('Worker');
  return items
    .filter(({ metadata }) => metadata.owner !== undefined)
    .map(({ metadata: { name, labels }, spec }) => ({ name, labels, spec }));
}
