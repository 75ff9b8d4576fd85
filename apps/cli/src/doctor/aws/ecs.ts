/** Whether this identity may list the tasks of the clusters. ECS has no dry run; a list changes nothing. */
import { type Check, type Means } from '../check.js';
import { fail, type Finding, ok } from '../finding.js';
import { type AwsError, clientSettings, errorOf, isDenied } from './clients.js';

export function judgeList(cluster: string, region: string, error: AwsError | undefined): Finding {
  if (error === undefined) return ok(`The tasks of ${cluster} in ${region} can be listed.`);
  if (error.name === 'ClusterNotFoundException') {
    return fail(
      `There is no cluster ${cluster} in ${region}.`,
      'Check --ecs-cluster and --ecs-regions, and the account (aws-identity).',
    );
  }
  if (isDenied(error)) {
    return fail(
      `ecs:ListTasks is refused for ${cluster} in ${region} (${error.name}).`,
      'Allow it to this role: deploy/iam/monitor.json has all that is needed.',
    );
  }
  return fail(
    `The tasks of ${cluster} in ${region} cannot be listed: ${error.name}: ${error.message}`,
    'Check the region and the way to it: a NetworkPolicy, a NAT gateway, or a VPC endpoint of ECS.',
  );
}

/** `arn:aws:ecs:REGION:ACCOUNT:cluster/NAME` says where it is. */
function regionsOf(cluster: string, named: readonly string[]): readonly (string | undefined)[] {
  if (cluster.startsWith('arn:')) return [cluster.split(':')[3]];
  return named.length > 0 ? named : [undefined];
}

async function look(means: Means): Promise<Finding[]> {
  const { ECSClient, ListTasksCommand } = await import('./sdk/ecs.js');
  const findings: Finding[] = [];
  for (const cluster of means.config.ecsCluster) {
    for (const named of regionsOf(cluster, means.config.ecsRegions)) {
      const client = new ECSClient(clientSettings(means, named));
      try {
        const error = await errorOf(client.send(new ListTasksCommand({ cluster, maxResults: 1 })));
        findings.push(judgeList(cluster, await client.config.region(), error));
      } finally {
        client.destroy();
      }
    }
  }
  return findings;
}

export const awsEcs: Check = {
  name: 'aws-ecs',
  missing: ({ config }) => (config.ecsCluster.length === 0 ? 'no ECS is watched (--ecs-cluster)' : undefined),
  look,
};
