/**
 * What is observed of AWS: its sources, and the queue that hurries them. Loaded only where something of it is configured,
 * since the SDK takes a second and tens of megabytes to load.
 */
import { type Clock, type Logger, version } from '@carrierarr/platform';
import type { ObserveConfig } from '../config.js';
import type { ApiBudgets } from './api-budgets.js';
import type { AwsCallContext } from './aws-call.js';
import { AwsClients } from './aws-clients.js';
import { InstanceMetrics } from './cloudwatch.js';
import { Ec2Source } from './ec2.js';
import { clusterRegion, EcsSource } from './ecs.js';
import { EventsQueue, queueRegion, RECEIVE_WAIT_SECONDS } from './events-queue.js';
import type { Interruptions } from './interruptions.js';
import type { ObserveMetrics } from './metrics.js';
import type { Source } from './source.js';

export interface AwsObservationOptions {
  readonly config: ObserveConfig;
  readonly budgets: ApiBudgets;
  readonly interruptions: Interruptions;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: ObserveMetrics;
}

export class AwsObservation {
  readonly #options: AwsObservationOptions;
  readonly #clients = new AwsClients({ version: version() });
  readonly #context: AwsCallContext;

  constructor(options: AwsObservationOptions) {
    const { budgets, metrics, clock } = options;
    this.#options = options;
    this.#context = { budgets, metrics, clock };
  }

  /** The sources that are configured. Throws when no region is known for one of them. */
  async sources(): Promise<Source[]> {
    const { config, clock, interruptions } = this.#options;
    const [clients, context] = [this.#clients, this.#context];
    const sources: Source[] = [];
    if (config.ec2Tags !== null) {
      for (const region of await this.#regionsOr(config.ec2Regions, '--ec2-tags', 'ec2-regions')) {
        sources.push(
          new Ec2Source({
            ...context,
            client: clients.ec2(region),
            region,
            tags: config.ec2Tags,
            statusEveryMs: config.ec2StatusInterval,
            interruptionOf: (id) => interruptions.of(id, clock.now()),
            ...this.#measured(region),
          }),
        );
      }
    }
    for (const cluster of config.ecsCluster) {
      const own = clusterRegion(cluster);
      for (const region of own === undefined
        ? await this.#regionsOr(config.ecsRegions, '--ecs-cluster', 'ecs-regions')
        : [own]) {
        sources.push(new EcsSource({ ...context, client: clients.ecs(region), region, cluster }));
      }
    }
    return sources;
  }

  /** The queue of events, if one is configured. */
  async queue(onNudge: (source: string) => void): Promise<EventsQueue | undefined> {
    const { config, clock, logger, metrics, interruptions } = this.#options;
    if (config.eventsQueueUrl === null) return undefined;
    const region =
      queueRegion(config.eventsQueueUrl) ??
      (await this.#clients.defaultRegion('--events-queue-url', 'a URL such as https://sqs.REGION.amazonaws.com/…'));
    return new EventsQueue({
      ...this.#context,
      client: this.#clients.sqs(region, RECEIVE_WAIT_SECONDS * 1000),
      region,
      queueUrl: config.eventsQueueUrl,
      logger,
      metrics,
      onNudge,
      onInterruption: (id, interruption) => interruptions.note(id, interruption, clock.now()),
    });
  }

  /** Ends what the clients hold open. */
  destroy(): void {
    this.#clients.destroy();
  }

  #measured(region: string) {
    const { config } = this.#options;
    if (!config.cloudwatchMetrics) return {};
    const periodSeconds = config.cloudwatchPeriod === '1m' ? 60 : 300;
    const client = this.#clients.cloudwatch(region);
    const metrics = new InstanceMetrics({ ...this.#context, client, region, periodSeconds });
    return { measured: { metrics, everyMs: periodSeconds * 1000 } };
  }

  /** `flag`: which one names regions of what the flag `what` asks for. */
  async #regionsOr(regions: readonly string[], what: string, flag: string): Promise<readonly string[]> {
    if (regions.length > 0) return [...new Set(regions)];
    const variable = `CARRIERARR_${flag.toUpperCase().replaceAll('-', '_')}`;
    return [await this.#clients.defaultRegion(what, `--${flag} (${variable})`)];
  }
}
