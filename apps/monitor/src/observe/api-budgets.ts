/**
 * What this process may ask of AWS: a quarter of what AWS documents for an account and region, one budget for each of
 * AWS' own buckets. The rest is left to everything else in the account. A process has one account, its credentials'.
 */
import type { Clock } from '@carrierarr/platform';
import { type Rate, TokenBucket } from './token-bucket.js';

/** Share of AWS' buckets that is ours. */
export const BUDGET_SHARE = 0.25;

export type ApiService = 'ec2' | 'ecs' | 'cloudwatch' | 'sqs';

/**
 * AWS' buckets per account and region, by service and operation. Operations with one `bucket` share it.
 *
 * EC2: filtered or paginated Describe calls (https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html).
 * ECS: "cluster resource read actions" are one bucket
 * (https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html).
 * CloudWatch: 50 calls a second
 * (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_limits.html).
 * SQS documents next to no limit; a consumer that turns in a loop would still cost money.
 */
export const AWS_BUCKETS: Readonly<Record<string, Rate & { readonly bucket: string }>> = {
  'ec2:DescribeInstances': { bucket: 'ec2:DescribeInstances', burst: 100, perSecond: 20 },
  'ec2:DescribeInstanceStatus': { bucket: 'ec2:DescribeInstanceStatus', burst: 100, perSecond: 20 },
  'ecs:ListTasks': { bucket: 'ecs:cluster-resource-read', burst: 100, perSecond: 20 },
  'ecs:DescribeTasks': { bucket: 'ecs:cluster-resource-read', burst: 100, perSecond: 20 },
  'cloudwatch:GetMetricData': { bucket: 'cloudwatch:GetMetricData', burst: 50, perSecond: 50 },
  'sqs:ReceiveMessage': { bucket: 'sqs:ReceiveMessage', burst: 100, perSecond: 100 },
  'sqs:DeleteMessageBatch': { bucket: 'sqs:DeleteMessageBatch', burst: 100, perSecond: 100 },
};

export class ApiBudgets {
  readonly #clock: Clock;
  readonly #buckets = new Map<string, TokenBucket>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The budget of an operation in a region; the same one for all that share AWS' bucket. */
  of(service: ApiService, operation: string, region: string): TokenBucket {
    const documented = AWS_BUCKETS[`${service}:${operation}`];
    if (!documented) throw new Error(`No budget is known for ${service}:${operation}. Add it to AWS_BUCKETS.`);
    const key = `${documented.bucket}/${region}`;
    let bucket = this.#buckets.get(key);
    if (!bucket) {
      const { burst, perSecond } = documented;
      bucket = new TokenBucket({ burst: burst * BUDGET_SHARE, perSecond: perSecond * BUDGET_SHARE }, this.#clock);
      this.#buckets.set(key, bucket);
    }
    return bucket;
  }

  /** Calls that wait for a budget now. */
  get waiting(): number {
    return [...this.#buckets.values()].reduce((sum, { waiting }) => sum + waiting, 0);
  }
}
