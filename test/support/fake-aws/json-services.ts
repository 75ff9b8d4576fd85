/** ECS, CloudWatch, SQS and SSM: AWS' JSON protocols, one function an operation. */
import { createHash } from 'node:crypto';
import { type Faults, FakeAwsError } from './faults.js';
import type { FakeTask, FakeWorld } from './world.js';

export interface JsonCall {
  region: string;
  input: Record<string, unknown>;
}
type Operation = (call: JsonCall, world: FakeWorld, faults: Faults) => unknown;

/** By the part of `x-amz-target` after the dot; their names do not clash. */
export const jsonOperations: Readonly<Record<string, Operation>> = {
  ListTasks: listTasks,
  DescribeTasks: describeTasks,
  DescribeTaskDefinition: describeTaskDefinition,
  GetMetricData: getMetricData,
  ReceiveMessage: receiveMessage,
  DeleteMessageBatch: deleteMessageBatch,
  GetParameter: getParameter,
};

/** Name of a cluster that is known by any task in it, whichever way it is given. */
function clusterOf(input: Record<string, unknown>, clusters: ReadonlySet<string>): string {
  const cluster = ((input['cluster'] as string | undefined) ?? 'default').split('/').at(-1) as string;
  if (!clusters.has(cluster)) throw new FakeAwsError(400, 'ClusterNotFoundException', 'Cluster not found.');
  return cluster;
}

/** Clusters exist when somebody said so: an empty one is one, too. */
export const fakeClusters = new Set(['prod', 'dev']);

function listTasks({ region, input }: JsonCall, world: FakeWorld, faults: Faults): unknown {
  // Like ECS: RUNNING unless said otherwise, and no tasks are ever meant to be PENDING.
  const desired = input['desiredStatus'] ?? 'RUNNING';
  const size = Number(input['maxResults'] ?? 100);
  if (size < 1 || size > 100) throw new FakeAwsError(400, 'InvalidParameterException', 'maxResults out of range');
  const cluster = clusterOf(input, fakeClusters);
  const arns = faults
    .truthful(world.tasks(region, cluster), ({ arn }) => arn)
    .filter(({ desiredStatus }) => desiredStatus === desired)
    .map(({ arn }) => arn);
  const from = Number(input['nextToken'] ?? 0);
  return {
    taskArns: arns.slice(from, from + size),
    ...(from + size < arns.length ? { nextToken: String(from + size) } : {}),
  };
}

function describeTasks({ region, input }: JsonCall, world: FakeWorld, faults: Faults): unknown {
  const asked = input['tasks'] as string[];
  if (asked.length > 100) throw new FakeAwsError(400, 'InvalidParameterException', 'Tasks can not be more than 100.');
  const hasTags = (input['include'] as string[] | undefined)?.includes('TAGS') ?? false;
  const known = new Map(world.tasks(region, clusterOf(input, fakeClusters)).map((task) => [task.arn, task]));
  const failures = asked.flatMap((arn) => {
    const reason = faults.taskFailures.get(arn) ?? (known.has(arn) ? undefined : 'MISSING');
    return reason === undefined ? [] : [{ arn, reason }];
  });
  const failed = new Set(failures.map(({ arn }) => arn));
  const tasks = asked.flatMap((arn) => {
    const task = known.get(arn);
    return task && !failed.has(arn) && !faults.silentTasks.has(arn) ? [taskJson(task, hasTags)] : [];
  });
  return { tasks, failures };
}

function taskJson(task: FakeTask, hasTags: boolean): unknown {
  return {
    taskArn: task.arn,
    lastStatus: task.lastStatus,
    desiredStatus: task.desiredStatus,
    taskDefinitionArn: `arn:aws:ecs:eu-central-1:123456789012:task-definition/${task.family ?? 'worker'}:7`,
    launchType: task.launchType ?? 'FARGATE',
    capacityProviderName: task.capacityProvider,
    cpu: task.cpu,
    memory: task.memory,
    healthStatus: task.health,
    stopCode: task.stopCode,
    stoppedReason: task.stoppedReason,
    // ECS gives times as seconds since 1970.
    startedAt: task.startedAt === undefined ? undefined : Date.parse(task.startedAt) / 1000,
    containers: task.containers ?? [],
    attachments:
      task.privateIp === undefined
        ? []
        : [
            {
              type: 'ElasticNetworkInterface',
              status: 'ATTACHED',
              details: [
                { name: 'subnetId', value: 'subnet-1' },
                { name: 'privateIPv4Address', value: task.privateIp },
              ],
            },
          ],
    ...(hasTags ? { tags: Object.entries(task.tags ?? {}).map(([key, value]) => ({ key, value })) } : {}),
  };
}

interface Query {
  Id: string;
  MetricStat: { Metric: { MetricName: string; Dimensions: { Value: string }[] }; Period: number; Stat: string };
}

function getMetricData({ input }: JsonCall, world: FakeWorld): unknown {
  const queries = input['MetricDataQueries'] as Query[];
  if (queries.length > 500) throw new FakeAwsError(400, 'ValidationError', 'At most 500 metrics.');
  const [fromMs, untilMs] = [Number(input['StartTime']) * 1000, Number(input['EndTime']) * 1000];
  return {
    MetricDataResults: queries.map(({ Id, MetricStat: { Metric } }) => {
      const point = world.measurements.get(`${Metric.Dimensions[0]?.Value}/${Metric.MetricName}`);
      const isWithin = point !== undefined && point.atMs >= fromMs && point.atMs < untilMs;
      return {
        Id,
        Label: Metric.MetricName,
        Timestamps: isWithin ? [point.atMs / 1000] : [],
        Values: isWithin ? [point.value] : [],
        StatusCode: 'Complete',
      };
    }),
  };
}

function receiveMessage({ input }: JsonCall, world: FakeWorld): unknown {
  const messages = world.messages.slice(0, Number(input['MaxNumberOfMessages'] ?? 1));
  return {
    Messages: messages.map(({ id, body }) => ({
      MessageId: id,
      ReceiptHandle: `receipt-${id}`,
      Body: body,
      MD5OfBody: createHash('md5').update(body).digest('hex'),
    })),
  };
}

function deleteMessageBatch({ input }: JsonCall, world: FakeWorld): unknown {
  const entries = input['Entries'] as { Id: string; ReceiptHandle: string }[];
  for (const { ReceiptHandle } of entries) {
    const at = world.messages.findIndex(({ id }) => `receipt-${id}` === ReceiptHandle);
    if (at >= 0) world.messages.splice(at, 1);
  }
  return { Successful: entries.map(({ Id }) => ({ Id })), Failed: [] };
}

/** Every one that is asked for is there, in its third revision, with both roles. */
function describeTaskDefinition({ region, input }: JsonCall): unknown {
  const [family] = String(input['taskDefinition']).split(':');
  const role = (name: string) => `arn:aws:iam::123456789012:role/${name}`;
  return {
    taskDefinition: {
      taskDefinitionArn: `arn:aws:ecs:${region}:123456789012:task-definition/${family}:3`,
      ...{ family, taskRoleArn: role('task'), executionRoleArn: role('execution') },
    },
  };
}

/** Every parameter is the id of an image. */
function getParameter({ input }: JsonCall): unknown {
  return { Parameter: { Name: input['Name'], Type: 'String', Value: 'ami-0123456789abcdef0' } };
}
