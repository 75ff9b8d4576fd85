/**
 * The port between whoever knows of workers (a cloud, a script) and whoever keeps their status.
 *
 * A poll is all or nothing: it returns what the source has, complete, or throws. There is no third way, because what a
 * partial answer leaves out would look like workers that are gone.
 */
import type { SeenWorker, WorkerRecord } from '@carrierarr/protocol';

/** Most workers of one source: a filter that matches more is taken for a mistake, and memory stays bounded. */
export const SOURCE_WORKERS_MAX = 50_000;

export interface PollResult {
  readonly kind: 'complete';
  /** Every worker the source has now, once each. */
  readonly records: readonly WorkerRecord[];
  /** API calls made, retries included. */
  readonly calls: number;
  /** For workers that are looked at one by one: when each was seen last, epoch ms. */
  readonly seenAtMs?: Readonly<Record<string, number>>;
  /** Something that is wrong, though the answer is complete: what, and what to do. */
  readonly warning?: string;
}

export interface Source {
  /** Such as `ec2/eu-central-1`; the `source` of its records. */
  readonly name: string;
  /** False when what it does not list any more is of no interest: then nothing is kept of it. */
  readonly hasTombstones: boolean;
  /** Something happens to a target: a source that looks at targets one by one looks at this one in each poll for a while. */
  expectChange?(target: string): void;
  /** Resolves with all workers or throws, {@link SourceError} if it knows why. Never called twice at once. */
  poll(signal: AbortSignal): Promise<PollResult>;
}

/** A poll that failed. The message says what happened and what to do. */
export class SourceError extends Error {
  override readonly name = 'SourceError';
  /** API calls made until then. */
  readonly calls: number;

  constructor(message: string, options: { calls: number; cause?: unknown }) {
    super(message, options);
    this.calls = options.calls;
  }
}

/** Throws when a source has more workers than anybody meant it to have. */
export function checkWorkerCount(count: number, source: string, calls: number, advice: string): void {
  if (count <= SOURCE_WORKERS_MAX) return;
  throw new SourceError(`${source} has more than ${SOURCE_WORKERS_MAX} workers. ${advice}`, { calls });
}

/** What a source once said of a worker, out of what was published of it. */
export function recordOf(worker: SeenWorker): WorkerRecord {
  const { version: _, observed_at: __, stale: ___, age_seconds: ____, ...record } = worker;
  return record;
}
