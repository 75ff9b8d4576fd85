import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { FakeAws, FakeAwsError } from '../support/fake-aws/server.js';
import { FAKE_ARN } from '../support/fake-aws/sts.js';
import { examine } from './support.js';

describe('doctor and AWS', () => {
  let aws: FakeAws;
  // Loading the SDK takes long on a busy machine; that is not what a check may take its time for.
  beforeAll(async () => {
    const away = await FakeAws.start();
    for (const [name, value] of Object.entries(away.env)) vi.stubEnv(name, value);
    await examine(['--ec2-tags', '{}', '--ecs-cluster', 'prod', '--timeout', '100s']);
    vi.unstubAllEnvs();
    await away.stop();
  }, 120_000);
  beforeEach(async () => {
    aws = await FakeAws.start();
    for (const [name, value] of Object.entries(aws.env)) vi.stubEnv(name, value);
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    await aws.stop();
  });
  const EC2 = ['--ec2-tags', '{"fleet":"gpu"}', '--ec2-regions', 'eu-central-1,us-east-1'];
  const denied = (code: string) => new FakeAwsError(403, code, 'You are not authorized.');

  it('say who it is, and that a monitor may look at all it is to watch', async () => {
    const found = await examine([...EC2, '--ecs-cluster', 'prod']);
    expect(found.of('aws-identity')).toEqual([`ok: This process is ${FAKE_ARN} in account 123456789012.`]);
    expect(found.of('aws-ec2')).toEqual([
      'ok: ec2:DescribeInstances is allowed in eu-central-1.',
      'ok: ec2:DescribeInstanceStatus is allowed in eu-central-1.',
      'ok: ec2:DescribeInstances is allowed in us-east-1.',
      'ok: ec2:DescribeInstanceStatus is allowed in us-east-1.',
    ]);
    expect(found.of('aws-ecs')).toEqual(['ok: The tasks of prod in eu-central-1 can be listed.']);
    expect(found.exitCode).toBe(0);
    for (const { input } of aws.calls.filter(({ service }) => service === 'ec2')) expect(input['DryRun']).toBe('true');
  });

  it('tell which permission is missing, and where the policy is', async () => {
    aws.faults.fail('DescribeInstances', denied('UnauthorizedOperation'));
    aws.faults.fail('ListTasks', denied('AccessDeniedException'));
    const found = await examine(['--ec2-tags', '{}', '--ecs-cluster', 'prod,nowhere']);
    expect(found.of('aws-ec2')[0]).toBe(
      'fail: ec2:DescribeInstances is refused in eu-central-1 (UnauthorizedOperation).',
    );
    expect(found.advice('aws-ec2')).toContain('deploy/iam/monitor.json');
    expect(found.of('aws-ecs')).toEqual([
      'fail: ecs:ListTasks is refused for prod in eu-central-1 (AccessDeniedException).',
      'fail: There is no cluster nowhere in eu-central-1.',
    ]);
    expect(found.exitCode).toBe(1);
  });

  it('try what a runner does on an instance that is watched, if asked, and do none of it', async () => {
    aws.world.putInstance({ id: 'i-other', state: 'running', tags: { fleet: 'web' } });
    aws.world.putInstance({ id: 'i-mine', state: 'running', tags: { fleet: 'gpu' } });
    aws.faults.fail('TerminateInstances', denied('UnauthorizedOperation'));
    const found = await examine(['--ec2-tags', '{"fleet":"gpu"}', '--aws-control']);
    expect(found.of('aws-ec2').slice(2)).toEqual([
      'ok: ec2:StartInstances is allowed in eu-central-1.',
      'ok: ec2:StopInstances is allowed in eu-central-1.',
      'fail: ec2:TerminateInstances is refused in eu-central-1 (UnauthorizedOperation).',
    ]);
    const changes = aws.calls.filter(({ operation }) => /^(Start|Stop|Terminate)/.test(operation));
    expect(changes.map(({ input }) => [input['InstanceId.1'], input['DryRun']])).toEqual(
      Array.from({ length: 3 }, () => ['i-mine', 'true']),
    );
    const empty = await examine(['--ec2-tags', '{"fleet":"none"}', '--aws-control']);
    expect(empty.of('aws-ec2')[2]).toMatch(/^skip: There is no watched instance/);
  });

  it('tell of credentials that are refused, and of static keys that win over a role', async () => {
    aws.faults.fail(
      'GetCallerIdentity',
      new FakeAwsError(403, 'InvalidClientTokenId', 'The security token is invalid.'),
    );
    const found = await examine(['--ec2-tags', '{}'], {
      AWS_ACCESS_KEY_ID: 'x',
      AWS_WEB_IDENTITY_TOKEN_FILE: '/token',
    });
    expect(found.of('aws-identity')).toEqual([
      'fail: AWS does not know this process: InvalidClientTokenId: The security token is invalid.',
      'warn: AWS_ACCESS_KEY_ID is set beside a role of the pod, and wins over it.',
    ]);
  });

  it('tell of a region that does not answer', async () => {
    aws.faults.hanging.add('DescribeInstances');
    const found = await examine(['--ec2-tags', '{}', '--timeout', '2s']);
    expect(found.of('aws-ec2')).toEqual([
      expect.stringMatching(/^fail: (It was not done|ec2:DescribeInstances could not)/),
    ]);
  });
});
