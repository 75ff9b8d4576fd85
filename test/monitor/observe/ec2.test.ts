import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Ec2Source, type Ec2SourceOptions } from '../../../apps/monitor/src/observe/ec2.js';
import { SourceError } from '../../../apps/monitor/src/observe/source.js';
import { FakeAwsError } from '../../support/fake-aws/server.js';
import { type AwsSetup, metric, REGION, startAws, unaborted } from './support.js';

let setup: AwsSetup;
beforeEach(async () => {
  setup = await startAws();
});
afterEach(() => setup.stop());

function source(options: Partial<Ec2SourceOptions> = {}): Ec2Source {
  return new Ec2Source({
    ...setup.context,
    client: setup.clients.ec2(REGION),
    region: REGION,
    tags: { fleet: 'llm' },
    statusEveryMs: 0,
    interruptionOf: () => undefined,
    ...options,
  });
}

const ours = { fleet: 'llm' };
async function failure(polled: Promise<unknown>): Promise<Error> {
  return polled.then(
    () => new Error('it did not fail'),
    (error: Error) => error,
  );
}

describe('a poll of EC2', () => {
  it('tells everything that old clients read, under the names they read it by', async () => {
    setup.aws.world.putInstance({
      id: 'i-1',
      state: 'running',
      tags: { ...ours, Name: 'gpu <one> & only' },
      type: 'g5.xlarge',
      publicIp: '203.0.113.7',
      privateIp: '10.0.0.7',
      launchTime: '2025-03-01T10:00:00.000Z',
    });
    const { records, calls } = await source().poll(unaborted());
    expect(records).toEqual([
      {
        id: 'i-1',
        name: 'gpu <one> & only',
        provider: 'ec2',
        state: 'running',
        public_ip: '203.0.113.7',
        private_ip: '10.0.0.7',
        instance_type: 'g5.xlarge',
        launch_time: '2025-03-01T10:00:00.000Z',
        tags: { fleet: 'llm', Name: 'gpu <one> & only' },
        target: 'gpu <one> & only',
        mapped_by: 'tag:Name',
        source: 'ec2/eu-central-1',
        lifecycle: 'on-demand',
      },
    ]);
    expect(calls).toBe(1);
  });

  it('leaves out what is empty', async () => {
    setup.aws.world.putInstance({ id: 'i-1', state: 'pending', tags: ours, transitionReason: '' });
    const { records } = await source().poll(unaborted());
    expect(Object.keys(records[0] ?? {}).toSorted()).toEqual(
      [
        'id',
        'instance_type',
        'launch_time',
        'lifecycle',
        'mapped_by',
        'provider',
        'source',
        'state',
        'tags',
        'target',
      ].toSorted(),
    );
  });

  it('asks for the tags that were given, all of them, and sees instances in every state', async () => {
    const { world } = setup.aws;
    for (const state of ['pending', 'running', 'stopping', 'stopped', 'shutting-down', 'terminated']) {
      world.putInstance({ id: `i-${state}`, state, tags: { ...ours, tier: 'a-1' } });
    }
    world.putInstance({ id: 'i-other', state: 'running', tags: { fleet: 'web', tier: 'a-1' } });
    world.putInstance({ id: 'i-half', state: 'running', tags: ours });
    const { records } = await source({ tags: { fleet: 'llm', tier: 'a*' } }).poll(unaborted());
    expect(records.map(({ state }) => state).toSorted()).toEqual(
      ['pending', 'running', 'shutting-down', 'stopped', 'stopping', 'terminated'].toSorted(),
    );
  });

  it.each([
    [0, 1],
    [999, 1],
    [1000, 1],
    [1001, 2],
    [2500, 3],
  ])('takes the fewest calls there can be: %i instances, %i calls', async (count, expected) => {
    for (let at = 0; at < count; at++) setup.aws.world.putInstance({ id: `i-${at}`, state: 'running', tags: ours });
    const { records, calls } = await source().poll(unaborted());
    expect(new Set(records.map(({ id }) => id)).size).toBe(count);
    expect(calls).toBe(expected);
    expect(setup.aws.callsOf('DescribeInstances')).toHaveLength(expected);
    expect(await metric(setup.context.registry, 'carrierarr_monitor_api_calls_total', { region: REGION })).toBe(
      expected,
    );
  });

  it('says why an instance stopped, and that it is a spot instance', async () => {
    setup.aws.world.putInstance({
      id: 'i-1',
      state: 'terminated',
      tags: ours,
      isSpot: true,
      stateReason: { code: 'Server.SpotInstanceTermination', message: 'Server.SpotInstanceTermination: no capacity' },
      transitionReason: 'Server initiated',
    });
    setup.aws.world.putInstance({ id: 'i-2', state: 'stopped', tags: ours, transitionReason: 'User initiated (noon)' });
    const { records } = await source().poll(unaborted());
    expect(records[0]).toMatchObject({ lifecycle: 'spot', reason: 'Server.SpotInstanceTermination: no capacity' });
    expect(records[1]).toMatchObject({ lifecycle: 'on-demand', reason: 'User initiated (noon)' });
  });

  it('shows what was announced for an instance, until it ends', async () => {
    setup.aws.world.putInstance({ id: 'i-1', state: 'running', tags: ours });
    setup.aws.world.putInstance({ id: 'i-2', state: 'running', tags: ours });
    const interruption = { kind: 'spot', detail: 'soon' } as const;
    const watched = source({ interruptionOf: (id) => (id === 'i-1' ? interruption : undefined) });
    const seen = await watched.poll(unaborted());
    expect(seen.records.map((record) => record.interruption)).toEqual([interruption, undefined]);
    setup.aws.world.changeInstance('i-1', { state: 'terminated' });
    const { records } = await watched.poll(unaborted());
    expect(records[0]?.interruption).toBeUndefined();
  });

  it('names itself to AWS, where the owner of the account can find it', async () => {
    await source().poll(unaborted());
    expect(setup.aws.calls[0]?.userAgent).toContain('carrierarr/1.2.3');
    expect(setup.aws.calls[0]).toMatchObject({ service: 'ec2', region: REGION });
  });
});

describe('status checks and scheduled events', () => {
  const retirement = { code: 'instance-retirement', description: 'bad host', notBefore: '2025-03-02T00:00:00.000Z' };

  it('are shown, the next event first and those that are over not', async () => {
    const { world } = setup.aws;
    world.putInstance({
      id: 'i-1',
      state: 'running',
      tags: ours,
      systemStatus: 'impaired',
      instanceStatus: 'ok',
      events: [
        { code: 'system-reboot', description: '[Completed] done', notBefore: '2025-03-01T00:00:00.000Z' },
        { code: 'system-reboot', description: 'later', notBefore: '2025-03-09T00:00:00.000Z' },
        retirement,
      ],
    });
    world.putInstance({ id: 'i-2', state: 'running', tags: ours });
    world.putInstance({ id: 'i-3', state: 'stopped', tags: ours, events: [retirement] });
    const { records, calls } = await source({ statusEveryMs: 60_000 }).poll(unaborted());
    expect(records[0]).toMatchObject({
      health_check: 'impaired',
      interruption: {
        kind: 'scheduled-event',
        at: '2025-03-02T00:00:00.000Z',
        detail: 'instance-retirement: bad host',
      },
    });
    expect(records[1]).toMatchObject({ health_check: 'ok' });
    expect(records[1]).not.toHaveProperty('interruption');
    expect(records[2]).toMatchObject({ interruption: { kind: 'scheduled-event' } });
    expect(records[2]).not.toHaveProperty('health_check');
    expect(calls).toBe(2);
  });

  it('are asked for less often than instances, and remembered in between', async () => {
    setup.aws.world.putInstance({ id: 'i-1', state: 'running', tags: ours, instanceStatus: 'impaired' });
    const watched = source({ statusEveryMs: 60_000 });
    await watched.poll(unaborted());
    const { records, calls } = await watched.poll(unaborted());
    expect(calls).toBe(1);
    expect(records[0]?.health_check).toBe('impaired');
    expect(setup.aws.callsOf('DescribeInstanceStatus')).toHaveLength(1);
  });

  it('cost nothing of the poll when they may not be asked for', async () => {
    setup.aws.world.putInstance({ id: 'i-1', state: 'running', tags: ours });
    setup.aws.faults.fail('DescribeInstanceStatus', new FakeAwsError(403, 'UnauthorizedOperation', 'You may not.'));
    const { records, warning } = await source({ statusEveryMs: 60_000 }).poll(unaborted());
    expect(records).toHaveLength(1);
    expect(warning).toContain("Allow the monitor's role the action ec2:DescribeInstanceStatus.");
  });

  it('are not asked for when they are not wanted', async () => {
    setup.aws.world.putInstance({ id: 'i-1', state: 'running', tags: ours });
    await source({ statusEveryMs: 0 }).poll(unaborted());
    expect(setup.aws.callsOf('DescribeInstanceStatus')).toEqual([]);
  });
});

describe('a poll of EC2 that goes wrong', () => {
  it('fails as a whole when a later page fails', async () => {
    for (let at = 0; at < 1500; at++) setup.aws.world.putInstance({ id: `i-${at}`, state: 'running', tags: ours });
    const unfiltered = setup.aws.faults;
    unfiltered.throttle('DescribeInstances', { burst: 1, perSecond: 0, code: 'RequestLimitExceeded' });
    const error = await failure(source().poll(unaborted()));
    expect(error).toBeInstanceOf(SourceError);
    expect(error.message).toContain('ec2:DescribeInstances in eu-central-1 failed: RequestLimitExceeded');
    expect(error.message).toContain('the next poll waits longer');
  });

  it('repeats what was throttled, and counts every try against the budget', async () => {
    setup.aws.faults.fail('DescribeInstances', new FakeAwsError(503, 'RequestLimitExceeded', 'Slow down.'), 2);
    const { calls } = await source().poll(unaborted());
    expect(calls).toBe(3);
    expect(await metric(setup.context.registry, 'carrierarr_monitor_api_calls_total', { service: 'ec2' })).toBe(3);
  });

  it.each([
    ['UnauthorizedOperation', 403, 'Allow the monitor’s role the action ec2:DescribeInstances'.replace('’', "'")],
    ['AuthFailure', 401, 'check them, and the clock of this machine'],
    ['InternalError', 500, 'what is known of the workers stays as it is'],
  ])('says what to do about %s', async (code, status, advice) => {
    setup.aws.faults.fail('DescribeInstances', new FakeAwsError(status, code, 'No.'), 9);
    const error = await failure(source().poll(unaborted()));
    expect(error).toBeInstanceOf(SourceError);
    expect(error.message).toContain(code);
    expect(error.message).toContain(advice);
    expect((error as SourceError).calls).toBeGreaterThan(0);
  });

  it('says so when nobody is there', async () => {
    await setup.aws.stop();
    const error = await failure(source().poll(unaborted()));
    expect(error.message).toContain('Check that this machine reaches AWS');
  });

  it('ends at once when it is aborted, with the reason for that', async () => {
    setup.aws.faults.hanging.add('DescribeInstances');
    const controller = new AbortController();
    const polled = failure(source().poll(controller.signal));
    await expect.poll(() => setup.aws.calls.length).toBe(1);
    controller.abort(new Error('enough'));
    expect((await polled).message).toBe('enough');
  });

  it.each(['hanging', 'stalling'] as const)('takes a call that is %s for an error', async (fault) => {
    await setup.stop();
    setup = await startAws({ requestMsMax: 100 });
    setup.aws.faults[fault].add('DescribeInstances');
    const error = await failure(source().poll(unaborted()));
    expect(error).toBeInstanceOf(SourceError);
    expect(error.message).toContain('Check that this machine reaches AWS');
    expect(setup.aws.calls).toHaveLength(3);
  });
});
