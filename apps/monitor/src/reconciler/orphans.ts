/**
 * Machines that are tagged as ours and that no Worker owns: made by a command whose Worker is gone, or left behind when a
 * Worker was deleted as an orphan. They cost money and nobody looks after them, so they are listed; terminated only when
 * that was asked for (`--gc-orphans`), and then carefully: only what two polls showed so, by the same queue as
 * everything else, a fifth of all machines at once at most, and none while there is not a single Worker, since then it
 * is more likely that the Workers were lost than that all machines were.
 */
import { createHash } from 'node:crypto';
import type { Logger } from '@carrierarr/platform';
import type { SeenWorker } from '@carrierarr/protocol';
import { hasTags, isCloudSource, phaseOfRecord } from '@carrierarr/reconcile';
import type { Effects } from './effects.js';
import type { Fleet } from './fleet.js';
import type { ReconcileMetrics } from './metrics.js';
import type { Observed } from './observed.js';

/** The tag that control scripts put on the machines they make. */
export const MANAGED_TAG = 'carrierarr:managed';
/** Complete polls of its source that must show a machine as an orphan before it is terminated. */
export const POLLS_UNTIL_TERMINATED = 2;
/** Share of the managed machines that may be on their way out at once; one may always be. */
export const TERMINATED_SHARE = 0.2;
/** Between two commands for one orphan, ms: by then the last one has had its effect, or has none. */
export const TERMINATE_AGAIN_MS = 3_600_000;

interface Orphan {
  id: string;
  target: string;
  source: string;
  state: string;
  /** Complete polls that showed it so, and when the last of them began. */
  polls: number;
  polledAt: string | undefined;
}

export interface OrphansOptions {
  fleet: Fleet;
  observed: Observed;
  effects: Pick<Effects, 'submit' | 'tell'>;
  /** Terminate them. */
  isCollecting: boolean;
  nowMs: () => number;
  metrics: Pick<ReconcileMetrics, 'orphans'>;
  logger: Pick<Logger, 'info' | 'warn'>;
}

export class Orphans {
  readonly #o: OrphansOptions;
  #known = new Map<string, Orphan>();

  constructor(options: OrphansOptions) {
    this.#o = options;
  }

  /** Looks for them after a complete poll; terminates those that are due. */
  async look(): Promise<void> {
    const { observed, metrics, isCollecting } = this.#o;
    const managed = [...observed.all()].filter(isManaged);
    const before = this.#known;
    this.#known = new Map();
    const found: Orphan[] = [];
    for (const machine of managed.filter((each) => !this.#isOwned(each))) {
      const orphan = this.#seen(machine, before.get(machine.id));
      this.#known.set(machine.id, orphan);
      if (!before.has(machine.id)) found.push(orphan);
    }
    metrics.orphans.set(this.#known.size);
    for (const orphan of found) await this.#report(orphan);
    if (isCollecting) await this.#collect(managed);
  }

  #seen(machine: SeenWorker, before: Orphan | undefined): Orphan {
    const { id, target, source, state } = machine;
    const polledAt = this.#o.observed.report(source)?.polled_at;
    const isNewPoll = before === undefined || before.polledAt !== polledAt;
    const polls = (before?.polls ?? 0) + (isNewPoll ? 1 : 0);
    return { id, target, source, state, polledAt, polls };
  }

  #isOwned(machine: SeenWorker): boolean {
    const { fleet } = this.#o;
    for (const _ of fleet.namesAt(machine.target)) return true;
    return fleet.selecting().some(({ spec }) => hasTags(machine, spec.selector?.tags ?? {}));
  }

  async #report({ id, target, source, state }: Orphan): Promise<void> {
    const { logger, effects, isCollecting } = this.#o;
    const advice = isCollecting
      ? 'it will be terminated'
      : 'make a Worker of it, terminate it, or start with --gc-orphans';
    logger.warn({ id, target, source, state }, `a machine of ours belongs to no Worker: ${advice}`);
    const message = `${id} (${source}, ${state}) is tagged ${MANAGED_TAG} and belongs to no Worker: ${advice}.`;
    await effects.tell('Worker', target, [{ type: 'Warning', reason: 'Orphaned', message }]);
  }

  async #collect(managed: readonly SeenWorker[]): Promise<void> {
    const { fleet, effects, logger, nowMs } = this.#o;
    for (const _ of fleet.workers()) {
      const most = Math.max(1, Math.floor(managed.length * TERMINATED_SHARE));
      // By id: the same ones are chosen again until they are gone, by whoever leads then.
      const due = [...this.#known.values()]
        .filter(({ polls }) => polls >= POLLS_UNTIL_TERMINATED)
        .toSorted((a, b) => (a.id < b.id ? -1 : 1))
        .slice(0, most);
      for (const { id, target } of due) {
        const token = tokenOf(id, nowMs());
        await effects.submit(target, { verb: 'terminate', args: [], token });
        logger.info({ id, target }, 'an orphan is terminated');
      }
      return;
    }
  }
}

function isManaged(machine: SeenWorker): boolean {
  return (
    machine.gone_at === undefined &&
    isCloudSource(machine.source) &&
    machine.tags?.[MANAGED_TAG] !== undefined &&
    phaseOfRecord(machine) !== 'absent'
  );
}

/** The same for an hour: the same command, however often it is asked for. */
function tokenOf(id: string, nowMs: number): string {
  const digest = createHash('sha256').update(id).digest('hex').slice(0, 32);
  return `cr:orphan:${digest}:${Math.floor(nowMs / TERMINATE_AGAIN_MS)}:terminate`;
}
