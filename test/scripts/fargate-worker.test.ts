import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Moto, motoMissing, startMoto } from '../support/moto.js';
import { lastLine, option, type Ran, runScript, stubAws, tokenOf } from './aws-script.js';

interface Task {
  taskArn: string;
  lastStatus: string;
  capacityProviderName: string;
  tags: { key: string; value: string }[];
}

// Each step is a process or three, and machines are busy.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

let moto: Moto;
let subnet: string;
beforeAll(async () => {
  if (motoMissing !== undefined) return;
  moto = await startMoto();
  await moto.cli('ecs', 'create-cluster', '--cluster-name', 'fleet');
  const log = { 'awslogs-group': '/fleet', 'awslogs-stream-prefix': 'worker', 'awslogs-region': 'us-east-1' };
  const container = {
    name: 'main',
    image: 'busybox',
    memory: 512,
    logConfiguration: { logDriver: 'awslogs', options: log },
  };
  const definition = ['--family', 'worker', '--network-mode', 'awsvpc', '--cpu', '512', '--memory', '1024'];
  const containers = ['--container-definitions', JSON.stringify([container])];
  await moto.cli('ecs', 'register-task-definition', ...definition, ...containers);
  const { Subnets } = await moto.json<{ Subnets: { SubnetId: string }[] }>('ec2', 'describe-subnets');
  subnet = Subnets[0]?.SubnetId ?? '';
});
afterAll(() => moto?.stop());

function environment(target: string, extra: Record<string, string> = {}): Record<string, string> {
  return {
    ...moto.env,
    CARRIERARR_TARGET: target,
    FARGATE_WORKER_CLUSTER: 'fleet',
    FARGATE_WORKER_TASK_DEFINITION: 'worker',
    FARGATE_WORKER_SUBNETS: subnet,
    FARGATE_WORKER_POLL_S: '0',
    FARGATE_WORKER_WAIT_S: '30',
    ...extra,
  };
}

const worker = (verb: string, target: string, extra?: Record<string, string>): Promise<Ran> =>
  runScript('fargate-worker.sh', [verb], environment(target, extra));
const state = async (target: string): Promise<unknown> => lastLine(await worker('status', target))['state'];
const stub = (rule: string) => stubAws(rule, moto.env['PATH'] ?? '');

/** All tasks that ever carried the target, as the cluster has them. */
async function tasks(target: string): Promise<Task[]> {
  const { taskArns } = await moto.json<{ taskArns: string[] }>('ecs', 'list-tasks', '--cluster', 'fleet');
  if (taskArns.length === 0) return [];
  const which = ['--cluster', 'fleet', '--include', 'TAGS', '--tasks', ...taskArns];
  const { tasks: all } = await moto.json<{ tasks: Task[] }>('ecs', 'describe-tasks', ...which);
  return all.filter(({ tags }) => tags.some(({ key, value }) => key === 'carrierarr:target' && value === target));
}

describe.skipIf(motoMissing !== undefined)(`fargate-worker.sh${motoMissing ? ` (${motoMissing})` : ''}`, () => {
  test('a life goes from absent to running and back, as often as one likes', async () => {
    expect(lastLine(await worker('status', 'life'))).toEqual({ name: 'life', provider: 'fargate', state: 'absent' });
    const started = await worker('start', 'life');
    expect(started).toMatchObject({ code: 0, stderr: '' });
    const [made] = await tasks('life');
    expect(lastLine(await worker('status', 'life'))).toMatchObject({
      ...{
        name: 'life',
        provider: 'fargate',
        state: 'running',
        id: made?.taskArn,
        instance_type: '0.5 vCPU / 1024 MB',
      },
      private_ip: expect.stringMatching(/^\d+\.\d+\.\d+\.\d+$/),
      launch_time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
    });
    expect((await worker('start', 'life')).stdout).toContain('already running');
    expect(await tasks('life')).toHaveLength(1);

    expect(await worker('stop', 'life')).toMatchObject({ code: 0, stderr: '' });
    expect(await state('life')).toBe('absent');
    expect((await worker('stop', 'life')).stdout).toContain('nothing to stop');

    expect(await worker('provision', 'life')).toMatchObject({ code: 0 });
    expect(await state('life')).toBe('running');
    expect(await worker('terminate', 'life')).toMatchObject({ code: 0 });
    expect((await worker('terminate', 'life')).stdout).toContain('nothing to terminate');
    expect((await tasks('life')).map(({ lastStatus }) => lastStatus)).toEqual(['STOPPED', 'STOPPED']);
  });

  test('a task is tagged from its birth and carries the token of its command', async () => {
    const seen = stub('');
    const extra = { PATH: seen.path, CARRIERARR_COMMAND_TOKEN: tokenOf('tagged'), FARGATE_WORKER_TAGS: 'team=a' };
    expect(await worker('provision', 'tagged/1', extra)).toMatchObject({ code: 0, stderr: '' });
    const [task] = await tasks('tagged/1');
    expect(Object.fromEntries(task?.tags.map(({ key, value }) => [key, value]) ?? [])).toEqual({
      ...{ 'carrierarr:target': 'tagged/1', 'carrierarr:managed': 'true', Name: 'tagged/1', team: 'a' },
    });
    const [call] = seen.callsOf('run-task');
    expect(option(call, '--client-token')).toBe(tokenOf('tagged'));
    expect(option(call, '--started-by')).toMatch(/^carrierarr-[0-9a-f]{25}$/);
    expect(seen.calls().map(([, operation]) => operation)).not.toContain('tag-resource');
  });

  test('a command whose answer was lost runs no second task when it is run again', async () => {
    const lost = stub(`
      if [[ $2 == run-task && ! -e $state/lost ]]; then
        real "$@" >/dev/null; touch "$state/lost" "$state/lagging"
        echo 'Could not connect to the endpoint URL' >&2; exit 255
      fi
      if [[ $2 == list-tasks && -e $state/lagging ]]; then rm "$state/lagging"; exit 0; fi`);
    const extra = { PATH: lost.path, CARRIERARR_COMMAND_TOKEN: tokenOf('lost'), FARGATE_WORKER_MARKET: 'spot' };
    const first = await worker('start', 'lost', extra);
    expect(first.code).toBe(1);
    expect(first.stderr).toContain('it is unknown whether AWS runs the task');
    expect(await worker('start', 'lost', extra)).toMatchObject({ code: 0 });
    expect(lost.callsOf('run-task')).toHaveLength(2);
    expect(await tasks('lost')).toHaveLength(1);
  });

  describe('spot', () => {
    const tokens = (calls: string[][]) => calls.map((call) => option(call, '--client-token'));

    test.each([
      [
        'refused',
        `[[ $2 == run-task && $* == *FARGATE_SPOT* ]] && { printf -- '-\\tCapacity is unavailable at this time\\n'; exit 0; }`,
      ],
      [
        'an error',
        `[[ $2 == run-task && $* == *FARGATE_SPOT* ]] && refuse ClientException RunTask 'Capacity is unavailable at this time.'`,
      ],
    ])('falls back to FARGATE with another token when room is %s', async (how, rule) => {
      const seen = stub(rule);
      const target = `spot ${how}`;
      const extra = { PATH: seen.path, FARGATE_WORKER_MARKET: 'spot', CARRIERARR_COMMAND_TOKEN: tokenOf(target) };
      const ran = await worker('start', target, extra);
      expect(ran.code).toBe(0);
      expect(ran.stderr).toContain('FARGATE_SPOT');
      const [one, two] = tokens(seen.callsOf('run-task'));
      expect(one).toBe(tokenOf(target));
      expect(two).toMatch(/^[0-9a-f]{64}$/);
      expect(two).not.toBe(one);
      expect(await tasks(target)).toMatchObject([{ capacityProviderName: 'FARGATE' }]);
    });

    test('falls back when the lack of room shows only after the task was accepted', async () => {
      const seen = stub(`[[ $2 == describe-tasks && $* == *stopCode* && ! -e $state/once ]] && { touch "$state/once"
        printf 'STOPPED\\tNone\\tTaskFailedToStart\\tCapacity is unavailable at this time. Please try again later\\n'; exit 0; }`);
      const ran = await worker('start', 'late', { PATH: seen.path, FARGATE_WORKER_MARKET: 'spot' });
      expect(ran.code).toBe(0);
      expect(seen.callsOf('run-task')).toHaveLength(2);
    });

    test('a task that fails for another reason is not tried again', async () => {
      const seen = stub(`[[ $2 == describe-tasks && $* == *stopCode* ]] && {
        printf 'STOPPED\\tNone\\tTaskFailedToStart\\tCannotPullContainerError: pull image manifest\\n'; exit 0; }`);
      const { code, stderr } = await worker('start', 'broken', { PATH: seen.path, FARGATE_WORKER_MARKET: 'spot' });
      expect(code).toBe(1);
      expect(stderr).toContain('CannotPullContainerError');
      expect(seen.callsOf('run-task')).toHaveLength(1);
    });
  });

  test('several tasks of one target are reported, and terminate ends all', async () => {
    await worker('start', 'twins');
    const startedBy = stub('[[ $2 == list-tasks ]] && exit 0');
    // The second one is made while the first is not shown.
    await worker('start', 'twins', { PATH: startedBy.path });
    const status = await worker('status', 'twins');
    expect(lastLine(status)).toMatchObject({ state: 'running', instances: 2 });
    expect(status.stderr).toContain('2 tasks carry this target');
    expect(await worker('terminate', 'twins')).toMatchObject({ code: 0 });
    expect((await tasks('twins')).map(({ lastStatus }) => lastStatus)).toEqual(['STOPPED', 'STOPPED']);
  });

  test('a task that shares startedBy but not the tag is another worker', async () => {
    const seen = stub('');
    await worker('status', 'mine', { PATH: seen.path });
    const startedBy = option(seen.callsOf('list-tasks')[0], '--started-by') ?? '';
    const network = `awsvpcConfiguration={subnets=[${subnet}],securityGroups=[]}`;
    const how = ['--task-definition', 'worker', '--launch-type', 'FARGATE', '--network-configuration', network];
    const tags = 'key=carrierarr:target,value=other';
    await moto.cli('ecs', 'run-task', '--cluster', 'fleet', ...how, '--started-by', startedBy, '--tags', tags);
    expect(await state('mine')).toBe('absent');
  });

  test('logs shows what its first container wrote', async () => {
    await worker('start', 'talker');
    expect((await worker('logs', 'talker')).stdout).toContain('its log is empty so far');
    const id = (await tasks('talker'))[0]?.taskArn.split('/').at(-1) ?? '';
    const stream = ['--log-group-name', '/fleet', '--log-stream-name', `worker/main/${id}`];
    await moto.cli('logs', 'create-log-group', '--log-group-name', '/fleet');
    await moto.cli('logs', 'create-log-stream', ...stream);
    const events = JSON.stringify([1, 2].map((n) => ({ timestamp: Date.now(), message: `line ${n} "q"` })));
    await moto.cli('logs', 'put-log-events', ...stream, '--log-events', events);
    expect((await worker('logs', 'talker')).stdout).toBe('line 1 "q"\nline 2 "q"\n');
  });

  test.each([['a b/c@d:e=f+g'], ['-rf'], ['--cluster'], ['grün']])('%j is text to all parts', async (target) => {
    expect(await worker('start', target)).toMatchObject({ code: 0, stderr: '' });
    expect(lastLine(await worker('status', target))).toMatchObject({ name: target, state: 'running' });
    expect(await worker('terminate', target)).toMatchObject({ code: 0, stderr: '' });
  });

  test.each([['$(id)'], ['*'], ["it's"], ['a"b'], ['x\ny'], ['`id`']])(
    '%j, which ECS keeps as no tag, is refused',
    async (target) => {
      const { code, stdout, stderr } = await worker('start', target);
      expect({ code, stdout }).toEqual({ code: 64, stdout: '' });
      expect(stderr).toContain('name of the worker');
    },
  );

  test('a failed look gives no state', async () => {
    const path = stub('[[ $2 == list-tasks ]] && refuse ThrottlingException ListTasks "Rate exceeded"').path;
    for (const verb of ['status', 'start', 'terminate']) {
      const { code, stdout, stderr } = await worker(verb, 'dark', { PATH: path });
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
      expect(stderr).toContain('Try again later');
    }
  });

  test.each(['FARGATE_WORKER_CLUSTER', 'FARGATE_WORKER_TASK_DEFINITION', 'FARGATE_WORKER_SUBNETS'])(
    'a missing %s is named',
    async (name) => {
      const { code, stderr } = await worker('start', 'unset', { [name]: '' });
      expect(code).toBe(1);
      expect(stderr).toContain(`${name} is not set: `);
    },
  );
});

test.each([[['dance']], [[]]])('%j answers with the usage', async (args) => {
  const { code, stdout, stderr } = await runScript('fargate-worker.sh', args, { PATH: process.env['PATH'] ?? '' });
  expect({ code, stdout }).toEqual({ code: 64, stdout: '' });
  expect(stderr).toContain('usage: fargate-worker.sh VERB');
});
