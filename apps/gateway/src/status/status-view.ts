/**
 * The workers as this gateway knows them. Freshness is not part of a record, for it changes by time alone: it is
 * judged when somebody asks, by what the sources last reported. No I/O.
 */
import type { SeenWorker, SourceReport, StatusPoint, WorkerRecord } from '@carrierarr/protocol';
import { type Sight, type StatusDelta, type StatusReports, withFreshness } from '@carrierarr/store';
import { KnownWorker, Moment, type Row } from './worker-rows.js';

/** What of workers changed between two points. */
export interface Step {
  from: StatusPoint;
  to: StatusPoint;
  changed: string[];
  removed: string[];
}

export class StatusView {
  readonly #workers = new Map<string, KnownWorker>();
  /** Ids by target: each command for an agent asks, and there may be thousands of workers. */
  readonly #atTarget = new Map<string, Set<string>>();
  /** All ids, in order; undefined after some came or went. */
  #order: readonly string[] | undefined;
  #reports: StatusReports = { sources: [], seenMs: new Map() };
  #sourceOf = new Map<string, SourceReport>();
  #stale = new Set<string>();
  #point: StatusPoint | undefined;

  /** Undefined until there is anything. */
  get point(): StatusPoint | undefined {
    return this.#point;
  }

  get sources(): readonly SourceReport[] {
    return this.#reports.sources;
  }

  /** Takes what the store told. Returns the step it was, or `everything` when that is no step from what was known. */
  apply(delta: StatusDelta): Step | 'everything' | 'nothing' {
    const from = this.#point;
    const { epoch, version } = delta;
    this.#point = { epoch, version };
    if (delta.full) {
      this.#workers.clear();
      this.#atTarget.clear();
    }
    const isSameSet =
      !delta.full && delta.removed.length === 0 && delta.workers.every(({ id }) => this.#workers.has(id));
    if (!isSameSet) this.#order = undefined;
    for (const id of delta.removed) this.#delete(id);
    for (const worker of delta.workers) this.#set(knownOf(worker));
    if (delta.full || from === undefined) return 'everything';
    if (from.version === version) return 'nothing';
    return { from, to: { epoch, version }, changed: delta.workers.map(({ id }) => id), removed: delta.removed };
  }

  /** Takes what sources said last. */
  hear(reports: StatusReports): void {
    this.#reports = reports;
    this.#sourceOf = new Map(reports.sources.map((report) => [report.source, report]));
  }

  /** Judges freshness. Ids of the workers that have turned stale or fresh since this was last asked. */
  judge(nowMs: number): string[] {
    const stale = new Set<string>();
    const moment = new Moment(nowMs);
    for (const [id, { record }] of this.#workers)
      if (moment.freshnessOf(record, this.#sightOf(record)).stale) stale.add(id);
    const before = this.#stale;
    this.#stale = stale;
    // Who came or went is news by itself.
    const turned = [...stale].filter((id) => !before.has(id));
    for (const id of before) if (!stale.has(id) && this.#workers.has(id)) turned.push(id);
    return turned;
  }

  /** All, by id, with how fresh they are now; `gone`: also those that have vanished. */
  workers(nowMs: number, { gone }: { gone: boolean }): SeenWorker[] {
    return this.some(this.#ids(), nowMs).filter((worker) => gone || !worker.gone_at);
  }

  /** The same as JSON. */
  rows(nowMs: number, { gone }: { gone: boolean }): Row[] {
    const moment = new Moment(nowMs);
    const rows: Row[] = [];
    for (const id of this.#ids()) {
      const known = this.#workers.get(id);
      if (known === undefined || (!gone && known.record.gone_at)) continue;
      const { record, head } = known;
      rows.push({ head, tail: moment.tailOf(record, this.#sightOf(record)) });
    }
    return rows;
  }

  /** Those of the ids that are known. */
  some(ids: readonly string[], nowMs: number): SeenWorker[] {
    return ids.map((id) => this.#seen(id, nowMs)).filter((worker) => worker !== undefined);
  }

  /** What is known of a worker, unless it has vanished. */
  record(id: string): WorkerRecord | undefined {
    const record = this.#workers.get(id)?.record;
    return record?.gone_at === undefined ? record : undefined;
  }

  /** Those with a target, but for the vanished. */
  withTarget(target: string): WorkerRecord[] {
    const ids = [...(this.#atTarget.get(target) ?? [])];
    return ids.map((id) => this.record(id)).filter((record) => record !== undefined);
  }

  /** Those that this is true of, but for the vanished. */
  where(isWanted: (record: WorkerRecord) => boolean): WorkerRecord[] {
    const found: WorkerRecord[] = [];
    for (const { record } of this.#workers.values())
      if (record.gone_at === undefined && isWanted(record)) found.push(record);
    return found;
  }

  /** Nobody is known who has not vanished. */
  get isEmpty(): boolean {
    for (const { record } of this.#workers.values()) if (record.gone_at === undefined) return false;
    return true;
  }

  #set(known: KnownWorker): void {
    const { id, target } = known.record;
    const before = this.#workers.get(id)?.record.target;
    if (before !== undefined && before !== target) this.#delete(id);
    this.#workers.set(id, known);
    const there = this.#atTarget.get(target);
    if (there === undefined) this.#atTarget.set(target, new Set([id]));
    else there.add(id);
  }

  #delete(id: string): void {
    const target = this.#workers.get(id)?.record.target;
    this.#workers.delete(id);
    if (target === undefined) return;
    const there = this.#atTarget.get(target);
    there?.delete(id);
    if (there?.size === 0) this.#atTarget.delete(target);
  }

  #ids(): readonly string[] {
    return (this.#order ??= [...this.#workers.keys()].toSorted());
  }

  #seen(id: string, nowMs: number): SeenWorker | undefined {
    const known = this.#workers.get(id);
    if (known === undefined) return undefined;
    const { record, version } = known;
    return withFreshness(record, { version, ...this.#sightOf(record) }, nowMs);
  }

  #sightOf({ id, source }: WorkerRecord): Sight {
    return { report: this.#sourceOf.get(source), seenMs: this.#reports.seenMs.get(id) };
  }
}

function knownOf(worker: SeenWorker): KnownWorker {
  const { version, observed_at: _observed, stale: _stale, age_seconds: _age, ...record } = worker;
  // A loose object: what is left is the record, other fields that a newer monitor wrote included.
  return new KnownWorker(record, version);
}
