/**
 * Everything that observes, as the configuration asks for it: a poller for each source, and the events queue that hurries
 * them. Only a leader observes: `start` and `stop` may come in turn, as leadership does.
 */
import type { Clock, Logger } from '@carrierarr/platform';
import type { SeenWorker, SourceReport } from '@carrierarr/protocol';
import type { ObserveConfig } from '../config.js';
import { ApiBudgets } from './api-budgets.js';
import type { AwsObservation } from './aws-observation.js';
import type { EventsQueue } from './events-queue.js';
import { Interruptions } from './interruptions.js';
import type { ObserveMetrics } from './metrics.js';
import { Poller, type StatusChange } from './poller.js';
import { ScriptSource, type StatusCommands } from './script-source.js';
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

/** What was published before, by whoever led then. */
export interface KnownStatus {
  readonly workers: readonly SeenWorker[];
  readonly sources: readonly SourceReport[];
}

/** A running set of pollers. */
interface Run {
  /** Undefined where nothing of AWS is watched. */
  readonly aws: AwsObservation | undefined;
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

  /**
   * Loads what takes long to load: the AWS SDK, where AWS is watched. To be done before this monitor can lead, since it stands
   * in the way of everything else for seconds on a busy machine, and a leader must renew its lease meanwhile. Throws when no
   * region is known for what is to be watched: as a leader it could only fail at that again and again.
   */
  async prepare(): Promise<void> {
    const aws = await this.#loadAws();
    if (aws === undefined) return;
    try {
      await aws.sources();
      await aws.queue(() => undefined);
    } finally {
      aws.destroy();
    }
  }

  /** Begins to poll. `known`: the status as published. Throws when no region is known for what is to be watched. */
  async start({ workers, sources: reports }: KnownStatus): Promise<void> {
    if (this.#run) throw new Error('The observer was started already.');
    const { config, clock, logger, metrics, script, onPoll } = this.#options;
    const aws = await this.#loadAws();
    const sources = (await aws?.sources()) ?? [];
    if (script) sources.push(new ScriptSource({ ...script, known: workers, pollMs: config.poll, clock, metrics }));
    const pollMsMax = Math.max(config.poll, config.pollMax ?? 2 * config.poll);
    const pollers = new Map(
      sources.map((source) => [
        source.name,
        new Poller({ source, pollMs: config.poll, pollMsMax, clock, logger, metrics, onPoll }),
      ]),
    );
    const queue = await aws?.queue((source) => pollers.get(source)?.nudge());
    this.#run = { aws, pollers, queue };
    for (const { id, interruption } of workers) {
      // No poll shows it again, and the queue told it to the leader before.
      if (interruption !== undefined && interruption.kind !== 'scheduled-event')
        this.#interruptions.note(id, interruption, clock.now());
    }
    for (const [name, poller] of pollers) {
      poller.start(
        restoreFleet(workers, name),
        reports.find(({ source }) => source === name),
      );
    }
    queue?.start();
  }

  async stop(): Promise<void> {
    const run = this.#run;
    this.#run = undefined;
    if (!run) return;
    await Promise.all([run.queue?.stop(), ...[...run.pollers.values()].map((poller) => poller.stop())]);
    run.aws?.destroy();
  }

  /** Makes a source poll soon; all of them without a name. One that is not watched is none of ours. `target`: why. */
  nudge(source?: string, target?: string): void {
    for (const poller of this.#pollers(source)) poller.nudge(target);
  }

  /** A command was given to a target whose effect this source will show; all of them without a name. */
  expectChange(source: string | undefined, target: string): void {
    for (const poller of this.#pollers(source)) poller.expectChange(target);
  }

  get #watchesAws(): boolean {
    const { ec2Tags, ecsCluster, eventsQueueUrl } = this.#options.config;
    return ec2Tags !== null || ecsCluster.length > 0 || eventsQueueUrl !== null;
  }

  #pollers(source: string | undefined): Poller[] {
    if (!this.#run) return [];
    if (source === undefined) return [...this.#run.pollers.values()];
    const poller = this.#run.pollers.get(source);
    return poller ? [poller] : [];
  }

  async #loadAws(): Promise<AwsObservation | undefined> {
    const { config, clock, logger, metrics } = this.#options;
    if (!this.#watchesAws) return undefined;
    const { AwsObservation: Observation } = await loadAwsObservation();
    return new Observation({
      ...{ config, clock, logger, metrics },
      ...{ budgets: this.#budgets, interruptions: this.#interruptions },
    });
  }
}

const loadAwsObservation = () => import('./aws-observation.js');
