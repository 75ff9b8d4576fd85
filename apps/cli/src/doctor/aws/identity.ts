/** As whom AWS knows this process. */
import { type Check, type Means } from '../check.js';
import { fail, type Finding, ok, warn } from '../finding.js';
import { clientSettings, NO_AWS } from './clients.js';
import { hasSettings } from './worker-settings.js';

export interface IdentityFacts {
  readonly arn?: string;
  readonly account?: string;
  readonly error?: { readonly name: string; readonly message: string };
  /** There are static keys in the environment, and a role of the pod that they shadow. */
  readonly isShadowed: boolean;
}

export function judgeIdentity({ arn, account, error, isShadowed }: IdentityFacts): Finding[] {
  const findings: Finding[] = [];
  if (error !== undefined) {
    findings.push(
      fail(
        `AWS does not know this process: ${error.name}: ${error.message}`,
        'In a pod: annotate its ServiceAccount with a role (IRSA), or associate one (Pod Identity). Elsewhere: AWS_PROFILE, or `aws sso login`.',
      ),
    );
  } else findings.push(ok(`This process is ${arn} in account ${account}.`));
  if (isShadowed) {
    findings.push(
      warn(
        'AWS_ACCESS_KEY_ID is set beside a role of the pod, and wins over it.',
        'Take the static keys out of the environment.',
      ),
    );
  }
  return findings;
}

function shadows(env: NodeJS.ProcessEnv): boolean {
  const hasRole = env['AWS_WEB_IDENTITY_TOKEN_FILE'] || env['AWS_CONTAINER_CREDENTIALS_FULL_URI'];
  return Boolean(env['AWS_ACCESS_KEY_ID'] && hasRole);
}

async function look(means: Means): Promise<IdentityFacts> {
  const { GetCallerIdentityCommand, STSClient } = await import('./sdk/sts.js');
  const { ec2Regions, ecsRegions } = means.config;
  const shadowed = { isShadowed: shadows(means.env) };
  const client = new STSClient(clientSettings(means, ec2Regions[0] ?? ecsRegions[0]));
  try {
    const { Arn = '?', Account = '?' } = await client.send(new GetCallerIdentityCommand({}));
    return { arn: Arn, account: Account, ...shadowed };
  } catch (error) {
    return { error: error as Error, ...shadowed };
  } finally {
    client.destroy();
  }
}

export const awsIdentity: Check = {
  name: 'aws-identity',
  missing: ({ config, env }) => {
    const isWatched = config.ec2Tags !== null || config.ecsCluster.length > 0;
    const isMade = config.awsControl && (hasSettings(env, 'EC2_WORKER') || hasSettings(env, 'FARGATE_WORKER'));
    return isWatched || isMade ? undefined : NO_AWS;
  },
  look: async (means) => judgeIdentity(await look(means)),
};
