/**
 * The rows of the document of all workers as JSON. It goes to every client of today whenever anything has changed, thousands
 * of rows, so what of a row does not change with time is encoded once, also as it stands in the string that a `status`
 * message holds.
 */
import type { WorkerRecord } from '@carrierarr/protocol';
import type { Freshness } from '@carrierarr/store';

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

/** Encodes freshness, each once. */
export class Tails {
  readonly #made = new Map<string, JsonPiece>();

  of(freshness: Freshness): JsonPiece {
    const plain = `,${JSON.stringify(freshness).slice(1)}`;
    const made = this.#made.get(plain) ?? jsonPiece(plain);
    this.#made.set(plain, made);
    return made;
  }
}
