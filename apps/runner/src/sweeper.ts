/**
 * Looks over the whole store every two seconds: targets that wait without a job get one, and leases whose runner is dead
 * are declared lost. Every runner does it; what it does is harmless when done twice.
 */
import { HEARTBEAT_MS, WATCHDOG_ENDS_WITHIN_MS } from '@carrierarr/execution';
import { type Clock, type Logger, type Timer } from '@carrierarr/platform';
import { PARTITIONS } from '@carrierarr/protocol';
import type { AgentMail, CommandStore, DrainQueue, Lease } from '@carrierarr/store';
import { OUT_OF_TOUCH_GRACE_MS } from './execution.js';
import { LostDetector } from './lost-detector.js';
import { AGENT_MARGIN_MS, type AgentPatience } from './executors/agent-verdict.js';
import { StaleMail } from './executors/stale-mail.js';
import type { RunnerMetrics } from './metrics.js';

export interface SweeperOptions {
  store: CommandStore;
  queue: DrainQueue;
  runner: { id: string; incarnation: string };
  /** As configured, the same on all runners of an installation. */
  outageGraceMs: number;
  mail: AgentMail;
  /** As configured, the same on all runners. */
  agents: AgentPatience;
  /** Whether this process runs that execution now. */
  isRunningHere: (execution: string) => boolean;
  clock: Clock;
  metrics: RunnerMetrics;
  logger: Logger;
  random?: () => number;
}

const SWEEP_MS = 2_000;
/** Targets that wait for less than this may still get their job from whoever added the command, ms. */
const PENDING_GRACE_MS = 3_000;
/** Jobs added in one sweep and partition, at most. */
const ADDS_MAX = 200;
/** For clocks, timers and scheduling that are not exact, ms. */
const MARGIN_MS = 4_000;

const ALL_PARTITIONS = Array.from({ length: PARTITIONS }, (_, p) => p);

/**
 * How long a target stays closed after its runner was found lost, ms: until the script must have ended wherever it is.
 * The runner may be cut off from Redis alone; then it goes on until `outageGraceMs` after its last renewal, which was
 * `silentMs` ago at least, notices at its next tick, and ends the script.
 */
export function closedAfterLossMs(outageGraceMs: number, silentMs: number): number {
  const untilEndedMs = outageGraceMs + HEARTBEAT_MS + OUT_OF_TOUCH_GRACE_MS + MARGIN_MS - silentMs;
  return Math.max(WATCHDOG_ENDS_WITHIN_MS, untilEndedMs);
}

/**
 * The same for a command on an agent, ms. An agent within reach is told by its monitor at once; one that lost touch at the
 * same time goes on for as long as it was told.
 */
export function closedAfterAgentLossMs({ outageGraceMs, killGraceMs }: AgentPatience): number {
  return outageGraceMs + killGraceMs + AGENT_MARGIN_MS;
}

export class Sweeper {
  readonly #o: SweeperOptions;
  readonly #detector = new LostDetector();
  readonly #staleMail: StaleMail;
  #timer: Timer | undefined;
  #sweeping: Promise<void> | undefined;
  #isStopped = false;

  constructor(options: SweeperOptions) {
    this.#o = options;
    this.#staleMail = new StaleMail(options.mail);
  }

  /**
   * Declares lost what former incarnations of this runner left: they are gone, and their watchdogs end what they ran.
   * A runner id must therefore be given to one runner at a time.
   */
  async reapOwn(): Promise<void> {
    const { store, runner, mail } = this.#o;
    const onAgents = new Set(await mail.openExecutions());
    for (const lease of await this.#leases()) {
      if (lease.runner !== runner.id || lease.incarnation === runner.incarnation || lease.state !== 'running') continue;
      const what = await store.reap(lease, this.#closedMs(lease, WATCHDOG_ENDS_WITHIN_MS, onAgents), {
        anyBeat: true,
        unlessIncarnation: runner.incarnation,
      });
      this.#reaped(what, lease, 'left by an earlier start of this runner');
    }
  }

  start(): void {
    this.#schedule();
  }

  /** Resolves when the sweep that is under way has ended. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#timer?.cancel();
    await this.#sweeping;
  }

  #schedule(): void {
    if (this.#isStopped) return;
    const { clock, random = Math.random } = this.#o;
    this.#timer = clock.setTimeout(
      () => {
        this.#sweeping = this.sweep()
          .catch((error: unknown) => this.#o.logger.debug({ err: error }, 'sweep failed; the next one tries again'))
          .finally(() => this.#schedule());
      },
      SWEEP_MS * (0.75 + random() / 2),
    );
  }

  /** One look. Rejects if Redis fails in its middle; nothing is decided then. */
  async sweep(): Promise<void> {
    const { store, queue, metrics, clock, outageGraceMs } = this.#o;
    const askedMs = clock.monotonicMs();
    const [nowMs, leases, counts] = await Promise.all([
      store.redisNowMs(),
      this.#leases(),
      Promise.all(ALL_PARTITIONS.map((p) => store.pendingCount(p))),
    ]);
    const answeredMs = clock.monotonicMs();
    const onAgents = await this.#staleMail.sweep(leases);
    for (const { lease, silentMs } of this.#detector.observe({ leases, askedMs, answeredMs })) {
      const afterLossMs = closedAfterLossMs(outageGraceMs, silentMs);
      const closedMs = this.#isOrphanOfOurs(lease) ? 0 : this.#closedMs(lease, afterLossMs, onAgents);
      this.#reaped(await store.reap(lease, closedMs), lease, `silent for ${Math.round(silentMs / 1000)} s`);
    }
    metrics.queueDepth.set(
      { state: 'waiting' },
      counts.reduce((sum, n) => sum + n, 0),
    );
    metrics.queueDepth.set({ state: 'running' }, leases.filter((lease) => lease.state === 'running').length);

    const taken = new Set(
      leases.filter((lease) => lease.state === 'running' || lease.closedUntilMs > nowMs).map((lease) => lease.target),
    );
    for (const partition of ALL_PARTITIONS.filter((p) => (counts[p] ?? 0) > 0)) {
      const waiting = await store.pendingSince(partition, nowMs - PENDING_GRACE_MS, ADDS_MAX);
      for (const target of waiting.filter((name) => !taken.has(name))) {
        await queue.add(target);
        metrics.sweeperAdds.inc();
      }
    }
  }

  #closedMs({ execution }: Lease, afterLossMs: number, onAgents: ReadonlySet<string>): number {
    return onAgents.has(execution) ? Math.max(afterLossMs, closedAfterAgentLossMs(this.#o.agents)) : afterLossMs;
  }

  async #leases(): Promise<Lease[]> {
    return (await Promise.all(ALL_PARTITIONS.map((p) => this.#o.store.leases(p)))).flat();
  }

  /** A claim of ours whose answer never came: nothing was started. */
  #isOrphanOfOurs(lease: Lease): boolean {
    const { runner, isRunningHere } = this.#o;
    return lease.runner === runner.id && lease.incarnation === runner.incarnation && !isRunningHere(lease.execution);
  }

  #reaped(what: 'lost' | 'requeued' | 'alive', lease: Lease, why: string): void {
    if (what === 'alive') return;
    this.#o.metrics.reaped.inc();
    this.#o.logger.warn(
      { execution: lease.execution, target: lease.target, runner: lease.runner, why },
      what === 'lost' ? 'execution declared lost' : 'execution declared lost and queued again',
    );
  }
}
