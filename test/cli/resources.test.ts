import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { executionSchema, type Manifest, seenWorkerSchema } from '@carrierarr/protocol';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { FakeHost } from './fake-host.js';
import { FakeResources } from './fake-resources.js';

let gateway: FakeResources;
let folder: string;

beforeEach(async () => {
  gateway = await new FakeResources().start();
  folder = await mkdtemp(join(tmpdir(), 'carrierarr-fleet-'));
});
afterEach(async () => {
  gateway.drop();
  await gateway.stop();
  await rm(folder, { recursive: true });
});

const newHost = () => new FakeHost({ CARRIERARR_URL: gateway.url });

/** Runs a verb in a process of its own. */
async function run(...argv: string[]) {
  const host = newHost();
  const exitCode = await host.run(...argv);
  return { exitCode, stdout: host.stdout.text, stderr: host.stderr.text };
}

function worker(name: string, spec: object = {}, labels: Record<string, string> = {}) {
  return { apiVersion: 'carrierarr.io/v1', kind: 'Worker', metadata: { name, labels }, spec };
}

function pool(name: string, replicas: number, labels: Record<string, string> = {}) {
  return {
    ...{ apiVersion: 'carrierarr.io/v1', kind: 'WorkerPool', metadata: { name, labels } },
    spec: { replicas, template: { spec: {} } },
  };
}

async function file(name: string, ...documents: unknown[]): Promise<string> {
  const path = join(folder, name);
  await mkdir(dirname(path), { recursive: true });
  const texts = documents.map((each) => (typeof each === 'string' ? each : JSON.stringify(each, null, 2)));
  await writeFile(path, texts.join('\n---\n'));
  return path;
}

function condition(type: string, status: 'True' | 'False', reason: string, message = reason) {
  const lastTransitionTime = new Date(Date.now() - 125_000).toISOString();
  return { type, status, reason, message, lastTransitionTime, observedGeneration: 1 };
}

function statusOf(name: string, more: object = {}) {
  return {
    ...{ observedGeneration: 1, phase: 'Running', conditions: [condition('Ready', 'True', 'AsDesired')] },
    ...{ target: name, workerId: 'i-1', state: 'running', attempts: 1, failures: 0, ...more },
  };
}

describe('carrierarr apply', () => {
  it('creates, configures and leaves alone, and says which', async () => {
    const path = await file('fleet.yaml', worker('a'), worker('b', { desired: 'stopped' }), pool('gpu', 2));
    expect(await run('apply', '-f', path)).toMatchObject({
      exitCode: 0,
      stdout: 'worker/a created\nworker/b created\nworkerpool/gpu created\n',
      stderr: '',
    });
    await file('fleet.yaml', worker('a', {}, { team: 'ml' }), worker('b', { desired: 'stopped' }), pool('gpu', 3));
    expect((await run('apply', '-f', path)).stdout).toBe(
      'worker/a configured\nworker/b unchanged\nworkerpool/gpu configured\n',
    );
    expect(gateway.worker('a')?.metadata.labels).toEqual({ team: 'ml' });
    expect(gateway.resource('WorkerPool', 'gpu')?.spec).toMatchObject({ replicas: 3 });
    const json = await run('apply', '-f', path, '-o', 'json');
    expect(json.stdout.split('\n')[0]).toBe('{"kind":"Worker","name":"a","change":"unchanged"}');
  });

  it('reads folders in order, and standard input', async () => {
    await file('fleet/20-b.yml', worker('b'));
    await file('fleet/10-a.json', worker('a'));
    await file('fleet/30.txt', 'not a manifest');
    await file('fleet/nested/c.yaml', worker('c'));
    const host = newHost();
    host.stdin.end(JSON.stringify(worker('d')));
    expect(await host.run('apply', '-f', join(folder, 'fleet'), '-f', '-')).toBe(0);
    expect(host.stdout.text).toBe('worker/a created\nworker/b created\nworker/d created\n');
  });

  it('does not let one document stop the others, and says so with its exit code, file, document and line', async () => {
    const path = await file('fleet.yaml', worker('a'), worker('b', { desired: 'up' }), worker('c'), worker('d'));
    gateway.onRequest = (request) => (request.startsWith('PUT /api/v1/workers/c') ? 'forbidden' : undefined);
    const { exitCode, stdout, stderr } = await run('apply', '-f', path, '-f', join(folder, 'missing.yaml'));
    expect(exitCode).toBe(1);
    expect(stdout).toBe('worker/a created\nworker/d created\n');
    expect(stderr).toContain(
      `${path}, document 2, line 19: spec.desired: Expected running, stopped, absent; got "up".`,
    );
    expect(stderr).toMatch(/document 3, line 23: worker\/c: .*The subject may not do this/);
    expect(stderr).toContain(`${join(folder, 'missing.yaml')}: There is no such file or folder.`);
  });

  it('tries again when somebody was faster, with what is there then', async () => {
    gateway.add(worker('a', { maxRetries: 1 }));
    let others = 3;
    gateway.onRequest = (request) => {
      if (request.startsWith('PUT') && others-- > 0) {
        const current = gateway.worker('a');
        if (current) gateway.write({ ...current, spec: { ...current.spec, maxRetries: others } });
      }
      return undefined;
    };
    const path = await file('a.yaml', worker('a', { maxRetries: 7 }));
    expect(await run('apply', '-f', path)).toMatchObject({ exitCode: 0, stdout: 'worker/a configured\n' });
    expect(gateway.worker('a')?.spec.maxRetries).toBe(7);
    expect(gateway.requests.filter((each) => each.startsWith('PUT'))).toHaveLength(4);
  });

  it('is not misled by an answer that was lost: the conflict is with itself', async () => {
    gateway.add(worker('a'));
    let lost = 1;
    gateway.onRequest = (request) => (request.startsWith('PUT') && lost-- > 0 ? 'lost' : undefined);
    const path = await file('a.yaml', worker('a', { paused: true }));
    expect(await run('apply', '-f', path)).toMatchObject({ exitCode: 0, stdout: 'worker/a configured\n' });
  });

  it('gives up on a conflict that does not end, and on what is being deleted', async () => {
    gateway.onRequest = (request) => (request.startsWith('PUT') ? 'conflict' : undefined);
    gateway.add(worker('b'), { deletionTimestamp: new Date().toISOString() });
    const path = await file('a.yaml', worker('a'), worker('b', { paused: true }));
    const { exitCode, stderr } = await run('apply', '-f', path);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/worker\/a: .*changed by somebody else[^]*worker\/b: It is being deleted/);
    expect(gateway.requests.filter((each) => each.startsWith('PUT')).length).toBeLessThan(20);
  });

  it('with --dry-run asks the gateway, writes nothing, and says what would be done', async () => {
    gateway.add(worker('b'));
    gateway.summary = 'It is to run.';
    const path = await file('fleet.yaml', worker('a'), worker('b', { paused: true }));
    const { exitCode, stdout } = await run('apply', '--dry-run', '-f', path);
    expect(exitCode).toBe(0);
    expect(stdout).toBe(
      'worker/a created (dry run): It is to run. (runs `start --fast` on a)\n' +
        'worker/b configured (dry run): It is to run. (runs `start --fast` on b)\n',
    );
    expect(gateway.names()).toEqual(['Worker/b']);
    expect(gateway.requests.every((each) => each === 'POST /api/v1/plan')).toBe(true);
  });

  it('with --prune deletes what has the labels and is in no file, pools first and their workers not at all', async () => {
    const ours = { team: 'ml' };
    gateway.add(worker('kept', {}, ours));
    gateway.add(worker('old', {}, ours));
    gateway.add(worker('other', {}, { team: 'web' }));
    const old = gateway.add(pool('old-pool', 1, ours));
    gateway.add(worker('old-pool-0', {}, ours), {
      owner: { kind: 'WorkerPool', name: 'old-pool', uid: old.metadata.uid },
    });
    const path = await file('fleet.yaml', worker('kept', {}, ours));
    const dry = await run('apply', '-f', path, '--prune', '-l', 'team=ml', '--dry-run');
    expect(dry.stdout).toMatch(/workerpool\/old-pool pruned \(dry run\)\nworker\/old pruned \(dry run\)\n$/);
    expect(gateway.requests.some((each) => each.startsWith('DELETE'))).toBe(false);
    expect(await run('apply', '-f', path, '--prune', '-l', 'team=ml')).toMatchObject({
      exitCode: 0,
      stdout: 'worker/kept unchanged\nworkerpool/old-pool pruned\nworker/old pruned\n',
      stderr: '',
    });
    const deleted = gateway.requests.filter((each) => each.startsWith('DELETE'));
    expect(deleted).toEqual(['DELETE /api/v1/workerpools/old-pool', 'DELETE /api/v1/workers/old']);
  });

  it('refuses to prune without labels that say what is ours, or what it could not read', async () => {
    gateway.add(worker('b', {}, { team: 'ml' }));
    const path = await file('fleet.yaml', worker('a', {}, { team: 'ml' }), 'kind: Worker');
    for (const selector of [[], ['-l', ' '], ['-l', 'team!=web'], ['-l', '!x,,']]) {
      expect(await run('apply', '-f', path, '--prune', ...selector)).toMatchObject({ exitCode: 2, stdout: '' });
    }
    expect(await run('apply', '-f', path, '-l', 'team=ml')).toMatchObject({ exitCode: 2 });
    expect(gateway.requests).toEqual([]);
    const { exitCode, stdout, stderr } = await run('apply', '-f', path, '--prune', '-l', 'team=ml');
    expect(exitCode).toBe(1);
    expect(stdout).toBe('worker/a created\n');
    expect(stderr).toContain('Nothing is pruned');
    await file('empty.yaml', '# nothing');
    expect(await run('apply', '-f', join(folder, 'empty.yaml'), '--prune', '-l', 'team=ml')).toMatchObject({
      exitCode: 1,
      stderr: 'carrierarr: There are no resources in the files.\n',
    });
    expect(gateway.names()).toEqual(['Worker/a', 'Worker/b']);
  });

  it('says of what it applied that a later --prune will not find it', async () => {
    const path = await file('fleet.yaml', worker('a'));
    expect((await run('apply', '-f', path, '--prune', '-l', 'team=ml')).stderr).toMatch(/worker\/a.*lack the labels/);
  });

  it('takes a resource once', async () => {
    const path = await file('fleet.yaml', worker('a'), worker('a', { paused: true }));
    const { exitCode, stderr } = await run('apply', '-f', path);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/document 2, line 11: worker\/a was there before, in .*fleet.yaml, document 1, line 1\./);
    expect(gateway.worker('a')?.spec.paused).toBe(false);
  });

  it('stops when no gateway is there, instead of failing with each document', async () => {
    await gateway.stop();
    const { exitCode, stderr } = await run('apply', '-f', await file('a.yaml', worker('a'), worker('b')));
    expect(exitCode).toBe(125);
    expect(stderr.match(/Cannot reach a gateway/g)).toHaveLength(1);
  });

  it('reads back what `get` printed, as YAML and as JSON', async () => {
    gateway.add(worker('a', { args: { start: ['-x', '--'] } }), {}, statusOf('a'));
    gateway.add(worker('b'));
    for (const format of ['yaml', 'json']) {
      const path = await file(`out.${format}`, (await run('get', 'workers', '-o', format)).stdout);
      expect((await run('apply', '-f', path)).stdout).toBe('worker/a unchanged\nworker/b unchanged\n');
    }
  });
});

describe('carrierarr diff', () => {
  it('exits with 0 for no differences, 1 for some and more when it cannot say', async () => {
    gateway.add(worker('a', { args: { stop: ['-f'], start: [] } }));
    const same = await file('same.yaml', worker('a', { args: { start: [], stop: ['-f'] } }));
    expect(await run('diff', '-f', same)).toEqual({ exitCode: 0, stdout: '', stderr: '' });
    const path = await file('other.yaml', worker('a', { desired: 'stopped', args: { stop: ['-f'], start: [] } }));
    const { exitCode, stdout } = await run('diff', '-f', path);
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(
      /^--- live\/worker\/a\n\+\+\+ file\/worker\/a\n@@ [^]*\n- {2}desired: running\n\+ {2}desired: stopped\n/,
    );
    const broken = await file('broken.yaml', worker('new'), 'kind: Worker');
    const failed = await run('diff', '-f', broken);
    expect(failed.exitCode).toBeGreaterThan(1);
    expect(failed.stdout).toMatch(/^\+ {2}name: new$/m);
    expect((await run('diff')).exitCode).toBeGreaterThan(1);
    await gateway.stop();
    expect((await run('diff', '-f', path)).exitCode).toBeGreaterThan(1);
  });

  it('is coloured on a terminal only, unless NO_COLOR says otherwise', async () => {
    const path = await file('a.yaml', worker('a'));
    const person = newHost().terminal();
    await person.run('diff', '-f', path);
    expect(person.stdout.text).toContain('\x1b[32m+kind: Worker\x1b[0m\n');
    const plain = new FakeHost({ CARRIERARR_URL: gateway.url, NO_COLOR: '1' }).terminal();
    await plain.run('diff', '-f', path);
    expect(plain.stdout.text).not.toContain('\x1b');
    expect((await run('diff', '-f', path)).stdout).not.toContain('\x1b');
  });
});

describe('carrierarr get workers and pools', () => {
  it('lists them as tables, wide ones, documents and names', async () => {
    gateway.add(worker('a', {}, { team: 'ml' }), {}, statusOf('a'));
    const why = [condition('Ready', 'False', 'BackingOff'), condition('Observed', 'False', 'SourceFails')];
    gateway.add(
      worker('b', { paused: true, target: 'gpu 1' }),
      {},
      statusOf('gpu 1', { phase: 'Unknown', conditions: why }),
    );
    gateway.add(pool('gpu', 3));
    expect((await run('get', 'workers')).stdout).toBe(
      'NAME   DESIRED            PHASE     STATE     READY   AGE\n' +
        'a      running            Running   running   yes     1m30s\n' +
        'b      running (paused)   Unknown   running   no      1m30s\n',
    );
    const wide = (await run('get', 'worker', '-o', 'wide')).stdout;
    expect(wide).toMatch(
      /^NAME .* TARGET +ID +REASON +LABELS\na .* a +i-1 +- +team=ml\nb .* gpu 1 +i-1 +SourceFails +-\n$/,
    );
    expect((await run('get', 'pools')).stdout).toMatch(/^NAME +DESIRED +REPLICAS [^]*\ngpu +3 +- /);
    expect((await run('get', 'workers', '-o', 'name', '-l', 'team=ml')).stdout).toBe('worker/a\n');
    expect((await run('get', 'worker/b', '-o', 'name')).stdout).toBe('worker/b\n');
    const lines = (await run('get', 'workers', '-o', 'json')).stdout.trim().split('\n');
    expect(lines.map((line) => (JSON.parse(line) as Manifest).metadata.name)).toEqual(['a', 'b']);
    const documents = parseAllDocuments((await run('get', 'workers', '-o', 'yaml')).stdout);
    expect(documents.map((each) => each.toJS() as unknown)).toEqual([gateway.worker('a'), gateway.worker('b')]);
  });

  it('finds those that were named, and says which are not there', async () => {
    gateway.add(worker('a'));
    const { exitCode, stdout, stderr } = await run('get', 'workers', 'a', 'b', '-o', 'name');
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: 'worker/a\n' });
    expect(stderr).toContain('There is no worker/b.');
    expect((await run('get', 'pools')).stderr).toContain('There are no pools.');
  });

  it('refuses what cannot be meant', async () => {
    for (const argv of [
      ['workers', '..'],
      ['workers', 'a', '-l', 'k=v'],
      ['workers', '--output-watch-events'],
      ['workers', '--target', 'a'],
      ['targets', '-w'],
      ['observed', '-l', 'a=b'],
      ['executions', 'x'],
      ['pods'],
    ]) {
      expect((await run('get', ...argv)).exitCode).toBe(2);
    }
    expect(gateway.requests).toEqual([]);
  });

  it('shows what would drive a terminal as text, in every format', async () => {
    const evil = '\x1b]0;owned\x07\u202eb';
    gateway.add(worker('a', {}, { [evil]: evil }), {}, statusOf('a', { state: evil, workerId: evil }));
    gateway.events.set('Worker/a', [
      {
        type: 'Warning',
        reason: evil,
        message: evil,
        count: 2,
        firstTime: new Date(0).toISOString(),
        lastTime: new Date().toISOString(),
      },
    ]);
    gateway.summary = evil;
    const path = await file('a.yaml', worker('a', { args: { start: [evil] } }));
    for (const argv of [
      ...['table', 'wide', 'json', 'yaml', 'name'].map((format) => ['get', 'workers', '-o', format]),
      ['describe', 'worker', 'a'],
      ['plan', 'worker', 'a'],
      ['diff', '-f', path],
      ['apply', '--dry-run', '-f', path],
    ]) {
      const person = new FakeHost({ CARRIERARR_URL: gateway.url, NO_COLOR: '1' }).terminal();
      await person.run(...argv);
      const text = person.stdout.text + person.stderr.text;
      expect(text).not.toBe('');
      // oxlint-disable-next-line no-control-regex -- they are what this is about
      expect(text).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/);
    }
    gateway.onRequest = () => 'forbidden';
    gateway.errorText = evil;
    const person = newHost().terminal();
    expect(await person.run('get', 'workers')).toBe(125);
    expect(person.stderr.text).toContain('\\x1b]0;owned\\x07\\u202eb');
  });
});

describe('carrierarr get -w', () => {
  it('shows each change once, over lost connections and restarts, until Ctrl-C', async () => {
    const a = gateway.add(worker('a'));
    const host = newHost();
    const exitCode = host.run('get', 'workers', '-w');
    await vi.waitFor(() => expect(gateway.watchers).toBe(1));
    expect(host.stdout.text).toMatch(/^NAME [^]*\na +running/);
    gateway.write({ ...a, spec: { ...a.spec, desired: 'stopped' } } as typeof a);
    await vi.waitFor(() => expect(host.stdout.text).toMatch(/\na +stopped/));
    // Of this change a table shows nothing.
    gateway.write({ ...a, spec: { ...a.spec, desired: 'stopped', maxRetries: 3 } } as typeof a);
    gateway.drop();
    gateway.add(worker('b'));
    await vi.waitFor(() => expect(host.stdout.text).toMatch(/\nb +running/));
    await gateway.stop();
    gateway.add(worker('c'));
    await gateway.start();
    await vi.waitFor(() => expect(host.stdout.text).toMatch(/\nc +running/), { timeout: 10_000 });
    gateway.remove('Worker', 'a');
    await vi.waitFor(() => expect(host.stdout.text).toMatch(/\na +gone/));
    host.signal('SIGINT');
    expect(await exitCode).toBe(130);
    expect(
      host.stdout.text
        .trim()
        .split('\n')
        .map((line) => line.split(/ +/).slice(0, 2).join(' ')),
    ).toEqual(['NAME DESIRED', ...['a running', 'a stopped', 'b running', 'c running', 'a gone']]);
    expect(host.stderr.text).toMatch(/Connecting again[^]*Connected again/);
  });

  it('lists again when the gateway no longer knows its position, and tells what changed meanwhile', async () => {
    gateway.add(worker('a'));
    gateway.add(worker('b'));
    const host = newHost();
    const exitCode = host.run('get', 'workers', '-w', '-o', 'json', '--output-watch-events');
    await vi.waitFor(() => expect(gateway.watchers).toBe(1));
    gateway.drop();
    gateway.remove('Worker', 'a');
    gateway.add(worker('c'));
    gateway.forget();
    await vi.waitFor(() => expect(host.stdout.text).toContain('"c"'));
    host.signal('SIGINT');
    expect(await exitCode).toBe(130);
    const seen = host.stdout.text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { type: string; object: Manifest })
      .map(({ type, object }) => `${type} ${object.metadata.name}`);
    expect(seen).toEqual(['ADDED a', 'ADDED b', 'DELETED a', 'ADDED c']);
  });

  it('follows only what was asked for', async () => {
    gateway.add(worker('a'));
    const host = newHost();
    const exitCode = host.run('get', 'workers', 'b', '-w', '-o', 'name');
    await vi.waitFor(() => expect(gateway.watchers).toBe(1));
    gateway.add(worker('c'));
    gateway.add(worker('b'));
    await vi.waitFor(() => expect(host.stdout.text).toBe('worker/b\n'));
    host.signal('SIGINT');
    expect(await exitCode).toBe(130);
  });

  it('ends with an error that does not pass', async () => {
    gateway.onRequest = () => 'forbidden';
    expect(await run('get', 'workers', '-w')).toMatchObject({ exitCode: 125 });
  });
});

describe('carrierarr get observed', () => {
  it('shows what monitors see, what has vanished, and which sources cannot be seen', async () => {
    const base = { provider: 'ec2', state: 'running', mapped_by: 'tag:Name', source: 'ec2/x', version: 1 };
    const observedAt = new Date(Date.now() - 5_000).toISOString();
    gateway.observed = {
      ...gateway.observed,
      workers: [
        seenWorkerSchema.parse({ ...base, id: 'i-1', target: 'a', observed_at: observedAt, public_ip: '192.0.2.1' }),
        seenWorkerSchema.parse({
          ...base,
          id: 'i-2',
          target: 'b',
          observed_at: observedAt,
          stale: true,
          gone_at: observedAt,
        }),
      ],
      sources: [{ source: 'ec2/x', ok: false, interval_ms: 1, calls: 1, workers: 2, error: 'no\x1bpermission' }],
    };
    const { exitCode, stdout, stderr } = await run('get', 'observed');
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(
      /\na +i-1 +ec2 +running +- +192\.0\.2\.1 +\ds ago\nb +i-2 +ec2 +gone \ds ago .*\(stale\)\n$/,
    );
    expect(stderr).toContain('ec2/x cannot be seen now: no\\x1bpermission');
    expect((await run('get', 'observed', 'b', '-o', 'name')).stdout).toBe('i-2\n');
  });
});

describe('carrierarr get orphans', () => {
  it('shows machines that belong to no Worker, since when, and what becomes of them', async () => {
    expect(await run('get', 'orphans')).toMatchObject({
      exitCode: 0,
      stdout: '',
      stderr: expect.stringMatching(/Every/),
    });
    const minuteAgo = new Date(Date.now() - 61_000).toISOString();
    const base = {
      mapped_by: 'id',
      source: 'ec2/x',
      since: minuteAgo,
      observed_at: minuteAgo,
      reason: 'It is tagged.',
    };
    gateway.orphans = [
      {
        ...{ ...base, id: 'i-1', target: 'a', state: 'running', instance_type: 'g5.xlarge', termination: 'waiting' },
        ...{ message: 'After a second poll.', terminate_after: new Date(Date.now() + 25_900).toISOString() },
      },
      { ...base, id: 'i-2', target: 'b', state: 'stopped', termination: 'off', message: 'It\x1bstays.', stale: true },
    ];
    const { exitCode, stdout } = await run('get', 'orphans');
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(
      /\na +i-1 +ec2\/x +running +g5\.xlarge +1m1s ago +waiting, 25s at least\nb +i-2 +ec2\/x +stopped \(stale\) +- +1m1s ago +off\n$/,
    );
    expect((await run('get', 'orphans', '-o', 'wide')).stdout).toContain('It\\x1bstays.');
    expect((await run('get', 'orphan', 'b', '-o', 'name')).stdout).toBe('i-2\n');
    expect((await run('get', 'orphans', 'c')).stderr).toContain('None of these');
  });
});

describe('carrierarr describe', () => {
  it('says what a worker is, why, what happened and what comes next', async () => {
    const lastCommand = {
      ...{ verb: 'start', token: 't', generation: 1, attempt: 2, reason: 'it was stopped' },
      ...{ requestedAt: new Date(Date.now() - 30_000).toISOString(), outcome: 'failed', exitCode: 3 },
    };
    const conditions = [
      condition('Ready', 'False', 'BackingOff', 'the last start failed'),
      condition('Observed', 'True', 'Fresh'),
    ];
    gateway.add(
      worker('a', {}, { team: 'ml' }),
      { generation: 2 },
      statusOf('a', { conditions, lastCommand, failures: 1 }),
    );
    const firstTime = new Date(Date.now() - 600_000).toISOString();
    const lastTime = new Date(Date.now() - 60_000).toISOString();
    gateway.events.set('Worker/a', [
      { type: 'Warning', reason: 'StartFailed', message: 'exit code 3', count: 5, firstTime, lastTime },
    ]);
    gateway.executions = [
      executionSchema.parse({
        ...{ id: 'x-01', target: 'a', command: 'start', args: [], state: 'ended', subject: 'reconciler' },
        ...{
          address: '',
          gateway: 'g',
          idempotent: false,
          accepted_at: firstTime,
          attempt: 1,
          outcome: 'failed',
          exit_code: 3,
        },
      }),
    ];
    gateway.summary = 'It is started again in 20s.';
    const { exitCode, stdout } = await run('describe', 'worker', 'a');
    expect(exitCode).toBe(0);
    for (const line of [
      /^Name: +a$/m,
      /^Labels: +team=ml$/m,
      /^ {2}desired: running$/m,
      /Status: +of generation 1: the newest spec has not been looked at yet/,
      /Last command: +start, 30s ago, failed \(exit code 3\): it was stopped/,
      /^ {2}Ready +False +2m5s ago +BackingOff +the last start failed$/m,
      /^ {2}x-01 +a +start +failed +3 /m,
      /^ {2}Warning +StartFailed +1m ago +5 in 10m +exit code 3$/m,
      /^Why:\n {2}BackingOff: the last start failed$/m,
      /^Next:\n {2}It is started again in 20s\. \(runs `start --fast` on a\)$/m,
    ]) {
      expect(stdout).toMatch(line);
    }
    expect(gateway.requests).toContain('GET /api/v1/executions?target=a&limit=5');
  });

  it('finds no fault with what is stopped as desired', async () => {
    const conditions = [condition('Ready', 'False', 'Stopped'), condition('Synced', 'True', 'AsWanted')];
    gateway.add(worker('a', { desired: 'stopped' }), {}, statusOf('a', { conditions }));
    expect((await run('describe', 'worker', 'a')).stdout).toContain('Why:\n  It is as desired.\n');
    expect((await run('get', 'workers', '-o', 'wide')).stdout).not.toContain('Stopped');
  });

  it('shows a pool with its workers, those that are not ready first', async () => {
    const { metadata } = gateway.add(pool('gpu', 2));
    const owner = { kind: 'WorkerPool', name: 'gpu', uid: metadata.uid } as const;
    const labels = { 'carrierarr.io/pool': 'gpu' };
    gateway.add(worker('gpu-0', {}, labels), { owner }, statusOf('gpu-0'));
    gateway.add(worker('gpu-1', {}, labels), { owner });
    gateway.add(worker('x-0', {}, { 'carrierarr.io/pool': 'x' }), { owner: { ...owner, uid: 'another' } });
    const { stdout } = await run('describe', 'pool', 'gpu');
    expect(stdout).toMatch(/Workers:\n {2}NAME .*\n {2}gpu-1 .*\n {2}gpu-0 .*yes.*\n\n/);
    expect(stdout).toMatch(/Status:\n {2}None yet: no monitor has looked at it\.\n/);
  });

  it('shows what it can when the rest cannot be had', async () => {
    gateway.add(worker('a'));
    gateway.onRequest = (request) => (/events|plan/.test(request) ? 'forbidden' : undefined);
    const { exitCode, stdout, stderr } = await run('describe', 'worker/a', 'worker/b');
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(/^Name: +a$/m);
    expect(stderr).toMatch(
      /The events of worker\/a cannot be shown[^]*The plan of worker\/a[^]*There is no worker\/b\./,
    );
  });
});

describe('carrierarr scale, pause, resume and plan', () => {
  it('change one field of what was named', async () => {
    gateway.add(pool('gpu', 1));
    gateway.add(worker('a'));
    expect(await run('scale', 'pool', 'gpu', '--replicas', '5')).toMatchObject({
      exitCode: 0,
      stdout: 'workerpool/gpu scaled to 5\n',
    });
    expect(gateway.resource('WorkerPool', 'gpu')?.spec).toMatchObject({ replicas: 5 });
    expect((await run('pause', 'worker', 'a')).stdout).toBe('worker/a paused\n');
    expect((await run('pause', 'worker/a', 'pool/gpu')).stdout).toBe('worker/a unchanged\nworkerpool/gpu paused\n');
    expect((await run('resume', 'workers', 'a')).stdout).toBe('worker/a resumed\n');
    expect(gateway.worker('a')?.spec.paused).toBe(false);
    expect(gateway.resource('WorkerPool', 'gpu')?.spec).toMatchObject({ paused: true, replicas: 5 });
  });

  it('refuse what cannot be meant, and say what is not there', async () => {
    for (const argv of [
      ['scale', 'pool', 'gpu'],
      ['scale', 'pool', 'gpu', '--replicas', '-1'],
      ['scale', 'worker', 'a', '--replicas', '1'],
      ['pause', 'a'],
      ['pause', 'worker'],
      ['plan'],
      ['plan', 'worker', 'a', '-f', 'x'],
    ]) {
      expect([argv, (await run(...argv)).exitCode]).toEqual([argv, 2]);
    }
    gateway.add(worker('b'));
    const { exitCode, stdout, stderr } = await run('pause', 'worker', 'a', 'b');
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: 'worker/b paused\n' });
    expect(stderr).toContain('worker/a: There is no such resource.');
    expect(await run('scale', 'pool', 'x', '--replicas', '1')).toMatchObject({ exitCode: 1, stdout: '' });
  });

  it('plan says what would be done, now and with files', async () => {
    gateway.add(worker('a'));
    gateway.summary = 'It is to run.';
    const text = 'It is to run. (runs `start --fast` on a)\n';
    expect(await run('plan', 'worker', 'a')).toMatchObject({ exitCode: 0, stdout: `worker/a ${text}` });
    expect(await run('plan', '-f', await file('a.yaml', worker('a', { paused: true })))).toMatchObject({
      exitCode: 0,
      stdout: `worker/a ${text}`,
    });
    expect(gateway.worker('a')?.spec.paused).toBe(false);
    expect((await run('plan', 'worker', 'b')).exitCode).toBe(1);
    const json = JSON.parse((await run('plan', 'worker', 'a', '-o', 'json')).stdout) as unknown;
    expect(json).toMatchObject({ kind: 'Worker', name: 'a', command: { verb: 'start' } });
  });
});

describe('carrierarr delete', () => {
  it('asks for the end, or waits for it, or leaves the machine', async () => {
    for (const name of ['a', 'b', 'c']) gateway.add(worker(name));
    expect((await run('delete', 'worker', 'a')).stdout).toBe('worker/a is being deleted\n');
    expect(gateway.worker('a')?.metadata.deletionTimestamp).toBeDefined();
    expect((await run('delete', 'worker', 'b', '--orphan')).stdout).toBe('worker/b deleted\n');
    expect(gateway.names()).toEqual(['Worker/a', 'Worker/c']);
    const host = newHost();
    const exitCode = host.run('delete', 'workers', 'a', 'c', '--wait');
    await vi.waitFor(() => expect(gateway.watchers).toBe(1));
    gateway.drop();
    gateway.remove('Worker', 'c');
    await vi.waitFor(() => expect(host.stdout.text).toBe('worker/c deleted\n'));
    gateway.remove('Worker', 'a');
    expect(await exitCode).toBe(0);
    expect(host.stdout.text).toBe('worker/c deleted\nworker/a deleted\n');
  });

  it('is not kept waiting by one made anew under the same name', async () => {
    gateway.add(worker('a'));
    const host = newHost();
    const exitCode = host.run('delete', 'worker', 'a', '--wait');
    await vi.waitFor(() => expect(gateway.watchers).toBe(1));
    gateway.drop();
    gateway.remove('Worker', 'a');
    gateway.add(worker('a'));
    gateway.forget();
    expect(await exitCode).toBe(0);
  });

  it('stops waiting at its timeout and at Ctrl-C, and says who knows why', async () => {
    gateway.add(worker('a'));
    expect(await run('delete', 'worker', 'a', '--wait', '--timeout', '1ms')).toMatchObject({
      exitCode: 1,
      stderr: 'carrierarr: 1 not gone yet; `carrierarr describe worker/a` says why. The deletion goes on.\n',
    });
    const host = newHost();
    const exitCode = host.run('delete', 'worker', 'a', '--wait');
    await vi.waitFor(() => expect(gateway.watchers).toBe(1));
    host.signal('SIGINT');
    expect(await exitCode).toBe(130);
    expect((await run('delete', 'worker', 'a', '--timeout', '1s')).exitCode).toBe(2);
  });

  it('deletes what files name, pools first, and says what is not there', async () => {
    gateway.add(worker('a'));
    gateway.add(pool('gpu', 1));
    const path = await file('fleet.yaml', worker('a'), worker('b'), pool('gpu', 1));
    const { exitCode, stdout, stderr } = await run('delete', '-f', path, '--orphan');
    expect({ exitCode, stdout }).toEqual({
      exitCode: 1,
      stdout: 'workerpool/gpu is being deleted\nworker/a deleted\n',
    });
    expect(stderr).toContain('worker/b: There is no such resource.');
    expect((await run('delete', '-f', path, '--ignore-not-found')).exitCode).toBe(0);
  });
});

describe('the help texts', () => {
  it.each(['apply', 'diff', 'describe', 'plan', 'scale', 'pause', 'resume', 'delete', 'get'])(
    'of %s names its flags and arguments',
    async (verb) => {
      const { exitCode, stdout } = await run(verb, '--help');
      expect(exitCode).toBe(0);
      expect(stdout).toMatch(new RegExp(`Usage: carrierarr ${verb} \\[flags\\]`));
    },
  );
});
