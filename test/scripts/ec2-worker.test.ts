import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Moto, motoMissing, startMoto } from '../support/moto.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { HOSTILE_TARGETS, lastLine, option, type Ran, runScript, stubAws, tokenOf } from './aws-script.js';

interface Instance {
  InstanceId: string;
  State: { Name: string };
  ClientToken: string;
  InstanceLifecycle?: string;
  InstanceType: string;
  MetadataOptions: { HttpTokens: string; HttpPutResponseHopLimit: number };
  Tags: { Key: string; Value: string }[];
}

const IMAGE = 'ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64';
const NO_ROOM = 'refuse InsufficientInstanceCapacity RunInstances "There is no capacity."';

// Each step is a process or three, and machines are busy.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

let moto: Moto;
beforeAll(async () => {
  if (motoMissing === undefined) moto = await startMoto();
});
afterAll(() => moto?.stop());

/** A configured environment; moto, unlike EC2, wants the size of the root volume. */
function environment(target: string, extra: Record<string, string> = {}): Record<string, string> {
  return {
    ...moto.env,
    CARRIERARR_TARGET: target,
    EC2_WORKER_AMI: IMAGE,
    EC2_WORKER_INSTANCE_TYPES: 't3.small',
    EC2_WORKER_ROOT_GIB: '8',
    EC2_WORKER_POLL_S: '0',
    EC2_WORKER_WAIT_S: '30',
    ...extra,
  };
}

const worker = (verb: string, target: string, extra?: Record<string, string>): Promise<Ran> =>
  runScript('ec2-worker.sh', [verb], environment(target, extra));

const state = async (target: string): Promise<unknown> => lastLine(await worker('status', target))['state'];

/** All instances that ever carried the target, as the account has them. */
async function instances(target: string): Promise<Instance[]> {
  const { Reservations } = await moto.json<{ Reservations: { Instances: Instance[] }[] }>('ec2', 'describe-instances');
  const all = Reservations.flatMap(({ Instances }) => Instances);
  return all.filter(({ Tags }) => Tags?.some(({ Key, Value }) => Key === 'carrierarr:target' && Value === target));
}

describe.skipIf(motoMissing !== undefined)(`ec2-worker.sh${motoMissing ? ` (${motoMissing})` : ''}`, () => {
  describe('a life', () => {
    test('goes from absent over running and stopped back to absent', async () => {
      const absent = await worker('status', 'life');
      expect(absent).toMatchObject({ code: 0, stderr: '' });
      expect(lastLine(absent)).toEqual({ name: 'life', provider: 'ec2', state: 'absent' });

      expect(await worker('start', 'life')).toMatchObject({ code: 0, stderr: '' });
      const [made] = await instances('life');
      expect(lastLine(await worker('status', 'life'))).toEqual({
        ...{ name: 'life', provider: 'ec2', state: 'running', id: made?.InstanceId, instance_type: 't3.small' },
        private_ip: expect.stringMatching(/^\d+\.\d+\.\d+\.\d+$/),
        public_ip: expect.stringMatching(/^\d+\.\d+\.\d+\.\d+$/),
        launch_time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
        availability_zone: expect.stringMatching(/^us-east-1[a-f]$/),
      });
      expect((await worker('start', 'life')).stdout).toContain('already running');
      expect((await worker('logs', 'life')).stdout).toContain('Linux version');

      expect(await worker('stop', 'life')).toMatchObject({ code: 0 });
      expect(await state('life')).toBe('stopped');
      expect((await worker('stop', 'life')).stdout).toContain('already stopped');
      expect((await worker('provision', 'life')).stdout).toContain('exists already (stopped)');
      expect(await worker('start', 'life')).toMatchObject({ code: 0 });
      expect(await state('life')).toBe('running');

      expect(await worker('terminate', 'life')).toMatchObject({ code: 0 });
      expect(await state('life')).toBe('absent');
      const again = await worker('terminate', 'life');
      expect(again).toMatchObject({ code: 0, stderr: '' });
      expect(again.stdout).toContain('nothing to terminate');
      expect(await instances('life')).toMatchObject([{ State: { Name: 'terminated' } }]);
    });

    test('what there is not has nothing to stop and no log', async () => {
      expect(await worker('stop', 'nobody')).toMatchObject({ code: 0 });
      const logs = await worker('logs', 'nobody');
      expect(logs).toMatchObject({ code: 1, stdout: '' });
      expect(logs.stderr).toContain('"provision"');
    });

    test('start creates nothing when the configuration says so', async () => {
      const { code, stderr } = await worker('start', 'careful', { EC2_WORKER_START_CREATES: 'false' });
      expect(code).toBe(1);
      expect(stderr).toContain('"provision"');
      expect(await instances('careful')).toEqual([]);
    });
  });

  describe('provision', () => {
    test('makes one instance however often, tagged from its birth, with IMDSv2 and an encrypted disk', async () => {
      const userData = join(temporaryFolder('user-data-'), 'boot, "it".sh');
      writeFileSync(userData, '#!/bin/sh\necho hello\n');
      const seen = stubAws('', moto.env['PATH'] ?? '');
      const extra = {
        ...{ PATH: seen.path, EC2_WORKER_USER_DATA: userData, EC2_WORKER_TAGS: 'team=a=b\n  cost centre = 7' },
        CARRIERARR_COMMAND_TOKEN: tokenOf('one'),
      };
      expect(await worker('provision', 'one', extra)).toMatchObject({ code: 0, stderr: '' });
      expect(await worker('provision', 'one', { CARRIERARR_COMMAND_TOKEN: tokenOf('two') })).toMatchObject({ code: 0 });
      const all = await instances('one');
      expect(all).toHaveLength(1);
      const { Tags, ...made } = all[0] as Instance;
      expect(made).toMatchObject({
        ClientToken: tokenOf('one'),
        MetadataOptions: { HttpTokens: 'required', HttpPutResponseHopLimit: 1 },
      });
      expect(Object.fromEntries(Tags.map(({ Key, Value }) => [Key, Value]))).toEqual({
        ...{ 'carrierarr:target': 'one', 'carrierarr:managed': 'true', Name: 'one', team: 'a=b', 'cost centre ': ' 7' },
      });
      // At creation, not after it: there is one call, and no other that tags.
      expect(seen.calls().map((call) => call[1])).not.toContain('create-tags');
      const filter = `Name=attachment.instance-id,Values=${made.InstanceId}`;
      const { Volumes } = await moto.json<{ Volumes: object[] }>('ec2', 'describe-volumes', '--filters', filter);
      expect(Volumes).toMatchObject([
        { Encrypted: true, VolumeType: 'gp3', Tags: expect.arrayContaining([{ Key: 'Name', Value: 'one' }]) },
      ]);
      const attribute = ['--attribute', 'userData', '--instance-id', made.InstanceId];
      const { UserData } = await moto.json<{ UserData: { Value: string } }>(
        ...['ec2', 'describe-instance-attribute', ...attribute],
      );
      expect(Buffer.from(UserData.Value, 'base64').toString()).toBe('#!/bin/sh\necho hello\n');
    });

    test('a command whose answer was lost makes no second instance when it is run again', async () => {
      // The call goes through and its answer is lost; then EC2, eventually consistent, does not show the instance yet.
      const lost = `
        if [[ $2 == run-instances && ! -e $state/lost ]]; then
          real "$@" >/dev/null; touch "$state/lost" "$state/lagging"
          echo 'Could not connect to the endpoint URL' >&2; exit 255
        fi
        if [[ $2 == describe-instances && -e $state/lagging ]]; then rm "$state/lagging"; exit 0; fi`;
      const seen = stubAws(lost, moto.env['PATH'] ?? '');
      const extra = {
        ...{ PATH: seen.path, CARRIERARR_COMMAND_TOKEN: tokenOf('lost'), EC2_WORKER_MARKET: 'spot' },
        EC2_WORKER_INSTANCE_TYPES: 't3.small t3.large',
      };
      const first = await worker('provision', 'lost', extra);
      expect(first.code).toBe(1);
      expect(first.stderr).toContain('it is unknown whether AWS has made the instance');
      expect(await worker('provision', 'lost', extra)).toMatchObject({ code: 0 });
      expect(seen.callsOf('run-instances').map((call) => option(call, '--client-token'))).toEqual([
        tokenOf('lost'),
        tokenOf('lost'),
      ]);
      expect(await instances('lost')).toHaveLength(1);
    });

    test('a repeat after the configuration has changed finds the instance of the first run', async () => {
      const lag = `if [[ $2 == describe-instances && ! -e $state/once ]]; then touch "$state/once"; exit 0; fi`;
      const token = { CARRIERARR_COMMAND_TOKEN: tokenOf('changed') };
      expect(await worker('provision', 'changed', token)).toMatchObject({ code: 0 });
      const path = stubAws(lag, moto.env['PATH'] ?? '').path;
      const again = await worker('provision', 'changed', {
        ...token,
        PATH: path,
        EC2_WORKER_INSTANCE_TYPES: 'm5.large',
      });
      expect(again).toMatchObject({ code: 0 });
      expect(again.stdout).toContain('another configuration');
      expect(await instances('changed')).toMatchObject([{ InstanceType: 't3.small' }]);
    });

    test('a repeat after its instance was terminated says so and makes none', async () => {
      const token = { CARRIERARR_COMMAND_TOKEN: tokenOf('gone') };
      await worker('provision', 'gone', token);
      await worker('terminate', 'gone');
      const again = await worker('provision', 'gone', token);
      expect(again.code).toBe(1);
      expect(again.stderr).toContain('Send a new command');
      expect(await instances('gone')).toHaveLength(1);
    });

    test('without a command token the execution id serves', async () => {
      const path = stubAws('[[ $2 == run-instances ]] && refuse Unsupported RunInstances no', moto.env['PATH'] ?? '');
      const extra = { PATH: path.path, CARRIERARR_EXECUTION_ID: 'execution-1' };
      await worker('provision', 'executions', extra);
      await worker('provision', 'executions', extra);
      await worker('provision', 'executions', { ...extra, CARRIERARR_EXECUTION_ID: 'execution-2' });
      const [one, two, three] = path.callsOf('run-instances').map((call) => option(call, '--client-token'));
      expect(one).toMatch(/^[0-9a-f]{64}$/);
      expect(two).toBe(one);
      expect(three).not.toBe(one);
    });

    test('finds none of another installation', async () => {
      await worker('provision', 'shared', { EC2_WORKER_INSTALLATION: 'blue' });
      expect(lastLine(await worker('status', 'shared', { EC2_WORKER_INSTALLATION: 'blue' }))['state']).toBe('running');
      expect(lastLine(await worker('status', 'shared', { EC2_WORKER_INSTALLATION: 'green' }))['state']).toBe('absent');
    });
  });

  describe('capacity', () => {
    test('tries spot, then on-demand; types and subnets in order; each with a token of its own, always the same', async () => {
      const { Subnets } = await moto.json<{ Subnets: { SubnetId: string }[] }>('ec2', 'describe-subnets');
      const [a, b] = Subnets.map(({ SubnetId }) => SubnetId) as [string, string];
      const rule = `case "$*" in
        *run-instances*MarketType*t3.large*) refuse MaxSpotInstanceCountExceeded RunInstances 'Max spot instance count exceeded' ;;
        *run-instances*MarketType*) ${NO_ROOM} ;;
        *run-instances*${a}*) ${NO_ROOM} ;;
      esac`;
      const tries = async () => {
        const seen = stubAws(rule, moto.env['PATH'] ?? '');
        const ran = await worker('provision', 'wanted', {
          ...{ PATH: seen.path, EC2_WORKER_MARKET: 'spot', CARRIERARR_COMMAND_TOKEN: tokenOf('wanted') },
          ...{ EC2_WORKER_INSTANCE_TYPES: 't3.small t3.large', EC2_WORKER_SUBNETS: `${a} ${b}` },
        });
        return { ran, calls: seen.callsOf('run-instances') };
      };
      const first = await tries();
      expect(first.ran.code).toBe(0);
      expect(first.ran.stderr).toContain('InsufficientInstanceCapacity: There is no capacity.');
      const way = (call: string[]) => [
        call.includes('--instance-market-options') ? 'spot' : 'on-demand',
        ...[option(call, '--instance-type'), option(call, '--subnet-id')],
      ];
      expect(first.calls.map(way)).toEqual([
        ...[
          ['spot', 't3.small', a],
          ['spot', 't3.small', b],
          ['spot', 't3.large', a],
          ['spot', 't3.large', b],
        ],
        ...[
          ['on-demand', 't3.small', a],
          ['on-demand', 't3.small', b],
        ],
      ]);
      const tokens = first.calls.map((call) => option(call, '--client-token'));
      expect(tokens[0]).toBe(tokenOf('wanted'));
      expect(new Set(tokens).size).toBe(tokens.length);
      // A spot request is tagged too, where there is one.
      const kinds = first.calls.map((call) => option(call, '--tag-specifications')?.includes('spot-instances-request'));
      expect(kinds).toEqual([true, true, true, true, false, false]);
      const made = await instances('wanted');
      expect(made).toHaveLength(1);
      expect(made[0]).not.toHaveProperty('InstanceLifecycle');

      await moto.cli('ec2', 'delete-tags', '--resources', made[0]?.InstanceId ?? '', '--tags', 'Key=carrierarr:target');
      const second = await tries();
      expect(second.calls.map((call) => option(call, '--client-token'))).toEqual(tokens);
    });

    test('says that nothing was to be had, and where', async () => {
      const path = stubAws(`[[ $2 == run-instances ]] && ${NO_ROOM}`, moto.env['PATH'] ?? '').path;
      const { code, stderr } = await worker('provision', 'none', { PATH: path, EC2_WORKER_MARKET: 'spot-only' });
      expect(code).toBe(1);
      expect(stderr).toMatch(/no instance to be had in any of: spot \/ t3\.small/);
    });

    test('an error that is not about capacity ends it at once', async () => {
      const rule = '[[ $2 == run-instances ]] && refuse UnauthorizedOperation RunInstances "You are not authorized."';
      const seen = stubAws(rule, moto.env['PATH'] ?? '');
      const { code, stderr } = await worker('provision', 'refused', { PATH: seen.path, EC2_WORKER_MARKET: 'spot' });
      expect(code).toBe(1);
      expect(stderr).toContain('deploy/iam');
      expect(seen.callsOf('run-instances')).toHaveLength(1);
    });

    test('a one-time spot instance cannot be stopped, and it says what to do', async () => {
      expect(await worker('provision', 'spotty', { EC2_WORKER_MARKET: 'spot' })).toMatchObject({ code: 0 });
      expect(await instances('spotty')).toMatchObject([{ InstanceLifecycle: 'spot' }]);
      const rule = '[[ $2 == stop-instances ]] && refuse UnsupportedOperation StopInstances "one-time Spot request"';
      const { code, stderr } = await worker('stop', 'spotty', { PATH: stubAws(rule, moto.env['PATH'] ?? '').path });
      // What a reconciler does not try again.
      expect(code).toBe(64);
      expect(stderr).toContain('"terminate"');
    });
  });

  describe('several instances of one target', () => {
    test('are reported; stop takes the oldest that runs; terminate takes all', async () => {
      await worker('provision', 'twins');
      // Another hand starts a second one.
      const tags = 'ResourceType=instance,Tags=[{Key=carrierarr:target,Value=twins}]';
      const image = ['--image-id', 'ami-12c6146b', '--instance-type', 't3.small', '--tag-specifications', tags];
      await moto.cli('ec2', 'run-instances', ...image);
      const [one, two] = (await instances('twins')).map(({ InstanceId }) => InstanceId);
      const status = await worker('status', 'twins');
      expect(lastLine(status)).toMatchObject({ state: 'running', instances: 2 });
      expect(status.stderr).toContain(`${one} (running)`);
      expect(status.stderr).toContain(`${two} (running)`);

      const oldest = String(lastLine(status)['id']);
      expect((await worker('stop', 'twins')).stdout).toContain(`${oldest} is stopped`);
      expect((await instances('twins')).filter(({ State }) => State.Name === 'running')).toHaveLength(1);
      expect(await worker('terminate', 'twins')).toMatchObject({ code: 0 });
      expect((await instances('twins')).map(({ State }) => State.Name)).toEqual(['terminated', 'terminated']);
    });
  });

  describe('hostile names', () => {
    test('are text to all parts: each is its own worker and no other', async () => {
      await worker('provision', 'bystander');
      // One instance each, made by tag alone: what counts is that each name finds its own.
      for (const target of HOSTILE_TARGETS) {
        const tags = JSON.stringify([
          { ResourceType: 'instance', Tags: [{ Key: 'carrierarr:target', Value: target }] },
        ]);
        // One after the other: the machine has few cores.
        await moto.cli('ec2', 'run-instances', '--image-id', 'ami-12c6146b', '--tag-specifications', tags);
      }
      for (const target of HOSTILE_TARGETS) {
        const found = await worker('status', target);
        expect(found).toMatchObject({ code: 0, stderr: '' });
        expect(lastLine(found)).toMatchObject({ name: target, state: 'running' });
        expect(lastLine(found)).not.toHaveProperty('instances');
      }
    });

    test.each(['*', '$(id) \'x\' "y" \\ `z`', '--query'])('%j is made and terminated alone', async (target) => {
      await worker('provision', 'innocent');
      const { code, stderr } = await worker('provision', `${target}!`);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(await instances(`${target}!`)).toHaveLength(1);
      expect(await worker('terminate', `${target}!`)).toMatchObject({ code: 0, stderr: '' });
      expect(await worker('terminate', '*!')).toMatchObject({ code: 0 });
      expect(await state('innocent')).toBe('running');
    });

    test.each([['line\nbreak'], ['x'.repeat(257)]])('%j is refused', async (target) => {
      const { code, stdout, stderr } = await worker('status', target);
      expect({ code, stdout }).toEqual({ code: 64, stdout: '' });
      expect(stderr).toContain('name of the worker');
    });

    test('a name of 256 characters of several bytes is not', async () => {
      expect(await worker('status', 'ü'.repeat(256))).toMatchObject({ code: 0 });
    });
  });

  describe('an error is not an absence', () => {
    test('a failed look gives no state', async () => {
      const rule = '[[ $2 == describe-instances ]] && refuse RequestLimitExceeded DescribeInstances "Slow down."';
      const extra = { PATH: stubAws(rule, moto.env['PATH'] ?? '').path };
      for (const verb of ['status', 'provision', 'terminate']) {
        const { code, stdout, stderr } = await worker(verb, 'dark', extra);
        expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
        expect(stderr).toContain('Slow down.');
      }
      expect(await instances('dark')).toEqual([]);
    });

    test('a failed look while it waits is no reason to give up', async () => {
      const rule = `if [[ $2 == describe-instances && $* == *instance-id* && ! -e $state/failed ]]; then
        touch "$state/failed"; refuse InternalError DescribeInstances oops; fi`;
      const ran = await worker('provision', 'patient', { PATH: stubAws(rule, moto.env['PATH'] ?? '').path });
      expect(ran.code).toBe(0);
      expect(ran.stdout).toContain('trying on');
    });

    test('waiting ends, and says how to go on', async () => {
      const rule = `[[ $2 == describe-instances && $* == *instance-id* ]] && { printf 'pending\\tNone\\tNone\\tNone\\n'; exit 0; }`;
      const extra = { PATH: stubAws(rule, moto.env['PATH'] ?? '').path, EC2_WORKER_WAIT_S: '0' };
      const { code, stderr } = await worker('provision', 'slow', extra);
      expect(code).toBe(1);
      expect(stderr).toContain('EC2_WORKER_WAIT_S');
    });

    test('an instance that dies at birth is a failure with its reason', async () => {
      const rule = `[[ $2 == describe-instances && $* == *instance-id* ]] && {
        printf 'terminated\\tNone\\tNone\\tClient.VolumeLimitExceeded: Volume limit exceeded\\n'; exit 0; }`;
      const { code, stderr } = await worker('provision', 'stillborn', {
        PATH: stubAws(rule, moto.env['PATH'] ?? '').path,
      });
      expect(code).toBe(1);
      expect(stderr).toContain('Volume limit exceeded');
    });
  });

  test('SIGTERM ends it at once while it waits, and it says what goes on without it', async () => {
    const rule = `[[ $2 == describe-instances && $* == *instance-id* ]] && { printf 'pending\\tNone\\tNone\\tNone\\n'; exit 0; }`;
    const path = stubAws(rule, moto.env['PATH'] ?? '').path;
    const script = fileURLToPath(new URL('../../scripts/ec2-worker.sh', import.meta.url));
    const env = environment('patient-no-more', { PATH: path, EC2_WORKER_POLL_S: '600' });
    const child = spawn('bash', [script, 'provision'], { env, detached: true });
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    createInterface(child.stdout).on('line', (line) => {
      if (line.includes('waiting for') && child.pid) process.kill(-child.pid, 'SIGTERM');
    });
    // 'close' comes when both pipes are at their end: a sleep left behind must not hold them open.
    expect(await once(child, 'close')).toEqual([143, null]);
    expect(stderr).toContain(
      'provision of patient-no-more interrupted by SIGTERM. What AWS was asked to do goes on there',
    );
  });

  describe('configuration', () => {
    test('names the variable that is missing, what it is for, and where it looked', async () => {
      const { code, stderr } = await worker('provision', 'unset', { EC2_WORKER_AMI: '' });
      expect(code).toBe(1);
      expect(stderr).toMatch(
        /^EC2_WORKER_AMI is not set: .*config\.sh, for example EC2_WORKER_AMI='ssm:.*no config\.sh was found/,
      );
    });

    test('comes from the file that EC2_WORKER_CONFIG names', async () => {
      const file = join(temporaryFolder('config-'), 'my config.sh');
      writeFileSync(file, "EC2_WORKER_AMI='ami-12c6146b'\nEC2_WORKER_INSTANCE_TYPES='t3.nano'\n");
      const ran = await worker('provision', 'filed', { EC2_WORKER_CONFIG: file });
      expect(ran).toMatchObject({ code: 0, stderr: '' });
      expect(await instances('filed')).toMatchObject([{ InstanceType: 't3.nano' }]);
    });

    test.each([
      [{ EC2_WORKER_CONFIG: '/nonexistent/config.sh' }, '/nonexistent/config.sh'],
      [{ EC2_WORKER_MARKET: 'cheap' }, 'on-demand spot spot-only; got "cheap"'],
      [{ EC2_WORKER_ROOT_GIB: 'big' }, 'EC2_WORKER_ROOT_GIB to be a whole number, got "big"'],
      [{ EC2_WORKER_TAGS: 'carrierarr:managed=x' }, 'EC2_WORKER_TAGS'],
      [{ EC2_WORKER_USER_DATA: '/nonexistent/boot' }, 'EC2_WORKER_USER_DATA'],
      [{ EC2_WORKER_AMI: 'debian' }, 'EC2_WORKER_AMI'],
    ])('%j is refused before anything is made', async (extra: Record<string, string>, said) => {
      const { code, stderr } = await worker('provision', 'wrong', extra);
      expect(code).toBe(1);
      expect(stderr).toContain(said);
      expect(await instances('wrong')).toEqual([]);
    });
  });

  test('a missing AWS CLI is named', async () => {
    const { code, stderr } = await worker('status', 'any', { PATH: '/usr/bin:/bin' });
    expect(code).toBe(1);
    expect(stderr).toContain('The AWS CLI (aws) is not on PATH');
  });
});

test.each([[['dance']], [[]], [['--help']], [['find_instances']]])('%j answers with the usage', async (args) => {
  const { code, stdout, stderr } = await runScript('ec2-worker.sh', args, { PATH: process.env['PATH'] ?? '' });
  expect({ code, stdout }).toEqual({ code: 64, stdout: '' });
  expect(stderr).toContain('usage: ec2-worker.sh VERB');
});
