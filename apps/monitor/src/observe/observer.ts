/**
 * Everything that observes, as the configuration asks for it: a poller for each source, and the events queue that hurries
 * them. Only a leader observes: `start` and `stop` may come in turn, as leadership does.
 */
import { type Clock, type Logger, version } from '@carrierarr/platform';
import type { SeenWorker, SourceReport } from '@carrierarr/protocol';
import type { ObserveConfig } from '../config.js';
import { ApiBudgets } from './api-budgets.js';
import type { AwsCallContext } from './aws-call.js';
import { AwsClients } from './aws-clients.js';
import { InstanceMetrics } from './cloudwatch.js';
import { Ec2Source } from './ec2.js';
import { clusterRegion, EcsSource } from './ecs.js';
import { EventsQueue, queueRegion, RECEIVE_WAIT_SECONDS } from './events-queue.js';
import { Interruptions } from './interruptions.js';
import type { ObserveMetrics } from './metrics.js';
import { Poller, type StatusChange } from './poller.js';
import { ScriptSource, type StatusCommands } from './script-source.js';
import type { Source } from './source.js';
import { restoreFleet } from './tombstones.js';

export interface ObserverOptions {
  readonly config: ObserveConfig;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: ObserveMetrics;
  /** Asks control scripts; without it there is no script source. */
  readonly script?: { readonly targets: () => readonly string[]; readonly commands: StatusCommands };
  /** Takes the outcome of each poll; called again with the same one until it resolves. */
  readonly onPoll: (report: SourceReport, change: StatusChange) => Promise<void>;
}

/** A running set of pollers. */
interface Run {
  readonly clients: AwsClients;
  readonly pollers: ReadonlyMap<string, Poller>;
  readonly queue: EventsQueue | undefined;
}

export class Observer {
  readonly #options: ObserverOptions;
  /** Outlives changes of leadership: the account's buckets do, too. */
  readonly #budgets: ApiBudgets;
  readonly #interruptions = new Interruptions();
  #run: Run | undefined;

  constructor(options: ObserverOptions) {
    this.#options = options;
    this.#budgets = new ApiBudgets(options.clock);
  }

  /** Names of the sources that are polled now. */
  get sources(): string[] {
    return [...(this.#run?.pollers.keys() ?? [])];
  }

  /** Begins to poll. `known`: the status as published. Throws when no region is known for what is to be watched. */
  async start(known: readonly SeenWorker[]): Promise<void> {
    if (this.#run) throw new Error('The observer was started already.');
    const { config, clock, logger, metrics, script, onPoll } = this.#options;
    const clients = new AwsClients({ version: version() });
    const context: AwsCallContext = { budgets: this.#budgets, metrics, clock };
    const sources: Source[] = await this.#cloudSources(clients, context);
    if (script) sources.push(new ScriptSource({ ...script, clock, metrics }));
    const pollMsMax = Math.max(config.poll, config.pollMax ?? 2 * config.poll);
    const pollers = new Map(
      sources.map((source) => [
        source.name,
        new Poller({ source, pollMs: config.poll, pollMsMax, clock, logger, metrics, onPoll }),
      ]),
    );
    const queue = await this.#eventsQueue(clients, context, pollers);
    this.#run = { clients, pollers, queue };
    for (const [name, poller] of pollers) poller.start(restoreFleet(known, name));
    queue?.start();
  }

  async stop(): Promise<void> {
    const run = this.#run;
    this.#run = undefined;
    if (!run) return;
    await Promise.all([run.queue?.stop(), ...[...run.pollers.values()].map((poller) => poller.stop())]);
    run.clients.destroy();
  }

  /** Makes a source poll soon; all of them without a name. One that is not watched is none of ours. */
  nudge(source?: string): void {
    for (const poller of this.#pollers(source)) poller.nudge();
  }

  /** A command was given whose effect this source will show; all of them without a name. */
  expectChange(source?: string): void {
    for (const poller of this.#pollers(source)) poller.expectChange();
  }

  #pollers(source: string | undefined): Poller[] {
    if (!this.#run) return [];
    if (source === undefined) return [...this.#run.pollers.values()];
    const poller = this.#run.pollers.get(source);
    return poller ? [poller] : [];
  }

  async #cloudSources(clients: AwsClients, context: AwsCallContext): Promise<Source[]> {
    const { config, clock } = this.#options;
    const sources: Source[] = [];
    if (config.ec2Tags !== null) {
      for (const region of await regionsOr(config.ec2Regions, clients)) {
        sources.push(
          new Ec2Source({
            ...context,
            client: clients.ec2(region),
            region,
            tags: config.ec2Tags,
            statusEveryMs: config.ec2StatusInterval,
            interruptionOf: (id) => this.#interruptions.of(id, clock.now()),
            ...this.#measured(clients, context, region),
          }),
        );
      }
    }
    for (const cluster of config.ecsCluster) {
      const own = clusterRegion(cluster);
      for (const region of own === undefined ? await regionsOr(config.ecsRegions, clients) : [own]) {
        sources.push(new EcsSource({ ...context, client: clients.ecs(region), region, cluster }));
      }
    }
    return sources;
  }

  #measured(clients: AwsClients, context: AwsCallContext, region: string) {
    const { config } = this.#options;
    if (!config.cloudwatchMetrics) return {};
    const periodSeconds = config.cloudwatchPeriod === '1m' ? 60 : 300;
    const metrics = new InstanceMetrics({ ...context, client: clients.cloudwatch(region), region, periodSeconds });
    return { measured: { metrics, everyMs: periodSeconds * 1000 } };
  }

  async #eventsQueue(
    clients: AwsClients,
    context: AwsCallContext,
    pollers: ReadonlyMap<string, Poller>,
  ): Promise<EventsQueue | undefined> {
    const { config, clock, logger, metrics } = this.#options;
    if (config.eventsQueueUrl === null) return undefined;
    const region = queueRegion(config.eventsQueueUrl) ?? (await clients.defaultRegion());
    return new EventsQueue({
      ...context,
      client: clients.sqs(region, RECEIVE_WAIT_SECONDS * 1000),
      region,
      queueUrl: config.eventsQueueUrl,
      logger,
      metrics,
      onNudge: (source) => pollers.get(source)?.nudge(),
      onInterruption: (id, interruption) => this.#interruptions.note(id, interruption, clock.now()),
    });
  }
}

async function regionsOr(regions: readonly string[], clients: AwsClients): Promise<readonly string[]> {
  return regions.length > 0 ? [...new Set(regions)] : [await clients.defaultRegion()];
}
