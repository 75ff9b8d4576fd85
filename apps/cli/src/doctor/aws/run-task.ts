/**
 * Whether this identity may run and stop tasks as `scripts/fargate-worker.sh` does. ECS has no dry run, so IAM is asked what it would decide; where it
 * does not say, that is all that is said.
 */
import type { SimulatePrincipalPolicyCommandOutput } from '@aws-sdk/client-iam';
import { type Check, type Means } from '../check.js';
import { fail, type Finding, skip } from '../finding.js';
import { clientSettings, errorOf, isDenied } from './clients.js';
import { couldNotBeChecked, judgeSimulated, policySourceOf, type Question } from './simulate.js';
import { hasSettings, tagsOf, type WorkerSettings, workerSettings } from './worker-settings.js';

const PREFIX = 'FARGATE_WORKER';
const POLICY = 'deploy/iam/runner-fargate.json';
const ACTIONS = 'ecs:RunTask, ecs:TagResource, ecs:StopTask and iam:PassRole';
const TARGET = 'carrierarr-doctor';

/** What the script needs of a task definition. */
export interface TaskDefinition {
  readonly arn: string;
  /** Those that a task has: of its own and of its execution. */
  readonly roles: readonly string[];
}

/** All that IAM is asked, in the order of the script. */
export function questionsOf(settings: WorkerSettings, { arn, roles }: TaskDefinition): Question[] {
  const [partition, region, account] = [1, 3, 4].map((at) => arn.split(':')[at] ?? '');
  const named = settings['FARGATE_WORKER_CLUSTER'] ?? '';
  const ecs = `arn:${partition}:ecs:${region}:${account}`;
  const cluster = named.startsWith('arn:') ? named : `${ecs}:cluster/${named}`;
  const task = `${ecs}:task/${cluster.split('/').at(-1)}/${'0'.repeat(32)}`;
  const tags = tagsOf(settings, PREFIX, TARGET);
  const tagged = (kind: string) => Object.fromEntries(tags.map(([key, value]) => [`aws:${kind}Tag/${key}`, value]));
  return [
    { action: 'ecs:RunTask', resource: arn, context: { 'ecs:cluster': cluster, ...tagged('Request') } },
    { action: 'ecs:TagResource', resource: task, context: { 'ecs:CreateAction': 'RunTask', ...tagged('Request') } },
    { action: 'ecs:StopTask', resource: task, context: { 'ecs:cluster': cluster, ...tagged('Resource') } },
    ...roles.map((role) => ({
      ...{ action: 'iam:PassRole', resource: role },
      context: { 'iam:PassedToService': 'ecs-tasks.amazonaws.com' },
    })),
  ];
}

/** The definition that tasks are run from. */
async function findDefinition(
  means: Means,
  settings: WorkerSettings,
  region: string | undefined,
): Promise<TaskDefinition | Finding> {
  const { DescribeTaskDefinitionCommand, ECSClient } = await import('./sdk/ecs.js');
  const client = new ECSClient(clientSettings(means, region, settings['AWS_PROFILE']));
  const name = settings['FARGATE_WORKER_TASK_DEFINITION'] ?? '';
  try {
    const { taskDefinition = {} } = await client.send(new DescribeTaskDefinitionCommand({ taskDefinition: name }));
    const { taskDefinitionArn: arn = '', taskRoleArn, executionRoleArn } = taskDefinition;
    return { arn, roles: [...new Set([taskRoleArn, executionRoleArn])].filter((role) => role !== undefined) };
  } catch (error) {
    const known = error as Error;
    if (isDenied(known)) {
      return fail(
        `ecs:DescribeTaskDefinition is refused for ${name} (${known.name}).`,
        `Allow it to this role: ${POLICY} has all that is needed.`,
      );
    }
    return fail(
      `The task definition ${name} cannot be looked up: ${known.name}: ${known.message}`,
      'Check FARGATE_WORKER_TASK_DEFINITION, the region and the way to it.',
    );
  } finally {
    client.destroy();
  }
}

async function ask(
  means: Means,
  settings: WorkerSettings,
  region: string | undefined,
  questions: readonly Question[],
): Promise<Finding[]> {
  const [{ GetCallerIdentityCommand, STSClient }, { IAMClient, SimulatePrincipalPolicyCommand }] = await Promise.all([
    import('./sdk/sts.js'),
    import('./sdk/iam.js'),
  ]);
  const client = clientSettings(means, region, settings['AWS_PROFILE']);
  const sts = new STSClient(client);
  const iam = new IAMClient(client);
  try {
    const { Arn = '' } = await sts.send(new GetCallerIdentityCommand({}));
    const source = policySourceOf(Arn);
    if (source === undefined) {
      return [
        skip(
          `${ACTIONS} could not be checked: ${Arn} has no policies to ask IAM about.`,
          'Run it as the role of runners.',
        ),
      ];
    }
    const findings: Finding[] = [];
    for (const question of questions) {
      const { action, resource, context } = question;
      const ContextEntries = Object.entries(context).map(([ContextKeyName, value]) => ({
        ...{ ContextKeyName, ContextKeyType: 'string' as const, ContextKeyValues: [value] },
      }));
      const seen: { answer?: SimulatePrincipalPolicyCommandOutput } = {};
      const input = { PolicySourceArn: source, ActionNames: [action], ResourceArns: [resource], ContextEntries };
      const error = await errorOf(
        iam.send(new SimulatePrincipalPolicyCommand(input)).then((answer) => (seen.answer = answer)),
      );
      if (error !== undefined) return [...findings, couldNotBeChecked(ACTIONS, error)];
      findings.push(judgeSimulated(question, seen.answer?.EvaluationResults?.[0]?.EvalDecision, POLICY));
    }
    return findings;
  } finally {
    sts.destroy();
    iam.destroy();
  }
}

async function look(means: Means): Promise<Finding[]> {
  const settings = await workerSettings(means.env, PREFIX, means.config.timeout);
  for (const name of ['FARGATE_WORKER_CLUSTER', 'FARGATE_WORKER_TASK_DEFINITION']) {
    if (settings[name] !== undefined) continue;
    return [
      skip(
        `${name} is not set: fargate-worker.sh runs no tasks.`,
        'If it is to, set it in the file that FARGATE_WORKER_CONFIG names, or in the environment.',
      ),
    ];
  }
  const region = settings['AWS_REGION'] ?? settings['AWS_DEFAULT_REGION'];
  const definition = await findDefinition(means, settings, region);
  if ('level' in definition) return [definition];
  return ask(means, settings, region, questionsOf(settings, definition));
}

export const awsRunTask: Check = {
  name: 'aws-run-task',
  missing: ({ config, env }) => {
    if (!config.awsControl) return 'not asked for (--aws-control)';
    return hasSettings(env, PREFIX)
      ? undefined
      : 'nothing is said to fargate-worker.sh (FARGATE_WORKER_CONFIG, FARGATE_WORKER_CLUSTER)';
  },
  look,
};
