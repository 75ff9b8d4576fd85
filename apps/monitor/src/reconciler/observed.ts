/**
 * What was seen of all workers, in memory, found by target and by tag. The leader is the one who sees, so it need not read
 * back what it published: only what its predecessor had seen, once, when it takes over.
 */
import { type SeenWorker, type SourceReport, STALE_INTERVALS } from '@carrierarr/protocol';
import { hasTags, SCRIPT_SOURCE } from '@carrierarr/reconcile';
import type { StatusChange, StatusSnapshot } from '@carrierarr/store';
import { put, take } from './fleet.js';

/**
 * How old what a predecessor saw may be, ms, where three of its polls are less: the failover of a crashed leader (5 s at
 * most) and the first poll after it.
 */
export const TAKEOVER_MS = 10_000;

/** What a publication changed, for those who have to look again. */
export interface ObservedChange {
  /** Records that are new, changed or gone, as they are now, else as they last were. */
  records: SeenWorker[];
}

export class Observed {
  readonly #byId = new Map<string, SeenWorker>();
  readonly #atTarget = new Map<string, Set<string>>();
  /** `key=value` to ids. Built when somebody first asks by tags, since most installations never do. */
  #byTag: Map<string, Set<string>> | undefined;
  readonly #reports = new Map<string, SourceReport>();
  readonly #seenMs = new Map<string, number>();

  /** Forgets all, and knows a snapshot. `seen`: when workers that are looked at one by one were. */
  load({ workers, sources }: Pick<StatusSnapshot, 'workers' | 'sources'>): void {
    for (const collection of [this.#byId, this.#atTarget, this.#reports, this.#seenMs]) collection.clear();
    this.#byTag = undefined;
    // What a leader saw last before it died still counts while another takes over, however short its intervals were.
    const intervalMsMin = TAKEOVER_MS / STALE_INTERVALS;
    for (const report of sources) {
      const interval_ms = Math.max(report.interval_ms, intervalMsMin);
      this.#reports.set(report.source, { ...report, interval_ms });
    }
    for (const { stale: _, age_seconds: __, ...worker } of workers) {
      // Whether it is stale is judged when it is looked at.
      this.#set(worker);
      if (worker.source === SCRIPT_SOURCE) this.#seenMs.set(worker.id, Date.parse(worker.observed_at));
    }
  }

  /** Takes in what was published as `version`. */
  apply({ report, upserts, removed, seen = {} }: StatusChange, version: number): ObservedChange {
    this.#reports.set(report.source, report);
    const records: SeenWorker[] = [];
    for (const [id, ms] of Object.entries(seen)) this.#seenMs.set(id, ms);
    for (const record of upserts) {
      const seenMs = this.#seenMs.get(record.id);
      // Not always of this report: what an agent says comes between the polls of the source that has its machine.
      const polledAt = this.#reports.get(record.source)?.polled_at;
      const observed_at = seenMs === undefined ? polledAt : new Date(seenMs).toISOString();
      const worker: SeenWorker = { ...record, version, observed_at: observed_at ?? new Date(0).toISOString() };
      const before = this.#byId.get(record.id);
      // The machine may have moved to another target: both have to look.
      if (before !== undefined && before.target !== record.target) records.push(before);
      this.#set(worker);
      records.push(worker);
    }
    for (const id of removed) {
      const before = this.#byId.get(id);
      // As in Redis: a record is its source's to remove.
      if (before === undefined || before.source !== report.source) continue;
      records.push(before);
      this.#delete(id);
    }
    return { records };
  }

  get size(): number {
    return this.#byId.size;
  }

  all(): IterableIterator<SeenWorker> {
    return this.#byId.values();
  }

  get(id: string): SeenWorker | undefined {
    return this.#byId.get(id);
  }

  at(target: string): SeenWorker[] {
    return this.#get(this.#atTarget.get(target) ?? []);
  }

  /** Workers that have all of the tags. */
  withTags(tags: Readonly<Record<string, string>>): SeenWorker[] {
    const pairs = Object.entries(tags);
    if (pairs.length === 0) return [];
    const index = (this.#byTag ??= this.#indexTags());
    const sets = pairs.map(([key, value]) => index.get(`${key}=${value}`) ?? new Set<string>());
    const [smallest] = sets.toSorted((a, b) => a.size - b.size);
    return this.#get(smallest ?? []).filter((worker) => hasTags(worker, tags));
  }

  report(source: string): SourceReport | undefined {
    return this.#reports.get(source);
  }

  /** When a worker that is looked at by itself was last seen, epoch ms. */
  seenMs(id: string): number | undefined {
    return this.#seenMs.get(id);
  }

  #get(ids: Iterable<string>): SeenWorker[] {
    const found: SeenWorker[] = [];
    for (const id of ids) {
      const worker = this.#byId.get(id);
      if (worker !== undefined) found.push(worker);
    }
    return found;
  }

  #set(worker: SeenWorker): void {
    this.#unindex(worker.id);
    this.#byId.set(worker.id, worker);
    put(this.#atTarget, worker.target, worker.id);
    if (this.#byTag !== undefined) for (const pair of tagsOf(worker)) put(this.#byTag, pair, worker.id);
  }

  #delete(id: string): void {
    this.#unindex(id);
    this.#byId.delete(id);
    this.#seenMs.delete(id);
  }

  #unindex(id: string): void {
    const before = this.#byId.get(id);
    if (before === undefined) return;
    take(this.#atTarget, before.target, id);
    if (this.#byTag !== undefined) for (const pair of tagsOf(before)) take(this.#byTag, pair, id);
  }

  #indexTags(): Map<string, Set<string>> {
    const index = new Map<string, Set<string>>();
    for (const worker of this.#byId.values()) for (const pair of tagsOf(worker)) put(index, pair, worker.id);
    return index;
  }
}

function tagsOf({ tags = {} }: SeenWorker): string[] {
  return Object.entries(tags).map(([key, value]) => `${key}=${value}`);
}
