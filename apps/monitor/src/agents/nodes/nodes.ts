/**
 * Nodes as the leader sees them: follows the registry, keeps the rows of workers up to date with what agents say, tells
 * what happens to them, and has the dead ones ended if that is asked for. One for each term.
 */
import { type Clock, type Logger, Seldom } from '@carrierarr/platform';
import type { LivenessLimits, NodeRecord, SourceReport, WorkerRecord } from '@carrierarr/protocol';
import { inSlices, type NodeFollow, type NodeRegistry, type StatusChange } from '@carrierarr/store';
import { AGENTS_SOURCE, withAgent, withoutAgent } from './agent-facts.js';
import type { DeadNodes } from './dead-nodes.js';
import type { NodesMetrics } from './metrics.js';
import { FORGET_MS, inheritedMemory, type NodeEvent, type NodesMemory, type NodesPlan, planNodes } from './plan.js';

/** Between two looks at all nodes, ms. */
export const LOOK_EVERY_MS = 1_500;
/** That nothing changed is said this often, ms: rows whose source says nothing for three times as long are stale. */
const REPORT_EVERY_MS = 10_000;
/** Events of one look that are told one by one. */
const EVENTS_LOGGED_MAX = 20;
/** Between two looks for nodes to forget, ms. */
const FORGET_EVERY_MS = 60_000;

export interface NodesOptions {
  follow: Pick<NodeFollow, 'nodes' | 'listening' | 'limits' | 'nowMs' | 'isServed' | 'isStreaming' | 'refresh'>;
  registry: Pick<NodeRegistry, 'forget' | 'setLimits' | 'listenToNone'>;
  limits: LivenessLimits;
  /** Ends dead nodes; undefined where that is not asked for. */
  deadNodes: Pick<DeadNodes, 'end'> | undefined;
  clock: Clock;
  logger: Pick<Logger, 'debug' | 'info' | 'warn'>;
  metrics: NodesMetrics;
}

export class Nodes {
  readonly #o: NodesOptions;
  readonly #workers = new Map<string, WorkerRecord>();
  readonly #failed: Seldom;
  #memory: NodesMemory = inheritedMemory([]);
  #termStartMs = 0;
  #reportedMs = Number.NEGATIVE_INFINITY;
  #forgottenMs = Number.NEGATIVE_INFINITY;
  #hasReported = false;
  #wasMassDeath = false;

  constructor(options: NodesOptions) {
    this.#o = options;
    this.#failed = new Seldom(options.clock, 60_000);
  }

  /**
   * Begins with what was published before, and has a first look. False if that failed: what agents were known to say is
   * then not to be relied on.
   */
  async begin(rows: readonly WorkerRecord[], reports: readonly SourceReport[]): Promise<boolean> {
    this.#termStartMs = this.#o.clock.now();
    this.#memory = inheritedMemory(rows);
    this.#hasReported = reports.some(({ source }) => source === AGENTS_SOURCE);
    for (const row of rows) if (row.source !== AGENTS_SOURCE) this.#workers.set(row.id, withoutAgent(row));
    try {
      await this.look();
      return true;
    } catch (error) {
      this.failed(error);
      // So all rows are published again by the look that succeeds.
      this.#memory = { ...this.#memory, published: new Map() };
      return false;
    }
  }

  /** Takes in what another source says, and returns what is to be published of it: with what agents say. */
  takeIn(source: string, { upserts, removed }: Pick<StatusChange, 'upserts' | 'removed'>): WorkerRecord[] {
    for (const id of removed) if (this.#workers.get(id)?.source === source) this.#workers.delete(id);
    return upserts.map((record) => {
      this.#workers.set(record.id, record);
      const facts = this.#memory.rows.get(record.id);
      return facts === undefined ? record : withAgent(record, facts);
    });
  }

  /** Reads what changed of nodes, and says by which limits they live. Rejects if Redis does. */
  async look(): Promise<void> {
    const { follow, registry, limits } = this.#o;
    await follow.refresh();
    if (!follow.isServed) await registry.listenToNone();
    // Also when another leader had others, or Redis has lost them: gateways judge by what is there.
    const { staleMs, deadMs } = follow.limits;
    if (staleMs !== limits.staleMs || deadMs !== limits.deadMs) await registry.setLimits(limits);
  }

  /**
   * What follows from what is known now. `change`: to be published, if there is anything; `done`: to be called then. Nothing
   * else may be called until it has resolved.
   */
  async plan(): Promise<{ plan: NodesPlan; change: StatusChange | undefined; done: () => void }> {
    const { follow, clock, limits } = this.#o;
    const view = {
      nodes: follow.nodes,
      isStreaming: (node: NodeRecord) => follow.isStreaming(node),
      workers: this.#workers,
      ...{ listening: follow.listening, limits, termStartMs: this.#termStartMs, nowMs: follow.nowMs },
    };
    const plan = await inSlices(planNodes(view, this.#memory), clock);
    const isDue = this.#hasReported && clock.monotonicMs() - this.#reportedMs >= REPORT_EVERY_MS;
    const change = plan.upserts.length + plan.removed.length > 0 || isDue ? this.#changeOf(plan) : undefined;
    const done = () => {
      if (change !== undefined) {
        this.#hasReported = true;
        this.#reportedMs = clock.monotonicMs();
      }
      this.#memory = plan.memory;
      this.#tell(plan);
    };
    return { plan, change, done };
  }

  #changeOf({ upserts, removed, memory }: NodesPlan): StatusChange {
    let workers = 0;
    for (const { own } of memory.shown.values()) if (own !== undefined) workers += 1;
    const report: SourceReport = {
      ...{ source: AGENTS_SOURCE, ok: true, polled_at: new Date(this.#o.follow.nowMs).toISOString() },
      ...{ interval_ms: REPORT_EVERY_MS, calls: 0, workers },
    };
    return { report, upserts, removed };
  }

  /** What follows of the last look beside rows. Rejects if Redis does. */
  async act({ deaths, isMassDeath, forget }: NodesPlan): Promise<void> {
    const { deadNodes, registry, clock, logger, metrics } = this.#o;
    if (deadNodes !== undefined && !isMassDeath) await deadNodes.end(deaths, this.#o.follow.nowMs);
    if (forget.length === 0 || clock.monotonicMs() - this.#forgottenMs < FORGET_EVERY_MS) return;
    this.#forgottenMs = clock.monotonicMs();
    const forgotten = await registry.forget(forget, this.#o.follow.nowMs - FORGET_MS);
    metrics.forgotten.inc(forgotten);
    if (forgotten > 0) logger.info({ nodes: forgotten }, 'nodes that said nothing for a day are forgotten');
  }

  /** A look failed; the next one makes up for it. */
  failed(error: unknown): void {
    this.#o.metrics.lookErrors.inc();
    this.#failed.say((unsaid) =>
      this.#o.logger.warn({ err: error, unsaid }, 'nodes could not be looked at; trying again'),
    );
  }

  stop(): void {
    this.#o.metrics.clear();
    this.#o.metrics.massDeath.set(0);
  }

  #tell({ events, counts, isMassDeath, deaths }: NodesPlan): void {
    const { metrics, logger, deadNodes } = this.#o;
    for (const [liveness, number] of Object.entries(counts)) metrics.nodes.set({ liveness }, number);
    for (const { kind } of events) metrics.events.inc({ kind });
    for (const event of events.slice(0, EVENTS_LOGGED_MAX)) this.#log(event);
    if (events.length > EVENTS_LOGGED_MAX)
      logger.info({ events: events.length - EVENTS_LOGGED_MAX }, 'more of the kind happened to other nodes');
    metrics.massDeath.set(isMassDeath ? 1 : 0);
    if (isMassDeath !== this.#wasMassDeath) {
      const facts = { dead: deaths.length, ends: deadNodes !== undefined };
      if (isMassDeath) logger.warn(facts, 'more than a fifth of all nodes died at once: find out why; none is ended');
      else logger.info(facts, 'no more than a fifth of all nodes is dead');
    }
    this.#wasMassDeath = isMassDeath;
  }

  #log({ kind, node, target }: NodeEvent): void {
    const { logger } = this.#o;
    switch (kind) {
      case 'joined':
        return logger.info({ node, target }, 'a node is there');
      case 'left':
        return logger.info({ node, target }, 'a node has left, or was forgotten');
      case 'stale':
        return logger.warn({ node, target }, 'a node has not been heard of for a while');
      case 'dead':
        return logger.warn({ node, target }, 'a node has not been heard of for so long that it counts as dead');
      case 'back':
        return logger.info({ node, target }, 'a node is heard of again');
    }
  }
}
