import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EcsSource } from '../../../apps/monitor/src/observe/ecs.js';
import { SourceError } from '../../../apps/monitor/src/observe/source.js';
import { type FakeTask, FakeAwsError } from '../../support/fake-aws/server.js';
import { type AwsSetup, REGION, startAws, unaborted } from './support.js';

let setup: AwsSetup;
beforeEach(async () => {
  setup = await startAws();
});
afterEach(() => setup.stop());

function source(cluster = 'prod'): EcsSource {
  return new EcsSource({ ...setup.context, client: setup.clients.ecs(REGION), region: REGION, cluster });
}

const arn = (id: string) => `arn:aws:ecs:eu-central-1:123456789012:task/prod/${id}`;
function put(id: string, facts: Partial<FakeTask> = {}): string {
  setup.aws.world.putTask({ arn: arn(id), cluster: 'prod', lastStatus: 'RUNNING', desiredStatus: 'RUNNING', ...facts });
  return arn(id);
}
const failure = (polled: Promise<unknown>) =>
  polled.then(
    () => new Error('it did not fail'),
    (error: Error) => error,
  );

describe('a poll of ECS', () => {
  it('tells everything that old clients read, under the names they read it by', async () => {
    put('a', {
      family: 'llm-worker',
      cpu: '4096',
      memory: '16384',
      privateIp: '10.0.0.9',
      startedAt: '2025-03-01T10:00:00.500Z',
      health: 'HEALTHY',
      tags: { 'carrierarr:target': 'llm-1', team: 'a' },
    });
    const { records } = await source().poll(unaborted());
    expect(records).toEqual([
      {
        id: arn('a'),
        name: 'llm-worker',
        provider: 'fargate',
        state: 'RUNNING',
        private_ip: '10.0.0.9',
        instance_type: '4 vCPU / 16384 MB',
        launch_time: '2025-03-01T10:00:00.500Z',
        health_check: 'HEALTHY',
        tags: { 'carrierarr:target': 'llm-1', team: 'a' },
        target: 'llm-1',
        mapped_by: 'tag:carrierarr:target',
        source: 'ecs/eu-central-1/prod',
        lifecycle: 'on-demand',
      },
    ]);
  });

  it.each([
    [{ cpu: '256', memory: '512' }, '0.25 vCPU / 512 MB'],
    [{ cpu: '1024', memory: '2048' }, '1 vCPU / 2048 MB'],
    [{ launchType: 'EC2' }, 'EC2'],
  ])('shows CPU units as vCPUs, or else the launch type: %o', async (facts, expected) => {
    put('a', facts);
    const { records } = await source().poll(unaborted());
    expect(records[0]?.instance_type).toBe(expected);
  });

  it('sees running and stopped tasks, with why they stopped', async () => {
    put('a');
    put('b', {
      lastStatus: 'STOPPED',
      desiredStatus: 'STOPPED',
      stopCode: 'EssentialContainerExited',
      stoppedReason: 'Essential container in task exited',
      containers: [{ name: 'llm', exitCode: 137, reason: 'OutOfMemoryError' }, { name: 'side' }],
    });
    const { records } = await source().poll(unaborted());
    expect(records.map(({ state, reason }) => [state, reason])).toEqual([
      ['RUNNING', undefined],
      [
        'STOPPED',
        'EssentialContainerExited: Essential container in task exited (llm: exit code 137, OutOfMemoryError)',
      ],
    ]);
  });

  it('shows that Fargate Spot takes a task back while it still runs', async () => {
    put('a', {
      desiredStatus: 'STOPPED',
      stopCode: 'SpotInterruption',
      stoppedReason: 'Your Spot Task was interrupted.',
      capacityProvider: 'FARGATE_SPOT',
    });
    const { records } = await source().poll(unaborted());
    expect(records[0]).toMatchObject({
      lifecycle: 'spot',
      interruption: { kind: 'spot', detail: 'Your Spot Task was interrupted.' },
    });
  });

  it.each([
    [0, 2],
    [100, 3],
    [101, 5],
    [250, 7],
  ])('describes a hundred at a time: %i tasks, %i calls', async (count, expected) => {
    for (let at = 0; at < count; at++) put(`t${at}`);
    const { records, calls } = await source().poll(unaborted());
    expect(records).toHaveLength(count);
    expect(calls).toBe(expected);
    expect(setup.aws.calls).toHaveLength(expected);
  });

  it('takes a cluster by its ARN, and task ARNs in their old form', async () => {
    const old = 'arn:aws:ecs:eu-central-1:123456789012:task/0123';
    setup.aws.world.putTask({ arn: old, cluster: 'prod', lastStatus: 'RUNNING', desiredStatus: 'RUNNING' });
    const byArn = source('arn:aws:ecs:eu-central-1:123456789012:cluster/prod');
    expect(byArn.name).toBe('ecs/eu-central-1/prod');
    const { records } = await byArn.poll(unaborted());
    expect(records.map(({ id, target }) => [id, target])).toEqual([[old, old]]);
  });

  it('takes a task that ended between the two calls for gone', async () => {
    put('a');
    const gone = put('b');
    setup.aws.faults.taskFailures.set(gone, 'MISSING');
    const { records } = await source().poll(unaborted());
    expect(records.map(({ id }) => id)).toEqual([arn('a')]);
  });
});

describe('a poll of ECS that goes wrong', () => {
  it('fails as a whole when one task could not be described for another reason', async () => {
    put('a');
    setup.aws.faults.taskFailures.set(put('b'), 'ACCESSDENIED');
    const error = await failure(source().poll(unaborted()));
    expect(error).toBeInstanceOf(SourceError);
    expect(error.message).toContain(`failed for 1 of 2 tasks (${arn('b')}: ACCESSDENIED)`);
    expect((error as SourceError).calls).toBe(3);
  });

  it('fails as a whole when nothing is said of a task', async () => {
    put('a');
    setup.aws.faults.silentTasks.add(put('b'));
    const error = await failure(source().poll(unaborted()));
    expect(error.message).toContain(`nothing was said of ${arn('b')}`);
  });

  it('takes a cluster that is not there for an error, not for an empty one', async () => {
    const error = await failure(source('prdo').poll(unaborted()));
    expect(error.message).toContain('ClusterNotFoundException');
    expect(error.message).toContain('Check --ecs-cluster and the region.');
  });

  it('fails when it may list tasks and not look at them', async () => {
    put('a');
    const denied = new FakeAwsError(400, 'AccessDeniedException', 'no');
    setup.aws.faults.fail('DescribeTasks', denied, 5);
    const error = await failure(source().poll(unaborted()));
    expect(error.message).toContain("Allow the monitor's role the action ecs:DescribeTasks.");
  });

  it('survives throttling by repeating, as often as the SDK does', async () => {
    put('a');
    setup.aws.faults.fail('ListTasks', new FakeAwsError(400, 'ThrottlingException', 'Rate exceeded'), 2);
    const { records, calls } = await source().poll(unaborted());
    expect(records).toHaveLength(1);
    expect(calls).toBe(5);
  });
});
