/** How fresh what is known of a worker is. Pure. */
import { type SeenWorker, type SourceReport, STALE_INTERVALS, type WorkerRecord } from '@carrierarr/protocol';

/** What a worker's freshness is judged by. */
export interface Sight {
  version: number;
  /** Of its source; undefined when that has never reported. */
  report: SourceReport | undefined;
  /** When it was last seen itself (epoch ms), if its source looks at workers one by one. */
  seenMs: number | undefined;
}

/** The record with when it was observed, and whether that is too long ago. A tombstone never is: it does not change. */
export function withFreshness(record: WorkerRecord, { version, report, seenMs }: Sight, nowMs: number): SeenWorker {
  const polledMs = report?.polled_at === undefined ? undefined : Date.parse(report.polled_at);
  const observedMs = seenMs ?? polledMs;
  const seen = { ...record, version, observed_at: new Date(observedMs ?? 0).toISOString() };
  if (record.gone_at !== undefined) return seen;
  const isFresh =
    report?.polled_at !== undefined &&
    observedMs !== undefined &&
    nowMs - observedMs <= STALE_INTERVALS * report.interval_ms;
  if (isFresh) return seen;
  // Never observed has no age.
  if (observedMs === undefined) return { ...seen, stale: true };
  return { ...seen, stale: true, age_seconds: Math.max(0, Math.round((nowMs - observedMs) / 1000)) };
}
