/**
 * Events that wait to be recorded, one at a time and in order: what people are told must not hold up what is done. A
 * burst of commands comes first, and its events after it.
 */
import type { ResourceKind } from '@carrierarr/protocol';
import type { PlannedEvent } from '@carrierarr/reconcile';

/** Events that wait at most; what is more is not told, and counted. */
export const EVENTS_WAITING_MAX = 50_000;

interface Told {
  kind: ResourceKind;
  name: string;
  event: PlannedEvent;
}

export interface TellingOptions {
  /** Never rejects. */
  record: (kind: ResourceKind, name: string, event: PlannedEvent) => Promise<void>;
  /** Nothing is told any more. */
  signal: AbortSignal;
  onDropped: () => void;
  waitingMax?: number;
}

export class Telling {
  readonly #o: TellingOptions;
  readonly #waiting: Told[] = [];
  #isTelling = false;

  constructor(options: TellingOptions) {
    this.#o = options;
  }

  add(kind: ResourceKind, name: string, events: readonly PlannedEvent[]): void {
    const { waitingMax = EVENTS_WAITING_MAX, onDropped } = this.#o;
    for (const event of events) {
      if (this.#waiting.length >= waitingMax) onDropped();
      else this.#waiting.push({ kind, name, event });
    }
    if (!this.#isTelling) void this.#tell();
  }

  async #tell(): Promise<void> {
    this.#isTelling = true;
    // A batch is taken as a whole: taking the first of many is not cheap.
    while (this.#waiting.length > 0 && !this.#o.signal.aborted) {
      for (const { kind, name, event } of this.#waiting.splice(0)) {
        if (this.#o.signal.aborted) break;
        await this.#o.record(kind, name, event);
      }
    }
    this.#isTelling = false;
  }
}
