import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { type Moto, motoMissing, startMoto } from '../support/moto.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { lastLine, option, type Ran, runScript, stubAws, tokenOf } from './aws-script.js';

interface Volume {
  VolumeId: string;
  AvailabilityZone: string;
  Encrypted: boolean;
  Size: number;
  State: string;
  Attachments: { InstanceId: string }[];
  Tags?: { Key: string; Value: string }[];
}

// Each step is a process or three, and machines are busy.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

let moto: Moto;
beforeAll(async () => {
  if (motoMissing === undefined) moto = await startMoto();
});
afterAll(() => moto?.stop());

function environment(target: string, extra: Record<string, string> = {}): Record<string, string> {
  return {
    ...moto.env,
    CARRIERARR_TARGET: target,
    EC2_WORKER_AMI: 'ami-12c6146b',
    EC2_WORKER_INSTANCE_TYPES: 'g5.xlarge',
    EC2_WORKER_ROOT_GIB: '30',
    EC2_WORKER_POLL_S: '0',
    EC2_WORKER_WAIT_S: '30',
    LLM_WORKER_VOLUME_GIB: '50',
    ...extra,
  };
}

const worker = (args: string[], target: string, extra?: Record<string, string>): Promise<Ran> =>
  runScript('llm-worker.sh', args, environment(target, extra));

async function modelVolumes(target: string): Promise<Volume[]> {
  const { Volumes } = await moto.json<{ Volumes: Volume[] }>('ec2', 'describe-volumes');
  const tag = (volume: Volume, key: string) => volume.Tags?.find(({ Key }) => Key === key)?.Value;
  return Volumes.filter(
    (volume) => tag(volume, 'carrierarr:target') === target && tag(volume, 'carrierarr:volume') === 'models',
  );
}

describe.skipIf(motoMissing !== undefined)(`llm-worker.sh${motoMissing ? ` (${motoMissing})` : ''}`, () => {
  test('keeps the models on one encrypted volume from instance to instance', async () => {
    const seen = stubAws('', moto.env['PATH'] ?? '');
    const extra = { PATH: seen.path, LLM_WORKER_OLLAMA_VERSION: '0.12.3' };
    expect(await worker(['start'], 'llm one', extra)).toMatchObject({ code: 0, stderr: '' });
    const first = lastLine(await worker(['status'], 'llm one'));
    expect(first).toMatchObject({ state: 'running', instance_type: 'g5.xlarge' });
    const [volume, ...more] = await modelVolumes('llm one');
    expect(more).toEqual([]);
    expect(volume).toMatchObject({
      ...{ Encrypted: true, Size: 50, State: 'in-use', AvailabilityZone: first['availability_zone'] },
      Attachments: [{ InstanceId: first['id'] }],
      Tags: expect.arrayContaining([{ Key: 'carrierarr:managed', Value: 'true' }]),
    });
    expect(seen.calls().map(([, operation]) => operation)).not.toContain('create-tags');

    expect((await worker(['start'], 'llm one')).stdout).toContain('is attached to');
    const ended = await worker(['terminate'], 'llm one');
    expect(ended.code).toBe(0);
    expect(ended.stdout).toContain(`aws ec2 delete-volume --volume-id ${volume?.VolumeId}`);
    expect(lastLine(await worker(['status'], 'llm one'))['state']).toBe('absent');
    expect(await modelVolumes('llm one')).toMatchObject([{ VolumeId: volume?.VolumeId, State: 'available' }]);

    // The next one goes where the volume is, whatever the order of the subnets.
    const { Subnets } = await moto.json<{ Subnets: { SubnetId: string; AvailabilityZone: string }[] }>(
      ...['ec2', 'describe-subnets'],
    );
    const subnets = Subnets.toSorted((a) => (a.AvailabilityZone === volume?.AvailabilityZone ? 1 : -1));
    const list = subnets.map(({ SubnetId }) => SubnetId).join(' ');
    expect(await worker(['provision'], 'llm one', { EC2_WORKER_SUBNETS: list })).toMatchObject({ code: 0 });
    const second = lastLine(await worker(['status'], 'llm one'));
    expect(second['id']).not.toBe(first['id']);
    expect(second['availability_zone']).toBe(volume?.AvailabilityZone);
    expect(await modelVolumes('llm one')).toMatchObject([
      { VolumeId: volume?.VolumeId, Attachments: [{ InstanceId: second['id'] }] },
    ]);
  });

  test('no subnet in the zone of the models is an error that says so', async () => {
    await worker(['start'], 'stuck');
    const [volume] = await modelVolumes('stuck');
    await worker(['terminate'], 'stuck');
    const { Subnets } = await moto.json<{ Subnets: { SubnetId: string; AvailabilityZone: string }[] }>(
      ...['ec2', 'describe-subnets'],
    );
    const elsewhere = Subnets.find(({ AvailabilityZone }) => AvailabilityZone !== volume?.AvailabilityZone);
    const { code, stderr } = await worker(['start'], 'stuck', { EC2_WORKER_SUBNETS: elsewhere?.SubnetId ?? '' });
    expect(code).toBe(1);
    expect(stderr).toContain(`None of EC2_WORKER_SUBNETS is in the zone ${volume?.AvailabilityZone}`);
  });

  test('the boot script carries the configuration and is the same for the same command', async () => {
    const keep = temporaryFolder('boot-');
    const seen = stubAws(
      `[[ $2 == run-instances ]] && { for a in "$@"; do [[ $a == fileb://* ]] && cat "\${a#fileb://}" >>'${keep}/all' && printf '\\036' >>'${keep}/all'; done
        refuse InvalidParameterValue RunInstances no; }`,
      moto.env['PATH'] ?? '',
    );
    const extraBoot = join(keep, 'extra.sh');
    writeFileSync(extraBoot, 'echo mine\n');
    const extra = { PATH: seen.path, LLM_WORKER_OLLAMA_VERSION: '0.12.3', LLM_WORKER_BOOT_EXTRA: extraBoot };
    const token = { CARRIERARR_COMMAND_TOKEN: tokenOf('boot') };
    await worker(['start'], 'boot', { ...extra, ...token });
    await worker(['start'], 'boot', { ...extra, ...token });
    const [one, two] = readFileSync(join(keep, 'all'), 'utf8').split('\u001E');
    expect(one).toBe(two);
    expect(one?.split('\n').slice(0, 3)).toEqual(['#!/bin/bash', 'ollama_version=0.12.3', 'port=11434']);
    expect(one).toMatch(/echo mine\n$/);
    expect(spawnSync('bash', ['-n'], { input: one }).status).toBe(0);
    // User data has room for 16 KiB.
    expect(one?.length).toBeLessThan(16_384);
    expect(new Set(seen.callsOf('run-instances').map((call) => option(call, '--client-token')))).toEqual(
      new Set([tokenOf('boot')]),
    );
  });

  test('warm asks the private address of the running instance, and needs one', async () => {
    const { code, stderr } = await worker(['warm', 'llama3.2:1b'], 'cold');
    expect(code).toBe(1);
    expect(stderr).toContain('the instance is absent. Bring it up with "start".');
  });
});

describe('models', () => {
  let server: Server;
  let url: string;
  /** What was asked, as "path body". */
  let asked: string[];
  let isReadyAfter: number;
  let pullAnswer: string;
  const loaded = new Set<string>();

  beforeEach(async () => {
    asked = [];
    isReadyAfter = 0;
    loaded.clear();
    pullAnswer = [
      ...['{"status":"pulling manifest"}', '{"status":"pulling 74701a8c35f6","total":1000,"completed":10}'],
      ...['{"status":"pulling 74701a8c35f6","total":1000,"completed":20}'],
      ...['{"status":"pulling 74701a8c35f6","total":1000,"completed":990}', '{"status":"success"}', ''],
    ].join('\n');
    server = createServer((request, response) => {
      let body = '';
      request.setEncoding('utf8').on('data', (text: string) => (body += text));
      request.on('end', () => {
        asked.push(`${request.url} ${body}`.trim());
        if (asked.length <= isReadyAfter) return response.writeHead(503).end();
        if (request.url === '/api/pull') return response.end(pullAnswer);
        if (request.url === '/api/generate') loaded.add((JSON.parse(body) as { model: string }).model);
        if (request.url === '/api/ps') {
          const models = [...loaded].map((name) => ({ name: name.includes(':') ? name : `${name}:latest`, size: 1 }));
          return response.end(JSON.stringify({ models }));
        }
        return response.end('{"version":"0.12.3"}');
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });

  const models = (args: string[], extra: Record<string, string> = {}): Promise<Ran> => {
    const path = stubAws('', process.env['PATH'] ?? '').path;
    const env = { PATH: path, CARRIERARR_TARGET: 'llm', LLM_WORKER_URL: url, EC2_WORKER_POLL_S: '0' };
    return runScript('llm-worker.sh', args, { ...env, ...extra });
  };

  test('warm waits for the API, pulls each model, loads it, and then it is ready', async () => {
    isReadyAfter = 2;
    expect((await models(['ready', 'llama3.2:1b'])).code).toBe(1);
    const { code, stdout, stderr } = await models(['warm', 'llama3.2:1b', 'nomic-embed-text']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(asked.slice(1)).toEqual([
      ...['/api/version', '/api/version', '/api/pull {"model":"llama3.2:1b","stream":true}'],
      '/api/generate {"model":"llama3.2:1b","keep_alive":-1,"stream":false}',
      '/api/pull {"model":"nomic-embed-text","stream":true}',
      ...['/api/generate {"model":"nomic-embed-text","keep_alive":-1,"stream":false}', '/api/ps'],
    ]);
    // Of a download each tenth, not each piece.
    expect(stdout.match(/llama3\.2:1b: pulling 74701a8c35f6 \d+%/g)).toEqual([
      ...['llama3.2:1b: pulling 74701a8c35f6 0%', 'llama3.2:1b: pulling 74701a8c35f6 90%'],
    ]);
    expect((await models(['ready'], { LLM_WORKER_MODELS: 'llama3.2:1b nomic-embed-text' })).code).toBe(0);
  });

  test('ready names what is not loaded', async () => {
    loaded.add('llama3.2:1b');
    const { code, stderr } = await models(['ready', 'llama3.2:1b', 'llama3.2', 'qwen3:8b']);
    expect(code).toBe(1);
    expect(stderr).toContain('not loaded: llama3.2 qwen3:8b.');
  });

  test('a pull that fails in the middle of its answer fails the command', async () => {
    pullAnswer = '{"status":"pulling manifest"}\n{"error":"pull model manifest: file does not exist"}\n';
    const { code, stderr } = await models(['warm', 'nope:1b']);
    expect(code).toBe(1);
    expect(stderr).toContain('Ollama could not pull nope:1b: pull model manifest: file does not exist');
    expect(asked.some((call) => call.startsWith('/api/generate'))).toBe(false);
  });

  test('a pull that breaks off fails the command', async () => {
    pullAnswer = '{"status":"pulling manifest"}\n';
    const { code, stderr } = await models(['warm', 'short:1b']);
    expect(code).toBe(1);
    expect(stderr).toContain('broke off');
  });

  test('an API that never answers ends the wait', async () => {
    const { code, stderr } = await models(['warm', 'x:1b'], {
      LLM_WORKER_URL: 'http://127.0.0.1:1',
      EC2_WORKER_WAIT_S: '0',
    });
    expect(code).toBe(1);
    expect(stderr).toContain('does not answer after 0 s');
  });

  test.each([[[]], [['-x']], [['a b']], [['$(id)']], [['x","stream":false']]])(
    'warm %j is wrong use',
    async (names) => {
      const { code, stdout } = await models(['warm', ...names]);
      expect({ code, stdout }).toEqual({ code: 64, stdout: '' });
      expect(asked).toEqual([]);
    },
  );
});

test('llm-worker.sh answers an unknown verb with the usage', async () => {
  const { code, stderr } = await runScript('llm-worker.sh', ['dance'], { PATH: process.env['PATH'] ?? '' });
  expect(code).toBe(64);
  expect(stderr).toContain('usage: llm-worker.sh VERB');
});

describe('the boot script', () => {
  const boot = readFileSync(fileURLToPath(new URL('../../scripts/lib/llm-boot.sh', import.meta.url)), 'utf8');

  /** Runs one function of it, with the programs it calls replaced by functions. */
  function call(name: string, programs: string) {
    const functions = boot.slice(0, boot.indexOf('\nmkdir -p "$models"\nmount_models'));
    return spawnSync('bash', ['-c', `${functions}\n${programs}\n${name}`], { encoding: 'utf8' });
  }

  test('takes the volume with its label, formatted or not by itself', () => {
    const { stdout, status } = call(
      'find_disk',
      'blkid() { [[ $* == "--label carrierarr-llm" ]] && echo /dev/nvme1n1; }',
    );
    expect({ stdout, status }).toEqual({ stdout: '/dev/nvme1n1', status: 0 });
  });

  test.each([
    ['with a signature', 'wipefs() { echo "0x438 ext4"; }; lsblk() { echo nvme1n1; }', 1],
    ['with a partition', 'wipefs() { :; }; lsblk() { printf "nvme0n1\\nnvme0n1p1\\n"; }', 1],
    ['that is empty', 'wipefs() { :; }; lsblk() { echo nvme1n1; }', 0],
  ])('a disk %s is told from an empty one', (_, programs, status) => {
    expect(call('whole_disk /dev/any', programs).status).toBe(status);
  });
});
