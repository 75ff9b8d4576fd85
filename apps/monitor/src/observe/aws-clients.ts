/**
 * The AWS SDK's clients, one a service and region, all alike: `standard` retries, short timeouts that are errors, few
 * sockets. Credentials, and where requests go (`AWS_ENDPOINT_URL`), are the SDK's own business: its default chain.
 */
import { CloudWatchClient } from '@aws-sdk/client-cloudwatch';
import { EC2Client } from '@aws-sdk/client-ec2';
import { ECSClient } from '@aws-sdk/client-ecs';
import { SQSClient } from '@aws-sdk/client-sqs';

/** Tries of one call, the first included. */
const ATTEMPTS_MAX = 3;
const CONNECT_MS_MAX = 3_000;
/** A thousand instances with their tags are some megabytes. */
const REQUEST_MS_MAX = 20_000;
/** Sockets of one client; each source has one call at a time. */
const SOCKETS_MAX = 8;

export interface AwsClientsOptions {
  /** Of carrierarr; goes into the user agent, where an account's owner finds it. */
  readonly version: string;
  /** How long one try may take, ms. */
  readonly requestMsMax?: number;
}

export class AwsClients {
  readonly #options: AwsClientsOptions;
  readonly #clients = new Map<string, { destroy(): void }>();

  constructor(options: AwsClientsOptions) {
    this.#options = options;
  }

  ec2(region: string): EC2Client {
    return this.#client('ec2', region, () => new EC2Client(this.#settings(region)));
  }

  ecs(region: string): ECSClient {
    return this.#client('ecs', region, () => new ECSClient(this.#settings(region)));
  }

  cloudwatch(region: string): CloudWatchClient {
    return this.#client('cloudwatch', region, () => new CloudWatchClient(this.#settings(region)));
  }

  /** `waitMs`: how long a call may be kept waiting for messages, beyond what calls take anyway. */
  sqs(region: string, waitMs: number): SQSClient {
    return this.#client('sqs', region, () => new SQSClient(this.#settings(region, waitMs)));
  }

  /**
   * The region that the SDK finds in its environment or profile. Throws one that says what to set.
   *
   * @param instead what else tells where `what` is
   */
  async defaultRegion(what: string, instead: string): Promise<string> {
    const client = new EC2Client({});
    try {
      return await client.config.region();
    } catch (cause) {
      throw new Error(
        `No AWS region is known for ${what}. Expected ${instead}, or AWS_REGION, or the AWS profile to name one such as ` +
          'eu-central-1; all three are empty.',
        { cause },
      );
    } finally {
      client.destroy();
    }
  }

  /** Closes all sockets; calls under way fail. */
  destroy(): void {
    for (const client of this.#clients.values()) client.destroy();
    this.#clients.clear();
  }

  #client<T extends { destroy(): void }>(service: string, region: string, create: () => T): T {
    const key = `${service}/${region}`;
    const known = this.#clients.get(key);
    if (known) return known as T;
    const client = create();
    this.#clients.set(key, client);
    return client;
  }

  #settings(region: string, extraMs = 0) {
    const requestTimeout = (this.#options.requestMsMax ?? REQUEST_MS_MAX) + extraMs;
    const agent = { keepAlive: true, maxSockets: SOCKETS_MAX };
    return {
      region,
      maxAttempts: ATTEMPTS_MAX,
      retryMode: 'standard',
      customUserAgent: [['carrierarr', this.#options.version]] as [string, string][],
      requestHandler: {
        connectionTimeout: CONNECT_MS_MAX,
        requestTimeout,
        // Without this the SDK only logs that the time is up, and goes on waiting.
        throwOnRequestTimeout: true,
        // The time between two pieces of an answer: the timeout above ends with its headers.
        socketTimeout: requestTimeout,
        httpAgent: agent,
        httpsAgent: agent,
      },
    };
  }
}
