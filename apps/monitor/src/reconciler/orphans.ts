/**
 * Machines that are tagged as ours and that no Worker owns: made by a command whose Worker is gone, or left behind when a
 * Worker was deleted as an orphan. They cost money and nobody looks after them, so they are listed, for any gateway to
 * show; terminated only when that was asked for (`--gc-orphans`), and then carefully: only what two polls showed so, by
 * the same queue as everything else, a fifth of all machines at once at most, none whose target a machine shares that is
 * no orphan (the command would end both), and none while there is not a single Worker, since then it is more likely that
 * the Workers were lost than that all machines were.
 */
import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from '@carrierarr/platform';
import { MANAGED_TAG, type Orphan, type SeenWorker } from '@carrierarr/protocol';
import { isCloudSource, phaseOfRecord } from '@carrierarr/reconcile';
import { DeposedError, type OrphanStore } from '@carrierarr/store';
import type { Effects } from './effects.js';
import type { Fleet } from './fleet.js';
import type { ReconcileMetrics } from './metrics.js';
import type { Observed } from './observed.js';

/** Complete polls of its source that must show a machine as an orphan before it is terminated. */
export const POLLS_UNTIL_TERMINATED = 2;
/** Share of the managed machines that may be on their way out at once; one may always be. */
export const TERMINATED_SHARE = 0.2;
/** Between two commands for one orphan, ms: by then the last one has had its effect, or has none. */
export const TERMINATE_AGAIN_MS = 3_600_000;

/** A machine that was seen to be an orphan. */
interface Found {
  machine: SeenWorker;
  since: string;
  /** Complete polls that showed it so, and when the last of them began. */
  polls: number;
  polledAt: string | undefined;
  /** Its `terminate`. */
  given: { atMs: number; execution: string } | undefined;
}

type Fate = Pick<Orphan, 'termination' | 'message' | 'terminate_after' | 'given_at' | 'execution'>;

export interface OrphansOptions {
  fence: number;
  fleet: Fleet;
  observed: Observed;
  store: Pick<OrphanStore, 'read' | 'write'>;
  effects: Pick<Effects, 'submit' | 'tell'>;
  /** Terminate them. */
  isCollecting: boolean;
  nowMs: () => number;
  metrics: Pick<ReconcileMetrics, 'orphans'>;
  logger: Pick<Logger, 'info' | 'warn'>;
}

export class Orphans {
  readonly #o: OrphansOptions;
  #known = new Map<string, Found>();
  /** As they are in Redis; undefined until that was read. */
  #written: Map<string, Orphan> | undefined;
  #looking: Promise<void> | undefined;
  #again = false;

  constructor(options: OrphansOptions) {
    this.#o = options;
  }

  /** Looks for them after a complete poll; terminates those that are due. Rejects if Redis does; the next look makes up. */
  async look(): Promise<void> {
    if (this.#looking !== undefined) {
      this.#again = true;
      return this.#looking;
    }
    this.#looking = this.#lookUntilDone().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #lookUntilDone(): Promise<void> {
    do {
      this.#again = false;
      await this.#look();
    } while (this.#again);
  }

  async #look(): Promise<void> {
    const { observed, store, metrics } = this.#o;
    const written = (this.#written ??= await store.read());
    const managed = [...observed.all()].filter(isManaged);
    const before = this.#known;
    this.#known = new Map();
    for (const machine of managed) {
      if (this.#isOwned(machine)) continue;
      this.#known.set(machine.id, this.#seen(machine, before.get(machine.id), written.get(machine.id)));
    }
    metrics.orphans.set(this.#known.size);
    const chosen = await this.#collect(managed.length);
    await this.#write(written, new Map([...this.#known].map(([id, found]) => [id, this.#orphanOf(found, chosen)])));
  }

  #isOwned({ target, tags }: SeenWorker): boolean {
    const { fleet } = this.#o;
    for (const _ of fleet.namesAt(target)) return true;
    for (const _ of fleet.namesSelecting(tags)) return true;
    return false;
  }

  /** `inherited`: what the leader before this one wrote. Its polls do not count, only what it did. */
  #seen(machine: SeenWorker, before: Found | undefined, inherited: Orphan | undefined): Found {
    const polledAt = this.#o.observed.report(machine.source)?.polled_at;
    if (before !== undefined) {
      const isNewPoll = before.polledAt !== polledAt;
      return { ...before, machine, polledAt, polls: before.polls + (isNewPoll ? 1 : 0) };
    }
    const {
      since = polledAt ?? new Date(this.#o.nowMs()).toISOString(),
      given_at: givenAt,
      execution,
    } = inherited ?? {};
    const given = givenAt && execution ? { atMs: Date.parse(givenAt), execution } : undefined;
    return { machine, since, polledAt, polls: 1, given };
  }

  // --- ending them -----------------------------------------------------------------------------------------------

  /** Gives the commands that are due. Returns the ids of those that are on their way out. */
  async #collect(managed: number): Promise<ReadonlySet<string>> {
    const { isCollecting } = this.#o;
    if (!isCollecting || !this.#hasWorkers) return new Set();
    const most = Math.max(1, Math.floor(managed * TERMINATED_SHARE));
    // By id: the same ones are chosen again until they are gone, by whoever leads then.
    const due = [...this.#known.values()]
      .filter((found) => found.polls >= POLLS_UNTIL_TERMINATED && this.#sharing(found) === undefined)
      .toSorted((a, b) => (a.machine.id < b.machine.id ? -1 : 1))
      .slice(0, most);
    for (const found of due) await this.#terminate(found);
    return new Set(due.map(({ machine }) => machine.id));
  }

  async #terminate(found: Found): Promise<void> {
    const { effects, logger, nowMs } = this.#o;
    const { id, target } = found.machine;
    const hour = hourOf(nowMs());
    if (found.given !== undefined && hourOf(found.given.atMs) === hour) return;
    try {
      const token = tokenOf(id, hour);
      const { execution } = await effects.submit(target, { verb: 'terminate', args: [], token });
      found.given = { atMs: nowMs(), execution };
      logger.info({ id, target, execution }, 'an orphan is terminated');
    } catch (error) {
      if (error instanceof DeposedError) throw error;
      // A queue that is full; the others need not wait for it.
      logger.warn({ id, target, err: error }, 'the terminate of an orphan was not taken; the next poll tries again');
    }
  }

  get #hasWorkers(): boolean {
    for (const _ of this.#o.fleet.workers()) return true;
    return false;
  }

  /** A machine of the same target that is no orphan: the command goes to the target, and would end it, too. */
  #sharing({ machine }: Found): SeenWorker | undefined {
    return this.#o.observed
      .at(machine.target)
      .find((other) => !this.#known.has(other.id) && phaseOfRecord(other) !== 'absent');
  }

  // --- telling of them -------------------------------------------------------------------------------------------

  async #write(before: Map<string, Orphan>, after: Map<string, Orphan>): Promise<void> {
    const { store, fence } = this.#o;
    const upserts = [...after.values()].filter((orphan) => !isDeepStrictEqual(before.get(orphan.id), orphan));
    const removed = [...before.keys()].filter((id) => !after.has(id));
    if (upserts.length + removed.length === 0) return;
    const found = upserts.filter(({ id }) => !before.has(id));
    await store.write(fence, upserts, removed);
    this.#written = after;
    for (const orphan of found) this.#report(orphan);
  }

  #report({ id, target, source, state, message: fate }: Orphan): void {
    const { logger, effects } = this.#o;
    logger.warn({ id, target, source, state }, `a machine of ours belongs to no Worker. ${fate}`);
    const message = `${id} (${source}, ${state}) is tagged ${MANAGED_TAG} and belongs to no Worker. ${fate}`;
    effects.tell('Worker', target, [{ type: 'Warning', reason: 'Orphaned', message }]);
  }

  #orphanOf(found: Found, chosen: ReadonlySet<string>): Orphan {
    const { id, target, mapped_by, name, instance_type, source, state } = found.machine;
    return {
      ...{ id, target, mapped_by, source, state, since: found.since },
      ...(name !== undefined && { name }),
      ...(instance_type !== undefined && { instance_type }),
      reason: `It is tagged ${MANAGED_TAG}, no Worker has its target (by ${mapped_by}), and none selects its tags.`,
      ...this.#fateOf(found, chosen.has(id)),
    };
  }

  /** Holds no counts, and no times that move: it would be written again at each poll. */
  #fateOf(found: Found, isChosen: boolean): Fate {
    const { isCollecting, observed } = this.#o;
    const { polls, polledAt, given, machine } = found;
    if (!isCollecting) {
      const advice = 'Make a Worker of it, terminate it, or start the monitors with --gc-orphans';
      return { termination: 'off', message: `It stays: ${advice}.` };
    }
    if (given !== undefined) {
      const { atMs, execution } = given;
      const message = `Its terminate was given (execution ${execution}); once more after an hour, if it is still there.`;
      return { termination: 'given', message, given_at: new Date(atMs).toISOString(), execution };
    }
    if (!this.#hasWorkers)
      return { termination: 'held', message: 'None is terminated while there is no Worker at all: they may be lost.' };
    const sharing = this.#sharing(found);
    if (sharing !== undefined) {
      const text = `${sharing.id} has its target, too, and is no orphan: a terminate would end both. End it by hand.`;
      return { termination: 'held', message: text };
    }
    if (polls < POLLS_UNTIL_TERMINATED) {
      const intervalMs = observed.report(machine.source)?.interval_ms ?? 0;
      const nextMs = Date.parse(polledAt ?? found.since) + intervalMs;
      const message = 'It is terminated when a second complete poll shows it so.';
      return { termination: 'waiting', message, terminate_after: new Date(nextMs).toISOString() };
    }
    const message = isChosen
      ? 'Its terminate is to be given; its queue did not take it yet.'
      : 'It is terminated when others are gone: at most a fifth of all machines go at once.';
    return { termination: 'waiting', message };
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

function hourOf(ms: number): number {
  return Math.floor(ms / TERMINATE_AGAIN_MS);
}

/** The same for an hour: the same command, however often it is asked for. */
function tokenOf(id: string, hour: number): string {
  const digest = createHash('sha256').update(id).digest('hex').slice(0, 32);
  return `cr:orphan:${digest}:${hour}:terminate`;
}
