/**
 * What a monitor does while it leads: it polls, publishes, and reconciles. All of it is made anew for each term, from what
 * is in Redis then, and ends with the term's signal; only budgets of APIs and metrics outlive it.
 */
import type { Clock, Logger } from '@carrierarr/platform';
import type { SourceReport } from '@carrierarr/protocol';
import { targetOf } from '@carrierarr/protocol';
import { phaseOfRecord, SCRIPT_SOURCE } from '@carrierarr/reconcile';
import {
  DeposedError,
  type OrphanStore,
  type StatusChange,
  type StatusSnapshot,
  type WorkerStatusStore,
} from '@carrierarr/store';
import { AGENTS_SOURCE, withoutAgent } from './agents/nodes/agent-facts.js';
import { DeadNodes, type DeadNodesOptions } from './agents/nodes/dead-nodes.js';
import { LOOK_EVERY_MS, Nodes, type NodesOptions } from './agents/nodes/nodes.js';
import type { NodesPlan } from './agents/nodes/plan.js';
import type { Term } from './leader/election.js';
import type { Observer } from './observe/observer.js';
import type { StatusChange as PolledChange } from './observe/poller.js';
import { pause } from './pause.js';
import { recordOf } from './observe/source.js';
import { Effects, type EffectsOptions } from './reconciler/effects.js';
import type { Fleet } from './reconciler/fleet.js';
import { Halts } from './reconciler/halts.js';
import { InFlight, type InFlightOptions } from './reconciler/in-flight.js';
import type { QueueMetrics, ReconcileMetrics } from './reconciler/metrics.js';
import { Observed } from './reconciler/observed.js';
import { Orphans } from './reconciler/orphans.js';
import type { Others } from './reconciler/others.js';
import { PoolStep } from './reconciler/pool-step.js';
import { Reconciler } from './reconciler/reconciler.js';
import { Views } from './reconciler/view.js';
import { WorkerStep } from './reconciler/worker-step.js';

export interface LeadingOptions {
  fleet: Fleet;
  status: Pick<WorkerStatusStore, 'read' | 'publish' | 'keepSources'>;
  orphans: Pick<OrphanStore, 'read' | 'write'>;
  observer: Pick<Observer, 'start' | 'stop' | 'nudge' | 'expectChange' | 'sources'>;
  others: Pick<Others, 'on'>;
  stores: Pick<EffectsOptions, 'resources' | 'commands' | 'drain' | 'events'> &
    Pick<InFlightOptions, 'store' | 'history'>;
  /** Machines with agents. */
  nodes: Pick<NodesOptions, 'follow' | 'registry' | 'limits' | 'metrics'> &
    Pick<DeadNodesOptions, 'connection' | 'keys'> & { isEndingDead: boolean };
  /** Whether to act, or only to watch. */
  isReconciling: boolean;
  isCollectingOrphans: boolean;
  concurrency: number;
  resyncMs: number;
  monitor: string;
  /** Its wall clock is Redis'. */
  clock: Clock;
  logger: Logger;
  metrics: { queue: QueueMetrics; reconcile: ReconcileMetrics };
  /** A source has answered, or not. */
  onReport: (report: SourceReport) => void;
}

/** One term under way. */
export class Leading {
  readonly #o: LeadingOptions;
  readonly #term: Term;
  readonly #observed = new Observed();
  readonly views: Views;
  readonly #inFlight: InFlight;
  readonly #orphans: Orphans;
  readonly #nodes: Nodes;
  readonly #reconciler: Reconciler | undefined;
  /** Publications follow each other: each says what was known when its turn came. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: LeadingOptions, term: Term) {
    this.#o = options;
    this.#term = term;
    const { fleet, observer, stores, monitor, clock, logger, metrics } = options;
    const nowMs = () => clock.now();
    const observed = this.#observed;
    const cloudSources = () => observer.sources.filter((name) => name !== SCRIPT_SOURCE);
    const views = new Views({ fleet, observed, cloudSources, nowMs });
    this.views = views;
    const { fence, signal } = term;
    const effects = new Effects({
      ...{ fence, signal, fleet, monitor, logger },
      ...{ resources: stores.resources, commands: stores.commands, drain: stores.drain, events: stores.events },
      metrics: metrics.reconcile,
    });
    this.#inFlight = new InFlight({
      ...{ store: stores.store, history: stores.history, clock, logger },
      onChange: (worker, view) => {
        this.#hurry(worker, view.state === 'ended');
        this.#reconciler?.commandChanged(worker, view);
      },
    });
    this.#orphans = new Orphans({
      ...{ fence, fleet, observed, effects, nowMs, metrics: metrics.reconcile, logger, store: options.orphans },
      isCollecting: options.isCollectingOrphans && options.isReconciling,
    });
    this.#nodes = this.#makeNodes(effects);
    if (!options.isReconciling) return;
    const halts = new Halts({ fleet, views, nowMs });
    this.#reconciler = new Reconciler({
      ...{ signal, fleet, observed, halts, clock, logger, metrics },
      onDeposed: (error) => term.deposed(error),
      concurrency: options.concurrency,
      resyncMs: options.resyncMs,
      steps: {
        worker: new WorkerStep({
          ...{ fleet, views, effects, inFlight: this.#inFlight, others: options.others },
          haltOf: (group) => halts.reasonOf(group),
        }),
        pool: new PoolStep({ fleet, views, effects, nowMs, haltOf: (group) => halts.reasonOf(group) }),
      },
    });
  }

  /** Leads until the term is over and nothing of it is left. */
  async run(): Promise<void> {
    const { status, observer, clock, fleet } = this.#o;
    const { signal } = this.#term;
    let unlisten = () => {};
    const snapshot = await status.read(clock.now());
    if (signal.aborted) return;
    // What agents say is theirs, and no source's to keep.
    const known = { ...snapshot, workers: snapshot.workers.map(withoutAgent) };
    const hasLooked = await this.#nodes.begin(snapshot.workers.map(recordOf), snapshot.sources);
    this.#observed.load(hasLooked ? snapshot : known);
    let following: Promise<void> | undefined;
    try {
      await this.#lookAtNodes();
      await observer.start(known);
      await this.#forgetUnpolled(known);
      following = this.#followNodes();
      // After the observer: which sources there are decides whose word counts.
      if (!signal.aborted) this.#reconciler?.start();
      unlisten = fleet.onChange((change) => {
        // Its script has never been asked; until it has, nothing is done.
        if (change !== 'reset' && change.before === undefined && change.after?.kind === 'Worker')
          observer.nudge(SCRIPT_SOURCE, targetOf(change.after));
      });
      await aborted(signal);
    } finally {
      unlisten();
      this.#inFlight.stop();
      await Promise.all([observer.stop(), this.#reconciler?.drained(), following]);
      this.#nodes.stop();
      // The next leader shows its own: what this one saw would be an alert for as long as the process lives.
      const { halted, orphans } = this.#o.metrics.reconcile;
      halted.set(0);
      orphans.set(0);
    }
  }

  // --- nodes -----------------------------------------------------------------------------------------------------

  #makeNodes(effects: Effects): Nodes {
    const { nodes, stores, monitor, clock, logger, fleet } = this.#o;
    const { follow, registry, limits, metrics, connection, keys } = nodes;
    const deadNodes = new DeadNodes({
      ...{ connection, keys, monitor, clock, logger, metrics, fence: this.#term.fence },
      ...{ commands: stores.commands, history: stores.history, drain: stores.drain },
      lookedAtMs: ({ id, source }) => this.#lookedAtMs(id, source),
      isRunning: ({ id }) => this.#isRunning(id),
      sharing: (target) => this.#machinesOf(target),
      async onEnded({ node, target }, verb, execution) {
        const message = `Its agent (${node.name}) is dead: ${verb} was given (execution ${execution}).`;
        for (const name of fleet.namesAt(target))
          effects.tell('Worker', name, [{ type: 'Warning', reason: 'AgentDead', message }]);
      },
    });
    return new Nodes({
      ...{ follow, registry, limits, metrics, clock, logger },
      deadNodes: nodes.isEndingDead ? deadNodes : undefined,
    });
  }

  /** When the last complete look at a worker began, epoch ms. */
  #lookedAtMs(id: string, source: string): number | undefined {
    const polledAt = this.#observed.report(source)?.polled_at;
    return this.#observed.seenMs(id) ?? (polledAt === undefined ? undefined : Date.parse(polledAt));
  }

  /** What a script tells of a target is no machine beside the one that a cloud shows of it. */
  #machinesOf(target: string): string[] {
    const rows = this.#observed.at(target);
    return rows.filter((row) => row.source !== SCRIPT_SOURCE && phaseOfRecord(row) !== 'absent').map(({ id }) => id);
  }

  #isRunning(id: string): boolean {
    const record = this.#observed.get(id);
    return record !== undefined && phaseOfRecord(record) === 'running';
  }

  async #followNodes(): Promise<void> {
    const { signal } = this.#term;
    const { clock } = this.#o;
    while (!signal.aborted) {
      await pause(clock, LOOK_EVERY_MS, signal);
      if (!signal.aborted) await this.#lookAtNodes();
    }
  }

  /** Never rejects: the next look makes up for one that failed. */
  async #lookAtNodes(): Promise<void> {
    const { signal } = this.#term;
    try {
      await this.#nodes.look();
      const plan = await this.#inTurn(() => this.#publishNodes());
      if (!signal.aborted) await this.#nodes.act(plan);
    } catch (error) {
      if (error instanceof DeposedError) this.#term.deposed(error);
      else if (!signal.aborted) this.#nodes.failed(error);
    }
  }

  async #publishNodes(): Promise<NodesPlan> {
    this.#term.signal.throwIfAborted();
    const { plan, change, done } = await this.#nodes.plan();
    this.#term.signal.throwIfAborted();
    if (change !== undefined) {
      const version = await this.#o.status.publish(this.#term.fence, change);
      const seen = this.#observed.apply(change, version);
      this.#reconciler?.published(change.report, seen, true);
    }
    done();
    return plan;
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(act);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  // --- what sources say ------------------------------------------------------------------------------------------

  /**
   * What a source had to tell that is not polled any more (a region taken out of the configuration) is nobody's to keep: it
   * would stay as it was, stale for ever, and hold up what only that source could know.
   */
  async #forgetUnpolled({ workers, sources }: StatusSnapshot): Promise<void> {
    const { status, observer, logger } = this.#o;
    const polled = new Set([...observer.sources, AGENTS_SOURCE]);
    try {
      for (const report of sources.filter(({ source }) => !polled.has(source))) {
        const removed = workers.filter(({ source }) => source === report.source).map(({ id }) => id);
        logger.info({ source: report.source, workers: removed.length }, 'a source is not polled any more: forgotten');
        const change = { report: { ...report, workers: 0 }, upserts: [], removed };
        await this.#inTurn(async () => {
          this.#nodes.takeIn(report.source, change);
          this.#observed.apply(change, await status.publish(this.#term.fence, change));
        });
      }
      await status.keepSources(this.#term.fence, [...polled]);
    } catch (error) {
      if (error instanceof DeposedError) this.#term.deposed(error);
      else logger.debug({ err: error }, 'sources could not be forgotten; the next leader tries again');
    }
  }

  /** Publishes the outcome of a poll, and has those looked at whom it concerns. */
  async publish(report: SourceReport, polled: PolledChange): Promise<void> {
    return this.#inTurn(() => this.#publish(report, polled));
  }

  async #publish(report: SourceReport, polled: PolledChange): Promise<void> {
    const { status, onReport, logger } = this.#o;
    this.#term.signal.throwIfAborted();
    const change: StatusChange = { report, ...polled, upserts: this.#nodes.takeIn(report.source, polled) };
    try {
      const wasOk = this.#observed.report(report.source)?.ok ?? true;
      const version = await status.publish(this.#term.fence, change);
      const seen = this.#observed.apply(change, version);
      onReport(report);
      this.#reconciler?.published(report, seen, wasOk);
      if (!report.ok || this.#term.signal.aborted) return;
      await this.#orphans.look().catch((error: unknown) => {
        if (error instanceof DeposedError) throw error;
        logger.debug({ err: error }, 'the look for orphans failed; the next poll brings another one');
      });
    } catch (error) {
      if (error instanceof DeposedError) this.#term.deposed(error);
      throw error;
    }
  }

  /** Has the source of a Worker polled soon: its command has begun, or ended. */
  #hurry(worker: string, hasEnded: boolean): void {
    const { fleet, observer } = this.#o;
    const resource = fleet.get('Worker', worker);
    if (resource === undefined) return;
    const target = targetOf(resource);
    const source = this.#observed.at(target).find(({ gone_at }) => gone_at === undefined)?.source;
    if (hasEnded) observer.nudge(source, target);
    else observer.expectChange(source, target);
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
