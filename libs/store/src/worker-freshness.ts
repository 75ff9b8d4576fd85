/** How fresh what is known of a worker is. Pure. */
import { type SeenWorker, type SourceReport, STALE_INTERVALS, type WorkerRecord } from '@carrierarr/protocol';

/** What a worker's freshness is judged by. */
export interface Sight {
  /** Of its source; undefined when that has never reported. */
  report: SourceReport | undefined;
  /** When it was last seen itself (epoch ms), if its source looks at workers one by one. */
  seenMs: number | undefined;
}

/** When it was observed, and whether that is too long ago: the fields of a {@link SeenWorker} that time alone changes. */
export type Freshness = Pick<SeenWorker, 'observed_at' | 'stale' | 'age_seconds'>;

/** A tombstone is never stale: it does not change. */
export function freshnessOf(
  { gone_at }: Pick<WorkerRecord, 'gone_at'>,
  { report, seenMs }: Sight,
  nowMs: number,
): Freshness {
  const polledMs = report?.polled_at === undefined ? undefined : Date.parse(report.polled_at);
  const observedMs = seenMs ?? polledMs;
  const observed_at = new Date(observedMs ?? 0).toISOString();
  if (gone_at !== undefined) return { observed_at };
  const isFresh =
    report?.polled_at !== undefined &&
    observedMs !== undefined &&
    nowMs - observedMs <= STALE_INTERVALS * report.interval_ms;
  if (isFresh) return { observed_at };
  // Never observed has no age.
  if (observedMs === undefined) return { observed_at, stale: true };
  return { observed_at, stale: true, age_seconds: Math.max(0, Math.round((nowMs - observedMs) / 1000)) };
}

/** The record of a version with how fresh it is. */
export function withFreshness(
  record: WorkerRecord,
  { version, ...sight }: Sight & { version: number },
  nowMs: number,
): SeenWorker {
  return { ...record, version, ...freshnessOf(record, sight, nowMs) };
}
