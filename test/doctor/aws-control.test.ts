/** What a runner's identity may do, as the control scripts will ask for it: `carrierarr doctor --aws-control`. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { FakeAws, FakeAwsError } from '../support/fake-aws/server.js';
import { type Moto, motoMissing, startMoto } from '../support/moto.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { type Examination, examine } from './support.js';

const denied = (code: string, message = 'You are not authorized.') => new FakeAwsError(403, code, message);
const EC2 = { EC2_WORKER_AMI: 'ami-0123456789abcdef0', EC2_WORKER_INSTANCE_TYPES: 'g5.xlarge g4dn.xlarge' };
const FARGATE = { FARGATE_WORKER_CLUSTER: 'prod', FARGATE_WORKER_TASK_DEFINITION: 'worker:3' };
const FLAGS = ['--aws-control'];

/** A configuration file as scripts have it, and the variable that names it. */
function configured(variable: string, text: string): NodeJS.ProcessEnv {
  const file = join(temporaryFolder('doctor-'), 'config.sh');
  writeFileSync(file, text);
  return { ...process.env, [variable]: file };
}

describe('doctor and what a runner makes', () => {
  let aws: FakeAws;
  beforeEach(async () => {
    aws = await FakeAws.start();
    for (const [name, value] of Object.entries(aws.env)) vi.stubEnv(name, value);
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    await aws.stop();
  });
  const ask = (env: NodeJS.ProcessEnv): Promise<Examination> => examine([...FLAGS, '--timeout', '100s'], env);
  const tried = () => Object.fromEntries(aws.callsOf('RunInstances').flatMap(({ input }) => Object.entries(input)));

  it('look at nothing of it unless asked, and unless there is something to be made', async () => {
    const unasked = await examine([], { ...EC2, ...FARGATE });
    expect(unasked.of('aws-run-instances')).toEqual(['skip: Not looked at: not asked for (--aws-control).']);
    expect(unasked.of('aws-run-task')).toEqual(['skip: Not looked at: not asked for (--aws-control).']);
    const without = await ask({});
    expect(without.of('aws-run-instances')[0]).toMatch(/^skip: Not looked at: nothing is said to ec2-worker.sh/);
    expect(without.of('aws-run-task')[0]).toMatch(/^skip: Not looked at: nothing is said to fargate-worker.sh/);
    expect(aws.calls).toEqual([]);
    const partly = await ask({ EC2_WORKER_AMI: 'ami-1', FARGATE_WORKER_CLUSTER: 'prod' });
    expect(partly.of('aws-run-instances')[0]).toMatch(/^skip: EC2_WORKER_INSTANCE_TYPES is not set/);
    expect(partly.of('aws-run-task')[0]).toMatch(/^skip: FARGATE_WORKER_TASK_DEFINITION is not set/);
  });

  it('try to make an instance as the script would, by its own file of settings, and make none', async () => {
    const env = configured(
      'EC2_WORKER_CONFIG',
      `AWS_REGION=us-west-2
types='g5.xlarge g4dn.xlarge'
EC2_WORKER_AMI=ssm:/aws/service/ami EC2_WORKER_INSTANCE_TYPES=$types EC2_WORKER_SUBNETS='subnet-1 subnet-2'
EC2_WORKER_SECURITY_GROUPS='sg-1 sg-2' EC2_WORKER_INSTANCE_PROFILE=worker EC2_WORKER_KEY_NAME=ops EC2_WORKER_MARKET=spot
EC2_WORKER_INSTALLATION=blue EC2_WORKER_TAGS='
  team=ml=1
'
echo 'a word of its own'
`,
    );
    const found = await ask(env);
    expect(found.of('aws-identity')[0]).toMatch(/^ok: This process is/);
    expect(found.of('aws-run-instances')).toEqual([
      'ok: ec2:RunInstances is allowed in us-west-2, and iam:PassRole of the role of worker.',
    ]);
    expect(found.exitCode).toBe(0);
    expect(tried()).toMatchObject({
      ...{ DryRun: 'true', ImageId: 'ami-0123456789abcdef0', InstanceType: 'g5.xlarge', SubnetId: 'subnet-1' },
      ...{
        'SecurityGroupId.1': 'sg-1',
        'SecurityGroupId.2': 'sg-2',
        'IamInstanceProfile.Name': 'worker',
        KeyName: 'ops',
      },
      ...{ 'BlockDeviceMapping.1.DeviceName': '/dev/xvda', 'BlockDeviceMapping.1.Ebs.Encrypted': 'true' },
      ...{ 'MetadataOptions.HttpTokens': 'required', 'InstanceMarketOptions.MarketType': 'spot' },
      'TagSpecification.3.ResourceType': 'spot-instances-request',
      ...{ 'TagSpecification.1.Tag.2.Key': 'carrierarr:managed', 'TagSpecification.1.Tag.2.Value': 'blue' },
      ...{ 'TagSpecification.1.Tag.4.Key': 'team', 'TagSpecification.1.Tag.4.Value': 'ml=1' },
    });
  });

  it.each([
    [
      'ec2:RunInstances is refused in eu-central-1 (UnauthorizedOperation).',
      denied('UnauthorizedOperation'),
      /runner-ec2\.json has all that is needed/,
    ],
    [
      'iam:PassRole is refused in eu-central-1 (UnauthorizedOperation), and ec2:RunInstances needs it.',
      denied('UnauthorizedOperation', 'User: arn:x is not authorized to perform: iam:PassRole on resource: arn:y'),
      /Allow this role to pass that of worker: .*WORKER_ROLE into deploy\/iam\/runner-ec2\.json/,
    ],
    [
      'ec2:RunInstances could not be tried in eu-central-1: InvalidSubnetID.NotFound: No subnet-9.',
      new FakeAwsError(400, 'InvalidSubnetID.NotFound', 'No subnet-9.'),
      /correct the EC2_WORKER_ variable/,
    ],
  ])('say what is missing to make an instance: %s', async (seen, error, advice) => {
    aws.faults.fail('RunInstances', error);
    const found = await ask({ ...EC2, EC2_WORKER_INSTANCE_PROFILE: 'worker' });
    expect(found.of('aws-run-instances')).toEqual([`fail: ${seen}`]);
    expect(found.advice('aws-run-instances')).toMatch(advice);
    expect(found.exitCode).toBe(1);
  });

  it('say that the image cannot be looked up, and why', async () => {
    aws.faults.fail('GetParameter', new FakeAwsError(400, 'AccessDeniedException', 'You are not authorized.'));
    const found = await ask({ ...EC2, EC2_WORKER_AMI: 'ssm:/aws/service/ami' });
    expect(found.of('aws-run-instances')).toEqual([
      'fail: ssm:GetParameter is refused in eu-central-1 (AccessDeniedException): the image ssm:/aws/service/ami cannot be looked up.',
    ]);
    aws.faults.fail('DescribeImages', new FakeAwsError(400, 'InvalidAMIID.NotFound', 'No such image.'));
    const gone = await ask(EC2);
    expect(gone.of('aws-run-instances')).toEqual([
      'fail: The image ami-0123456789abcdef0 cannot be looked up in eu-central-1: InvalidAMIID.NotFound: No such image.',
    ]);
    expect(aws.callsOf('RunInstances')).toEqual([]);
  });

  it('fail where the file of settings cannot be read', async () => {
    const found = await ask({ ...process.env, EC2_WORKER_CONFIG: '/nowhere/config.sh' });
    expect(found.of('aws-run-instances')).toEqual([
      'fail: It failed: EC2_WORKER_CONFIG names /nowhere/config.sh, which cannot be read, or fails',
    ]);
  });

  it('ask IAM whether tasks may be run and stopped and have their roles, as ECS has no dry run', async () => {
    const found = await ask(
      configured(
        'FARGATE_WORKER_CONFIG',
        Object.entries(FARGATE)
          .map((pair) => pair.join('='))
          .join('\n'),
      ),
    );
    const definition = 'arn:aws:ecs:eu-central-1:123456789012:task-definition/worker:3';
    const task = `arn:aws:ecs:eu-central-1:123456789012:task/prod/${'0'.repeat(32)}`;
    expect(found.of('aws-run-task')).toEqual([
      `ok: ecs:RunTask is allowed on ${definition}.`,
      `ok: ecs:TagResource is allowed on ${task}.`,
      `ok: ecs:StopTask is allowed on ${task}.`,
      'ok: iam:PassRole is allowed on arn:aws:iam::123456789012:role/task.',
      'ok: iam:PassRole is allowed on arn:aws:iam::123456789012:role/execution.',
    ]);
    const asked = aws.callsOf('SimulatePrincipalPolicy').map(({ input }) => input);
    expect(new Set(asked.map(({ PolicySourceArn }) => PolicySourceArn))).toEqual(
      new Set(['arn:aws:iam::123456789012:role/carrierarr-monitor']),
    );
    const said = Object.values(asked[0] ?? {});
    expect(said).toEqual(expect.arrayContaining(['ecs:cluster', 'arn:aws:ecs:eu-central-1:123456789012:cluster/prod']));
    expect(said).toEqual(expect.arrayContaining(['aws:RequestTag/carrierarr:managed', 'true']));
    expect(Object.values(asked[2] ?? {})).toContain('aws:ResourceTag/carrierarr:managed');
    expect(Object.values(asked[3] ?? {})).toContain('ecs-tasks.amazonaws.com');
    expect(aws.calls.filter(({ operation }) => /^(Run|Stop)/.test(operation))).toEqual([]);
  });

  it('say which of these no policy allows, and which one is denied', async () => {
    aws.faults.decisions.set('ecs:StopTask', 'implicitDeny').set('iam:PassRole', 'explicitDeny');
    const found = await ask(FARGATE);
    const [, , stop = '', pass = ''] = found.of('aws-run-task');
    expect(stop).toMatch(/^fail: ecs:StopTask is allowed by no policy, on arn:aws:ecs:.*:task\/prod\/0+\.$/);
    expect(pass).toBe(
      'fail: iam:PassRole is refused by a policy that denies it, on arn:aws:iam::123456789012:role/task.',
    );
    const advices = found.findings.flatMap(({ level, advice }) => (level === 'fail' ? [advice] : []));
    expect(advices[0]).toContain('deploy/iam/runner-fargate.json');
    expect(advices[1]).toContain('"Effect": "Deny"');
    expect(found.exitCode).toBe(1);
  });

  it.each([
    [
      'AccessDenied',
      /^skip: ecs:RunTask, .* could not be checked: iam:SimulatePrincipalPolicy is refused \(AccessDenied\)\.$/,
    ],
    ['NoSuchEntity', /^skip: ecs:RunTask, .* could not be checked: IAM does not find this role/],
    ['Throttling', /^skip: ecs:RunTask, .* could not be checked: Throttling: /],
  ])('say that nothing is known where IAM does not answer: %s', async (code, seen) => {
    aws.faults.fail('SimulatePrincipalPolicy', denied(code));
    const found = await ask(FARGATE);
    expect(found.of('aws-run-task')).toEqual([expect.stringMatching(seen)]);
    expect(found.advice('aws-run-task')).toMatch(/./);
    expect(found.exitCode).toBe(0);
  });

  it('tell that a task definition may not be looked up', async () => {
    aws.faults.fail('DescribeTaskDefinition', new FakeAwsError(400, 'AccessDeniedException', 'No.'));
    const found = await ask(FARGATE);
    expect(found.of('aws-run-task')).toEqual([
      'fail: ecs:DescribeTaskDefinition is refused for worker:3 (AccessDeniedException).',
    ]);
    expect(found.advice('aws-run-task')).toContain('deploy/iam/runner-fargate.json');
  });
});

describe.skipIf(motoMissing !== undefined)('doctor and an EC2 that judges requests', () => {
  let moto: Moto;
  beforeAll(async () => {
    moto = await startMoto();
  }, 120_000);
  afterAll(() => moto.stop());

  it('asks for an instance that can be made, and makes none', async () => {
    for (const [name, value] of Object.entries(moto.env)) vi.stubEnv(name, value);
    const { Images } = await moto.json<{ Images: { ImageId: string }[] }>('ec2', 'describe-images');
    const env = { EC2_WORKER_AMI: Images[0]?.ImageId, EC2_WORKER_INSTANCE_TYPES: 'm5.large', EC2_WORKER_ROOT_GIB: '8' };
    const found = await examine(['--aws-control', '--timeout', '100s'], env);
    expect(found.of('aws-run-instances')).toEqual(['ok: ec2:RunInstances is allowed in us-east-1.']);
    expect(await moto.json('ec2', 'describe-instances')).toEqual({ Reservations: [] });
    const wrong = await examine(['--aws-control', '--timeout', '100s'], {
      ...env,
      EC2_WORKER_AMI: 'ami-0000000000000dead',
    });
    expect(wrong.of('aws-run-instances')[0]).toMatch(/^fail: The image ami-0000000000000dead cannot be looked up/);
    vi.unstubAllEnvs();
  });
});
