/**
 * What is said of the workers, each text made once for all that need the same: the document of all workers, all of them
 * with their point, what one step changed, what changed since a point, and who has turned stale or fresh, which changes
 * no version.
 */
import type { Clock } from '@carrierarr/platform';
import type { StatusPoint } from '@carrierarr/protocol';
import type { StatusDelta } from '@carrierarr/store';
import { timestampOf } from '../delivery/encode.js';
import { documentText, statusFrame, workersFrame } from './encode.js';
import type { StatusMetrics } from './status-metrics.js';
import type { StatusView, Step } from './status-view.js';
import type { Row } from './worker-rows.js';

/** A document is at most this old when it is used for many that come at once, ms. */
export const DOCUMENT_AGE_MS_MAX = 1_000;
/** Points whose changes are looked up at once, and that are remembered. */
const CATCH_UPS_MAX = 64;
/** Changes of freshness remembered. */
const TURNS_MAX = 16;

/** All that a client of `workers` has to be told, up to a point. */
export interface Told {
  frame: Buffer;
  point: StatusPoint;
  /** The state of freshness that all of it tells of; undefined where it tells of what changed only. */
  freshness: number | undefined;
}

interface Document {
  state: number;
  atMs: number;
  timestamp: string;
  rows: readonly Row[];
  text: string | undefined;
  frame: Buffer | undefined;
}

export interface StatusTextsOptions {
  view: StatusView;
  clock: Clock;
  changesSince(point: StatusPoint): Promise<StatusDelta>;
  metrics: Pick<StatusMetrics, 'encoded'>;
}

export class StatusTexts {
  readonly #o: StatusTextsOptions;
  /** Grows with each change, of freshness too. */
  #state = 0;
  #freshness = 0;
  /** Who turned stale or fresh, by the last changes of freshness, the newest last. */
  readonly #turns: (readonly string[])[] = [];
  /** By the state of freshness that a client knows: what it has to be told of that. */
  readonly #turned = new Map<number, Buffer>();
  #document: Document | undefined;
  #full: { state: number; frame: Buffer } | undefined;
  #step: { step: Step; frame: Buffer | undefined } | undefined;
  readonly #catchUps = new Map<string, Promise<Told>>();
  #catchingUp = 0;

  constructor(options: StatusTextsOptions) {
    this.#o = options;
  }

  /** Grows with each change, of freshness too. */
  get state(): number {
    return this.#state;
  }

  /** Grows with each change of freshness. */
  get freshness(): number {
    return this.#freshness;
  }

  /** Workers have changed. */
  changed(step: Step | 'everything'): void {
    this.#state += 1;
    this.#step = step === 'everything' ? undefined : { step, frame: undefined };
    this.#forget();
  }

  /** These workers have turned stale or fresh. */
  freshnessChanged(turned: readonly string[]): void {
    this.#state += 1;
    this.#freshness += 1;
    this.#turns.push(turned);
    if (this.#turns.length > TURNS_MAX) this.#turns.shift();
    this.#forget();
  }

  #forget(): void {
    this.#catchUps.clear();
    this.#turned.clear();
  }

  /** `mayLag`: one of the last second will do, so that many that come at once do not each have it made anew. */
  document(mayLag: boolean): { state: number; text: () => string; frame: () => Buffer } {
    const made = this.#documentNow(mayLag);
    const { state, rows, timestamp } = made;
    return {
      state,
      text: () => (made.text ??= documentText(rows, timestamp)),
      frame: () => (made.frame ??= statusFrame(rows, timestamp)),
    };
  }

  #documentNow(mayLag: boolean): Document {
    const { clock, view, metrics } = this.#o;
    const nowMs = clock.monotonicMs();
    const made = this.#document;
    const isRecent = made !== undefined && nowMs - made.atMs < DOCUMENT_AGE_MS_MAX;
    if (made !== undefined && isRecent && (mayLag || made.state === this.#state)) return made;
    metrics.encoded('document');
    const wallMs = clock.now();
    const rows = view.rows(wallMs, { gone: false });
    const [text, frame] = [undefined, undefined];
    this.#document = { state: this.#state, atMs: nowMs, timestamp: timestampOf(wallMs), rows, text, frame };
    return this.#document;
  }

  /** All workers, at the newest point. */
  full(point: StatusPoint): Told {
    if (this.#full?.state !== this.#state) {
      const { clock, view, metrics } = this.#o;
      metrics.encoded('full');
      const nowMs = clock.now();
      const workers = view.workers(nowMs, { gone: true });
      const frame = workersFrame({ ...point, full: true, workers, removed: [] }, timestampOf(nowMs));
      this.#full = { state: this.#state, frame };
    }
    return { frame: this.#full.frame, point, freshness: this.#freshness };
  }

  /** What the newest step changed; undefined for who knows less than what was before it, or all of it. */
  step(known: StatusPoint): Told | undefined {
    if (this.#step === undefined || !isWithin(known, this.#step.step)) return undefined;
    const { to } = this.#step.step;
    return { frame: (this.#step.frame ??= this.#encodeStep(this.#step.step)), point: to, freshness: undefined };
  }

  #encodeStep({ to, changed, removed }: Step): Buffer {
    const { clock, view, metrics } = this.#o;
    metrics.encoded('step');
    const nowMs = clock.now();
    return workersFrame({ ...to, full: false, workers: view.some(changed, nowMs), removed }, timestampOf(nowMs));
  }

  /** Who turned stale or fresh since a state of freshness; undefined if that is too long ago. For who knows all changes. */
  turned(since: number, point: StatusPoint): Told | undefined {
    const { clock, view, metrics } = this.#o;
    const missed = this.#freshness - since;
    if (missed > this.#turns.length) return undefined;
    let frame = this.#turned.get(since);
    if (frame === undefined) {
      metrics.encoded('freshness');
      const nowMs = clock.now();
      const ids = [...new Set(this.#turns.slice(this.#turns.length - missed).flat())].toSorted();
      const workers = view.some(ids, nowMs);
      frame = workersFrame({ ...point, full: false, workers, removed: [] }, timestampOf(nowMs));
      this.#turned.set(since, frame);
    }
    return { frame, point, freshness: this.#freshness };
  }

  /**
   * What changed since a point, looked up once for all that know the same; undefined if too many are being looked up. Of
   * `isNew` also those that are stale, as who is new cannot know: that changes without a version.
   */
  since(known: StatusPoint, isNew: boolean): Promise<Told> | undefined {
    const key = `${isNew ? 'new' : ''} ${known.epoch} ${known.version}`;
    const found = this.#catchUps.get(key);
    if (found !== undefined) return found;
    if (this.#catchingUp >= CATCH_UPS_MAX) return undefined;
    this.#catchingUp += 1;
    const looking = this.#lookUp(known, isNew).finally(() => {
      this.#catchingUp -= 1;
    });
    const [oldest] = this.#catchUps.keys();
    if (oldest !== undefined && this.#catchUps.size >= CATCH_UPS_MAX) this.#catchUps.delete(oldest);
    this.#catchUps.set(key, looking);
    // What failed is looked up again.
    looking.catch(() => {
      if (this.#catchUps.get(key) === looking) this.#catchUps.delete(key);
    });
    return looking;
  }

  async #lookUp(known: StatusPoint, isNew: boolean): Promise<Told> {
    const { clock, view, metrics } = this.#o;
    const delta = await this.#o.changesSince(known);
    const nowMs = clock.now();
    const freshness = isNew || delta.full ? this.#freshness : undefined;
    const told = new Set([...delta.workers.map(({ id }) => id), ...delta.removed]);
    const stale =
      isNew && !delta.full
        ? view.workers(nowMs, { gone: true }).filter(({ id, stale: is }) => is && !told.has(id))
        : [];
    metrics.encoded('catch-up');
    const { epoch, version } = delta;
    const frame = workersFrame({ ...delta, workers: [...delta.workers, ...stale] }, timestampOf(nowMs));
    return { frame, point: { epoch, version }, freshness };
  }
}

function isWithin(point: StatusPoint, { from, to }: Step): boolean {
  return point.epoch === from.epoch && point.version >= from.version && point.version < to.version;
}
