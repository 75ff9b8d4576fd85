/**
 * Whether this identity may make instances as `scripts/ec2-worker.sh` makes them: by a dry run of the same request, with the same image, tags and role.
 * AWS judges the role of the instance (`iam:PassRole`) and its tags (`ec2:CreateTags`) with it.
 */
import type {
  DescribeImagesCommandOutput,
  EC2Client,
  ResourceType,
  RunInstancesCommandInput,
} from '@aws-sdk/client-ec2';
import { type Check, type Means } from '../check.js';
import { fail, type Finding, ok, skip } from '../finding.js';
import { type AwsError, clientSettings, errorOf, isDenied } from './clients.js';
import { hasSettings, tagsOf, type WorkerSettings, workerSettings, wordsOf } from './worker-settings.js';

const PREFIX = 'EC2_WORKER';
const POLICY = 'deploy/iam/runner-ec2.json';
/** No worker has this name; nothing is made. */
const TARGET = 'carrierarr-doctor';

/** The request of the script's first try: first market, first type, first subnet. */
export function runInstancesInput(
  settings: WorkerSettings,
  { image, rootDevice }: { image: string; rootDevice: string },
): RunInstancesCommandInput {
  const of = (name: string) => settings[`${PREFIX}_${name}`];
  const isSpot = of('MARKET')?.startsWith('spot') ?? false;
  const Tags = tagsOf(settings, PREFIX, TARGET).map(([Key, Value]) => ({ Key, Value }));
  const kinds: ResourceType[] = ['instance', 'volume', ...(isSpot ? ['spot-instances-request' as const] : [])];
  const [subnet] = wordsOf(of('SUBNETS'));
  const [type] = wordsOf(of('INSTANCE_TYPES'));
  const sizeGib = Number(of('ROOT_GIB') ?? 0);
  const groups = wordsOf(of('SECURITY_GROUPS'));
  const [key, zone, kmsKey, profile] = [of('KEY_NAME'), of('ZONE'), of('KMS_KEY'), of('INSTANCE_PROFILE')];
  return {
    ...{ DryRun: true, MinCount: 1, MaxCount: 1, ImageId: image },
    InstanceType: type as NonNullable<RunInstancesCommandInput['InstanceType']>,
    MetadataOptions: { HttpEndpoint: 'enabled', HttpTokens: 'required', HttpPutResponseHopLimit: 1 },
    BlockDeviceMappings: [
      {
        DeviceName: rootDevice,
        Ebs: {
          ...{ VolumeType: 'gp3', Encrypted: true, DeleteOnTermination: true },
          ...(sizeGib > 0 && { VolumeSize: sizeGib }),
          ...(kmsKey && { KmsKeyId: kmsKey }),
        },
      },
    ],
    TagSpecifications: kinds.map((kind) => ({ ResourceType: kind, Tags })),
    ...(isSpot && { InstanceMarketOptions: { MarketType: 'spot', SpotOptions: { SpotInstanceType: 'one-time' } } }),
    ...(subnet !== undefined && { SubnetId: subnet }),
    ...(subnet === undefined && zone && { Placement: { AvailabilityZone: zone } }),
    ...(groups.length > 0 && { SecurityGroupIds: groups }),
    ...(profile && { IamInstanceProfile: profile.startsWith('arn:') ? { Arn: profile } : { Name: profile } }),
    ...(key && { KeyName: key }),
  };
}

/** `error`: of the dry run, which always ends with one. */
export function judgeRunInstances(
  region: string,
  error: AwsError | undefined,
  input: RunInstancesCommandInput,
): Finding {
  const { Arn, Name } = input.IamInstanceProfile ?? {};
  const profile = Arn ?? Name;
  if (error === undefined || error.name === 'DryRunOperation') {
    const role = profile === undefined ? '' : `, and iam:PassRole of the role of ${profile}`;
    return ok(`ec2:RunInstances is allowed in ${region}${role}.`);
  }
  if (isDenied(error)) {
    // AWS names the action that it misses, which may be one that the request needs beside its own.
    const action = /not authorized to perform: ([\w-]+:\w+)/.exec(error.message)?.[1] ?? 'ec2:RunInstances';
    const advice =
      action === 'iam:PassRole'
        ? `Allow this role to pass that of ${profile ?? 'the instance profile'}: put its ARN for WORKER_ROLE into ${POLICY}.`
        : `Allow it to this role: ${POLICY} has all that is needed, with the tags that the script gives and encrypted volumes.`;
    const need = action === 'ec2:RunInstances' ? '' : ', and ec2:RunInstances needs it';
    return fail(`${action} is refused in ${region} (${error.name})${need}.`, advice);
  }
  return fail(
    `ec2:RunInstances could not be tried in ${region}: ${error.name}: ${error.message}`,
    'If AWS names an image, type, subnet, group, key or profile, correct the EC2_WORKER_ variable that it is from. Else check the region and the way to it.',
  );
}

/** What says a call that has to come before: that of the image. */
function cannotFind(image: string, action: string, region: string, error: AwsError): Finding {
  if (!isDenied(error)) {
    return fail(
      `The image ${image} cannot be looked up in ${region}: ${error.name}: ${error.message}`,
      'Check EC2_WORKER_AMI, the region and the way to it.',
    );
  }
  return fail(
    `${action} is refused in ${region} (${error.name}): the image ${image} cannot be looked up.`,
    `Allow it to this role: ${POLICY} has all that is needed.`,
  );
}

type Found = { image: string; rootDevice: string } | Finding;

/** The image that is named, or that the parameter of Systems Manager names, with its root device. */
async function findImage(means: Means, settings: WorkerSettings, client: EC2Client, region: string): Promise<Found> {
  let image = (settings['EC2_WORKER_AMI'] ?? '').replace(/^resolve:/, '');
  if (image.startsWith('ssm:')) {
    const { GetParameterCommand, SSMClient } = await import('./sdk/ssm.js');
    const ssm = new SSMClient(clientSettings(means, region, settings['AWS_PROFILE']));
    try {
      const name = image.slice('ssm:'.length);
      const said = { value: '' };
      const error = await errorOf(
        ssm
          .send(new GetParameterCommand({ Name: name }))
          .then(({ Parameter }) => (said.value = Parameter?.Value ?? '')),
      );
      if (error !== undefined) return cannotFind(image, 'ssm:GetParameter', region, error);
      image = said.value;
    } finally {
      ssm.destroy();
    }
  }
  const named = settings['EC2_WORKER_ROOT_DEVICE'];
  if (named !== undefined) return { image, rootDevice: named };
  const { DescribeImagesCommand } = await import('./sdk/ec2.js');
  const seen: { images: DescribeImagesCommandOutput['Images'] } = { images: [] };
  const error = await errorOf(
    client.send(new DescribeImagesCommand({ ImageIds: [image] })).then(({ Images }) => (seen.images = Images)),
  );
  if (error !== undefined) return cannotFind(image, 'ec2:DescribeImages', region, error);
  const rootDevice = seen.images?.[0]?.RootDeviceName;
  if (rootDevice !== undefined) return { image, rootDevice };
  return fail(`There is no image ${image} with a root device in ${region}.`, 'Check EC2_WORKER_AMI and the region.');
}

async function look(means: Means): Promise<Finding[]> {
  const settings = await workerSettings(means.env, PREFIX, means.config.timeout);
  for (const name of ['EC2_WORKER_AMI', 'EC2_WORKER_INSTANCE_TYPES']) {
    if (settings[name] !== undefined) continue;
    return [
      skip(
        `${name} is not set: ec2-worker.sh makes no instances.`,
        'If it is to, set it in the file that EC2_WORKER_CONFIG names, or in the environment.',
      ),
    ];
  }
  const { EC2Client, RunInstancesCommand } = await import('./sdk/ec2.js');
  const named = settings['AWS_REGION'] ?? settings['AWS_DEFAULT_REGION'];
  const client = new EC2Client(clientSettings(means, named, settings['AWS_PROFILE']));
  try {
    const region = await client.config.region();
    const found = await findImage(means, settings, client, region);
    if ('level' in found) return [found];
    const input = runInstancesInput(settings, found);
    return [judgeRunInstances(region, await errorOf(client.send(new RunInstancesCommand(input))), input)];
  } finally {
    client.destroy();
  }
}

export const awsRunInstances: Check = {
  name: 'aws-run-instances',
  missing: ({ config, env }) => {
    if (!config.awsControl) return 'not asked for (--aws-control)';
    return hasSettings(env, PREFIX)
      ? undefined
      : 'nothing is said to ec2-worker.sh (EC2_WORKER_CONFIG, EC2_WORKER_AMI)';
  },
  look,
};
