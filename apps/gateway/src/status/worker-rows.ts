/**
 * The rows of the document of all workers as JSON. It goes to every client of today whenever anything has changed, thousands
 * of rows, so what of a row does not change with time is encoded once, also as it stands in the string that a `status`
 * message holds.
 */
import type { SourceReport, WorkerRecord } from '@carrierarr/protocol';
import { type Freshness, freshnessOf, type Sight } from '@carrierarr/store';

/** A piece of JSON. */
export interface JsonPiece {
  plain: string;
  /** As it stands within a JSON string. */
  escaped: string;
}

export function jsonPiece(plain: string): JsonPiece {
  return { plain, escaped: JSON.stringify(plain).slice(1, -1) };
}

/** A row in two pieces: `head` is the worker's, `tail` the same for all that were observed at the same time. */
export interface Row {
  head: JsonPiece;
  tail: JsonPiece;
}

/** A version of a record, as this gateway knows it. */
export class KnownWorker {
  readonly record: WorkerRecord;
  readonly version: number;
  #head: JsonPiece | undefined;

  constructor(record: WorkerRecord, version: number) {
    this.record = record;
    this.version = version;
  }

  /** Its row but for freshness, with the brace still open. */
  get head(): JsonPiece {
    const { record, version } = this;
    return (this.#head ??= jsonPiece(JSON.stringify({ ...record, version }).slice(0, -1)));
  }
}

/** How fresh workers are at one moment, worked out once for all that one source has looked at together. */
export class Moment {
  readonly #nowMs: number;
  readonly #ofReport = new Map<SourceReport | undefined, Freshness>();
  readonly #tails = new Map<Freshness, JsonPiece>();

  constructor(nowMs: number) {
    this.#nowMs = nowMs;
  }

  freshnessOf(record: WorkerRecord, sight: Sight): Freshness {
    // Seen by itself, or gone: unlike the others.
    if (sight.seenMs !== undefined || record.gone_at !== undefined) return freshnessOf(record, sight, this.#nowMs);
    const known = this.#ofReport.get(sight.report) ?? freshnessOf(record, sight, this.#nowMs);
    this.#ofReport.set(sight.report, known);
    return known;
  }

  /** As the end of a row. */
  tailOf(record: WorkerRecord, sight: Sight): JsonPiece {
    const freshness = this.freshnessOf(record, sight);
    const made = this.#tails.get(freshness) ?? jsonPiece(`,${JSON.stringify(freshness).slice(1)}`);
    this.#tails.set(freshness, made);
    return made;
  }
}
