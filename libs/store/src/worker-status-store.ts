/**
 * The status of all workers, as the leading monitor writes it and everybody reads it.
 *
 * Each record has the version of the status at its last change, and removals are remembered with theirs, so a reader
 * that knows a point (epoch, version) gets only what changed since. That nothing changed costs one small write a
 * poll: when a worker was last observed is not in its record, but in the report of its source.
 */
import { randomBytes } from 'node:crypto';
import type { Keys, SeenWorker, SourceReport, StatusPoint, WorkerRecord } from '@carrierarr/protocol';
import { sourceReportSchema, workerRecordSchema } from '@carrierarr/protocol';
import { callScript, type RedisConnection } from './connection.js';
import { refuseDeposed } from './leadership.js';
import { Rests } from './slices.js';
import { replies } from './transaction.js';
import { withFreshness } from './worker-freshness.js';

/** Records of one call: bounds how long Redis is busy with it. */
const RECORDS_PER_CALL_MAX = 1_000;
/** Records that are made of their texts at once: more would hold up everything else that the process does. */
const RECORDS_PER_SLICE = 25;
/** Removals remembered; who knows only an older point gets everything. */
export const REMOVALS_MAX = 50_000;

export interface StatusSnapshot extends StatusPoint {
  workers: SeenWorker[];
  sources: SourceReport[];
}

export interface StatusDelta extends StatusPoint {
  /** `workers` are all there are, and `removed` is empty. */
  full: boolean;
  workers: SeenWorker[];
  removed: string[];
}

/** What sources said last, which comes without a new version. */
export interface StatusReports {
  sources: readonly SourceReport[];
  /** Worker id to when it was last seen (epoch ms), of sources that look at workers one by one. */
  seenMs: ReadonlyMap<string, number>;
}

/** What one poll of one source changes. */
export interface StatusChange {
  report: SourceReport;
  /** New and changed records. One that is stored already as it is changes nothing. */
  upserts: WorkerRecord[];
  /** Ids to forget. */
  removed: string[];
  /** Worker id to when it was seen (epoch ms), from a source that looks at them one by one. */
  seen?: Record<string, number>;
}

export class WorkerStatusStore {
  readonly #connection: RedisConnection;
  readonly #keys: Keys;

  constructor({ connection, keys }: { connection: RedisConnection; keys: Keys }) {
    this.#connection = connection;
    this.#keys = keys;
  }

  /**
   * Writes one poll of one source and says on the channel, once, that there is news (also when only the report is).
   * Returns the new version. Throws {@link DeposedError}. A large poll is written in parts, its report last: after a
   * failure some of the records may be written, so publish them again.
   */
  async publish(fence: number, { report, upserts, removed, seen = {} }: StatusChange): Promise<number> {
    const steps: [what: string, id: string, value: string | number][] = [];
    for (const record of upserts) steps.push(['upsert', record.id, JSON.stringify(record)]);
    for (const [id, ms] of Object.entries(seen)) steps.push(['seen', id, ms]);
    for (const id of removed) steps.push(['remove', id, '']);
    const epoch = randomBytes(8).toString('hex');
    for (let i = 0; ; i += RECORDS_PER_CALL_MAX) {
      const isLast = i + RECORDS_PER_CALL_MAX >= steps.length;
      const reply = await callScript(this.#connection, 'carrierarrPublishStatus', [
        this.#keys.leader(),
        this.#keys.workers(),
        this.#keys.workerVersions(),
        this.#keys.removedWorkers(),
        this.#keys.workersSeen(),
        this.#keys.statusMeta(),
        this.#keys.sources(),
        fence,
        epoch,
        REMOVALS_MAX,
        report.source,
        isLast ? JSON.stringify(report) : '',
        isLast ? this.#keys.statusChannel() : '',
        ...steps.slice(i, i + RECORDS_PER_CALL_MAX).flat(),
      ]);
      refuseDeposed(fence, reply);
      if (isLast) return Number(reply[1]);
    }
  }

  /**
   * Forgets the reports of all sources but these: one that nobody polls any more would make what it might know uncertain
   * for ever. Throws {@link DeposedError}.
   */
  async keepSources(fence: number, sources: readonly string[]): Promise<void> {
    const keys = [this.#keys.leader(), this.#keys.sources()];
    refuseDeposed(fence, await callScript(this.#connection, 'carrierarrKeepSources', [...keys, fence, ...sources]));
  }

  /** Everything, workers sorted by id. A record that cannot be read is left out. Before the first write: epoch ''. */
  async read(nowMs: number): Promise<StatusSnapshot> {
    const [meta, records, versions, reports, seen] = await replies<
      [(string | null)[], Record<string, string>, string[], Record<string, string>, Record<string, string>]
    >(
      this.#connection
        .multi()
        .hmget(this.#keys.statusMeta(), 'epoch', 'version')
        .hgetall(this.#keys.workers())
        .zrangebyscore(this.#keys.workerVersions(), '-inf', '+inf', 'WITHSCORES')
        .hgetall(this.#keys.sources())
        .hgetall(this.#keys.workersSeen()),
    );
    const sources = sourcesOf(reports);
    const reportOf = new Map(sources.map((report) => [report.source, report]));
    const versionOf = pairs(versions);
    // Workers may be called anything, also what every object has, such as `constructor`.
    const seenOf = new Map(Object.entries(seen));
    const workers: SeenWorker[] = [];
    const rests = new Rests();
    for (const [i, id] of Object.keys(records).toSorted().entries()) {
      if (i > 0 && i % RECORDS_PER_SLICE === 0) await rests.next();
      const record = parsed(workerRecordSchema, records[id]);
      if (record === undefined) continue;
      const sight = {
        version: versionOf.get(id) ?? 0,
        report: reportOf.get(record.source),
        seenMs: msOf(seenOf.get(id)),
      };
      workers.push(withFreshness(record, sight, nowMs));
    }
    return { epoch: meta[0] ?? '', version: Number(meta[1] ?? 0), workers, sources };
  }

  /** What changed after a point, oldest change first; everything when the point is of another epoch or too old. */
  async changesSince(point: StatusPoint | undefined, nowMs: number): Promise<StatusDelta> {
    if (point === undefined) return this.#everything(nowMs);
    const after = `(${point.version}`;
    const [meta, changed, removed, reports] = await replies<
      [(string | null)[], string[], string[], Record<string, string>]
    >(
      this.#connection
        .multi()
        .hmget(this.#keys.statusMeta(), 'epoch', 'version', 'floor')
        .zrangebyscore(this.#keys.workerVersions(), after, '+inf', 'WITHSCORES')
        .zrangebyscore(this.#keys.removedWorkers(), after, '+inf')
        .hgetall(this.#keys.sources()),
    );
    const [epoch, version, floor] = [meta[0] ?? '', Number(meta[1] ?? 0), Number(meta[2] ?? 0)];
    if (epoch !== point.epoch || point.version > version || point.version < floor) return this.#everything(nowMs);
    const reportOf = new Map(sourcesOf(reports).map((report) => [report.source, report]));
    const versionOf = pairs(changed);
    const ids = [...versionOf.keys()];
    const workers: SeenWorker[] = [];
    const rests = new Rests();
    if (ids.length > 0) {
      // Read a moment later. What changed or went in between has a later version, and is told with the next delta.
      const [texts, seen] = await Promise.all([
        this.#connection.hmget(this.#keys.workers(), ...ids),
        this.#connection.hmget(this.#keys.workersSeen(), ...ids),
      ]);
      for (const [i, id] of ids.entries()) {
        if (i > 0 && i % RECORDS_PER_SLICE === 0) await rests.next();
        const record = parsed(workerRecordSchema, texts[i]);
        if (record === undefined) continue;
        const sight = { version: versionOf.get(id) ?? 0, report: reportOf.get(record.source), seenMs: msOf(seen[i]) };
        workers.push(withFreshness(record, sight, nowMs));
      }
    }
    return { epoch, version, full: false, workers, removed };
  }

  /**
   * What sources last reported: little, and read often, where the workers are many and seldom change. A report that
   * cannot be read is left out: its workers then are stale.
   */
  async reports(): Promise<StatusReports> {
    const [reports, seen] = await Promise.all([
      this.#connection.hgetall(this.#keys.sources()),
      this.#connection.hgetall(this.#keys.workersSeen()),
    ]);
    return { sources: sourcesOf(reports), seenMs: new Map(Object.entries(seen).map(([id, ms]) => [id, Number(ms)])) };
  }

  async #everything(nowMs: number): Promise<StatusDelta> {
    const { epoch, version, workers } = await this.read(nowMs);
    return { epoch, version, full: true, workers, removed: [] };
  }
}

function sourcesOf(reports: Record<string, string>): SourceReport[] {
  return Object.keys(reports)
    .toSorted()
    .map((source) => parsed(sourceReportSchema, reports[source]))
    .filter((report) => report !== undefined);
}

/** Members and scores as WITHSCORES replies them. */
function pairs(flat: readonly string[]): Map<string, number> {
  const map = new Map<string, number>();
  for (let i = 0; i + 1 < flat.length; i += 2) map.set(flat[i] as string, Number(flat[i + 1]));
  return map;
}

function msOf(text: string | null | undefined): number | undefined {
  return text == null ? undefined : Number(text);
}

interface Parser<T> {
  safeParse(value: unknown): { data?: T | undefined };
}

function parsed<T>(schema: Parser<T>, text: string | null | undefined): T | undefined {
  if (text == null) return undefined;
  try {
    return schema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
