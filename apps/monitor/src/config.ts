/** What a monitor watches, and how often. Durations are in ms once read; `--help` shows their units. */
import { hostname } from 'node:os';
import { randomBytes } from 'node:crypto';
import { type ConfigValues, defineSchema, formats } from '@carrierarr/platform';

const second = 1_000;
const hour = 3_600_000;
const day = 24 * hour;

const regions = formats.listOf(
  formats.textMatching(/^[a-z]{2}(-[a-z]+)+-\d{1,2}$/, 'an AWS region such as eu-central-1', 'REGION'),
);

/** What to watch. `carrierarr up` has it too. */
export const observeSchema = defineSchema({
  ec2Tags: {
    doc: 'Watch the EC2 instances that have all these tags; {} for every instance. Without it none are watched.',
    format: formats.textMap,
    default: null,
  },
  ec2Regions: {
    doc: "AWS regions whose instances are watched, separated by commas. By default the AWS environment's region.",
    format: regions,
    default: [],
  },
  ec2StatusInterval: {
    doc: 'How often to ask EC2 for status checks and scheduled events; 0s for never.',
    format: formats.durationBetween(0, day),
    default: '5m',
  },
  ecsCluster: {
    doc: 'Watch the tasks of these ECS clusters (Fargate), names or ARNs, separated by commas.',
    format: formats.listOf(
      formats.textMatching(
        /^(arn:[a-z-]+:ecs:[a-z0-9-]+:\d+:cluster\/)?[A-Za-z0-9_-]{1,255}$/,
        'the name or ARN of an ECS cluster',
        'CLUSTER',
      ),
    ),
    default: [],
  },
  ecsRegions: {
    doc: "AWS regions in which clusters that are given by name are watched. By default the AWS environment's region.",
    format: regions,
    default: [],
  },
  poll: {
    doc: 'Time between two polls of a source. Faster, up to six times, while workers start or stop.',
    format: formats.durationBetween(second, hour),
    default: '30s',
  },
  pollMax: {
    doc: 'Longest time between two polls of a source in which nothing has changed for long. By default twice --poll.',
    format: formats.durationBetween(second, hour),
    default: null,
  },
  cloudwatchMetrics: {
    doc: 'Ask CloudWatch for CPU, network and status checks of running instances. AWS charges for it.',
    format: formats.boolean,
    default: false,
  },
  cloudwatchPeriod: {
    doc: 'Time that one measurement of CloudWatch covers; 1m needs detailed monitoring of the instances.',
    format: ['1m', '5m'],
    default: '5m',
  },
  eventsQueueUrl: {
    doc: 'SQS queue that EventBridge feeds with changes of instances and tasks, so that polls come at once.',
    format: formats.httpUrl,
    default: null,
  },
  monitorId: {
    doc: 'Name of this monitor. By default the host name and a random part.',
    format: formats.textMatching(/^[A-Za-z0-9._-]{1,128}$/, '1 to 128 letters, digits, dots, dashes or underscores'),
    default: null,
  },
});

/** The settings that observing reads. */
export type ObserveConfig = ConfigValues<typeof observeSchema>;

/** A name for a monitor that was given none: new at each start. */
export function randomMonitorId(): string {
  const host = hostname()
    .replaceAll(/[^A-Za-z0-9._-]/g, '-')
    .slice(0, 100);
  return `${host}-${randomBytes(4).toString('hex')}`;
}
