/** Whether this identity may do on EC2 what a monitor does, and if asked what a runner does. All by dry run. */
import { type Check, type Means } from '../check.js';
import { fail, type Finding, ok, skip } from '../finding.js';
import { type AwsError, clientSettings, errorOf, isDenied } from './clients.js';

/** `error`: of the dry run, which always ends with one. */
export function judgeDryRun(action: string, region: string, error: AwsError | undefined, policy: string): Finding {
  // A real call was made, by something that does not know dry runs.
  if (error === undefined || error.name === 'DryRunOperation') return ok(`ec2:${action} is allowed in ${region}.`);
  if (isDenied(error)) {
    return fail(
      `ec2:${action} is refused in ${region} (${error.name}).`,
      `Allow it to this role: ${policy} has all that is needed.`,
    );
  }
  return fail(
    `ec2:${action} could not be tried in ${region}: ${error.name}: ${error.message}`,
    'Check the region and the way to it: a NetworkPolicy, a NAT gateway, or a VPC endpoint of EC2.',
  );
}

const MONITOR_POLICY = 'deploy/iam/monitor.json';
const RUNNER_POLICY = 'deploy/iam/runner-ec2.json';

async function look(means: Means): Promise<Finding[]> {
  const { config } = means;
  const { EC2Client } = await import('./sdk/ec2.js');
  const findings: Finding[] = [];
  const regions: readonly (string | undefined)[] = config.ec2Regions.length > 0 ? config.ec2Regions : [undefined];
  for (const named of regions) {
    const client = new EC2Client(clientSettings(means, named));
    try {
      findings.push(...(await lookAtRegion(means, client, await client.config.region())));
    } finally {
      client.destroy();
    }
  }
  return findings;
}

async function lookAtRegion(
  { config }: Means,
  client: InstanceType<(typeof import('./sdk/ec2.js'))['EC2Client']>,
  region: string,
): Promise<Finding[]> {
  const ec2 = await import('./sdk/ec2.js');
  const described = await errorOf(client.send(new ec2.DescribeInstancesCommand({ DryRun: true })));
  const findings = [judgeDryRun('DescribeInstances', region, described, MONITOR_POLICY)];
  if (config.ec2StatusInterval > 0) {
    const status = await errorOf(client.send(new ec2.DescribeInstanceStatusCommand({ DryRun: true })));
    findings.push(judgeDryRun('DescribeInstanceStatus', region, status, MONITOR_POLICY));
  }
  if (!config.awsControl || findings.some(({ level }) => level === 'fail')) return findings;
  const filters = Object.entries(config.ec2Tags ?? {}).map(([key, value]) => ({ Name: `tag:${key}`, Values: [value] }));
  const { Reservations = [] } = await client.send(
    new ec2.DescribeInstancesCommand({ MaxResults: 5, ...(filters.length > 0 && { Filters: filters }) }),
  );
  const id = Reservations.flatMap(({ Instances = [] }) => Instances)[0]?.InstanceId;
  if (id === undefined) {
    findings.push(
      skip(`There is no watched instance in ${region} to try commands on.`, 'Run it again once there is one.'),
    );
    return findings;
  }
  const input = { DryRun: true, InstanceIds: [id] };
  const tries = [
    ['StartInstances', new ec2.StartInstancesCommand(input)],
    ['StopInstances', new ec2.StopInstancesCommand(input)],
    ['TerminateInstances', new ec2.TerminateInstancesCommand(input)],
  ] as const;
  for (const [action, command] of tries) {
    const error = await errorOf(client.send(command));
    findings.push(judgeDryRun(action, region, error, RUNNER_POLICY));
  }
  return findings;
}

export const awsEc2: Check = {
  name: 'aws-ec2',
  missing: ({ config }) => (config.ec2Tags === null ? 'no EC2 is watched (--ec2-tags)' : undefined),
  look,
};
