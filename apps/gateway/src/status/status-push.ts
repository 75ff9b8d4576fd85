/**
 * Who is told of the workers, and what each is owed.
 *
 * Old clients get the document of all workers when something has changed, at most once a second. Clients that asked
 * for `workers` get what changed since the point they know, those that turned stale or fresh, which changes no version,
 * and everything when that cannot be told. Each text is made once, for all that need the same. What is sent is bounded in bytes per
 * second, so the larger the fleet and the more clients, the more changes one message gathers. A client whose socket is
 * full is left out, and gets the newest when it has drained: nothing is queued for anybody.
 */
import type { Clock, Timer } from '@carrierarr/platform';
import type { StatusPoint } from '@carrierarr/protocol';
import type { StatusDelta } from '@carrierarr/store';
import { timestampOf } from '../delivery/encode.js';
import { ByteBudget } from './byte-budget.js';
import { documentText, statusFrame, workersFrame } from './encode.js';
import type { StatusMetrics } from './status-metrics.js';
import type { StatusView, Step } from './status-view.js';

/** Shortest time between two documents for one client, ms. */
export const DOCUMENT_INTERVAL_MS = 1_000;
/** A client that may ask for `workers` has this long to do so before it gets its first document, ms. */
export const OPT_IN_MS = 500;
/** What a gateway sends about workers, in bytes per second, to all its clients together. */
export const STATUS_BYTES_PER_SECOND_MAX = 64 * 1024 * 1024;
/** Clients' points whose changes are looked up at once (others get everything instead), and that are remembered. */
const CATCH_UPS_MAX = 64;
/** Changes of freshness remembered. Who missed more of them gets everything. */
const TURNS_MAX = 16;

/** A connection as it is seen here. */
export interface StatusClient {
  /** Sends or queues a text frame; nothing happens when the connection is closed. */
  send(frame: Buffer): boolean;
  /** Bytes queued in this process. */
  bufferedBytes(): number;
}

interface DocumentFollower {
  kind: 'document';
  client: StatusClient;
  /** The state that it was told of; -1 before the first. */
  state: number;
  sentAtMs: number;
  isCongested: boolean;
}

interface WorkersFollower {
  kind: 'workers';
  client: StatusClient;
  /** What it knows; undefined: nothing. */
  point: StatusPoint | undefined;
  /** The state of freshness that it was told of. */
  freshness: number;
  /** It has yet to be answered. */
  isNew: boolean;
  /** It was ahead of this gateway, which then looked again. */
  wasChecked: boolean;
  isCongested: boolean;
}

type Follower = DocumentFollower | WorkersFollower;

interface CatchUp {
  frame: Buffer;
  point: StatusPoint;
  /** The state of freshness that all of it tells of; undefined where it tells of what changed only. */
  freshness: number | undefined;
}

export interface StatusPushOptions {
  view: StatusView;
  clock: Clock;
  /** Bytes queued in a socket beyond which its client is left out until it drains. */
  bufferBytesMax: number;
  bytesPerSecondMax?: number;
  changesSince(point: StatusPoint): Promise<StatusDelta>;
  /** Reads what is new now. Never rejects. */
  refresh(): Promise<void>;
  metrics: StatusMetrics;
  onError(error: unknown): void;
}

export class StatusPush {
  readonly #o: StatusPushOptions;
  readonly #followers = new Map<StatusClient, Follower>();
  /** Whom to look at next, those that wait longest first. */
  readonly #owing = new Set<Follower>();
  readonly #budget: ByteBudget;
  /** Grows with each change, of freshness too. */
  #state = 0;
  #freshness = 0;
  /** Who turned stale or fresh, by the last changes of freshness, the newest last. */
  readonly #turns: (readonly string[])[] = [];
  /** By the state of freshness that a client knows: what it has to be told of that. */
  readonly #turned = new Map<number, Buffer>();
  #document: { state: number; atMs: number; text: string; frame: Buffer | undefined } | undefined;
  #full: { state: number; frame: Buffer } | undefined;
  #step: { step: Step; frame: Buffer | undefined } | undefined;
  readonly #catchUps = new Map<string, Promise<CatchUp>>();
  #catchingUp = 0;
  #roundAtMs = Number.NEGATIVE_INFINITY;
  #round: Timer | undefined;
  #pump: Timer | undefined;

  constructor(options: StatusPushOptions) {
    this.#o = options;
    this.#budget = new ByteBudget(
      options.bytesPerSecondMax ?? STATUS_BYTES_PER_SECOND_MAX,
      options.clock.monotonicMs(),
    );
  }

  stop(): void {
    this.#round?.cancel();
    this.#pump?.cancel();
    this.#owing.clear();
    this.#followers.clear();
  }

  // --- clients ---------------------------------------------------------------------------------------------------

  /**
   * A new client: it is told of all workers at once, if there are any, and then of changes. `mayOptIn`: it knows of
   * `workers`, and would have to take megabytes of a large fleet twice if it were not waited for.
   */
  add(client: StatusClient, { mayOptIn = false } = {}): void {
    const isWaitedFor = mayOptIn && !this.#o.view.isEmpty;
    const sentAtMs = isWaitedFor
      ? this.#o.clock.monotonicMs() - DOCUMENT_INTERVAL_MS + OPT_IN_MS
      : Number.NEGATIVE_INFINITY;
    this.#follow({ kind: 'document', client, state: -1, sentAtMs, isCongested: false });
  }

  /** The client wants `workers` in place of `status`, from what it knows on. */
  optIn(client: StatusClient, point: StatusPoint | undefined): void {
    const before = this.#followers.get(client);
    if (before !== undefined) this.#owing.delete(before);
    const freshness = this.#freshness;
    this.#follow({ kind: 'workers', client, point, freshness, isNew: true, wasChecked: false, isCongested: false });
  }

  remove(client: StatusClient): void {
    const follower = this.#followers.get(client);
    if (follower === undefined) return;
    this.#followers.delete(client);
    this.#owing.delete(follower);
  }

  /** Its socket has given bytes to the kernel. */
  drained(client: StatusClient): void {
    const follower = this.#followers.get(client);
    if (!follower?.isCongested || client.bufferedBytes() > this.#o.bufferBytesMax / 2) return;
    follower.isCongested = false;
    this.#owing.add(follower);
    this.#send();
  }

  #follow(follower: Follower): void {
    this.#followers.set(follower.client, follower);
    this.#owing.add(follower);
    this.#send();
  }

  // --- news ------------------------------------------------------------------------------------------------------

  /** Workers have changed. */
  changed(step: Step | 'everything'): void {
    this.#state += 1;
    this.#step = step === 'everything' ? undefined : { step, frame: undefined };
    this.#tell();
  }

  /** These workers have turned stale or fresh. */
  freshnessChanged(turned: readonly string[]): void {
    this.#state += 1;
    this.#freshness += 1;
    this.#turns.push(turned);
    if (this.#turns.length > TURNS_MAX) this.#turns.shift();
    this.#tell();
  }

  /** Redis has answered: who could not be served before is tried again. */
  retry(): void {
    for (const follower of this.#followers.values()) {
      if (follower.kind === 'workers' && !follower.isCongested && this.#owes(follower)) this.#owing.add(follower);
    }
    this.#send();
  }

  #tell(): void {
    this.#catchUps.clear();
    this.#turned.clear();
    for (const follower of this.#followers.values()) {
      if (follower.kind === 'workers' && !follower.isCongested) this.#owing.add(follower);
    }
    this.#send();
    if (this.#untilRoundMs() > 0) this.#scheduleRound();
    else if (this.#round === undefined) this.#tellDocuments();
  }

  // Old clients are told in rounds, all at the same time, so that one document does for all of them. Who came between two
  // rounds waits for the next but one.

  #untilRoundMs(): number {
    return Math.max(0, this.#roundAtMs + DOCUMENT_INTERVAL_MS - this.#o.clock.monotonicMs());
  }

  #scheduleRound(): void {
    this.#round ??= this.#o.clock.setTimeout(() => this.#tellDocuments(), this.#untilRoundMs());
  }

  #tellDocuments(): void {
    this.#round = undefined;
    this.#roundAtMs = this.#o.clock.monotonicMs();
    for (const follower of this.#followers.values()) {
      if (follower.kind === 'document' && !follower.isCongested) this.#owing.add(follower);
    }
    this.#send();
  }

  // --- sending ---------------------------------------------------------------------------------------------------

  #owes(follower: Follower): boolean {
    if (follower.kind === 'document') return follower.state !== this.#state;
    const { point } = this.#o.view;
    return (
      follower.isNew ||
      follower.freshness !== this.#freshness ||
      follower.point?.epoch !== point?.epoch ||
      (follower.point?.version ?? -1) < (point?.version ?? -1)
    );
  }

  /** Gives everybody what they are owed, as far as bytes allow now. */
  #send(): void {
    const { clock, bufferBytesMax, metrics, view } = this.#o;
    this.#pump?.cancel();
    this.#pump = undefined;
    // Whom nothing is known for is told when there is something.
    if (view.point === undefined) return;
    const nowMs = clock.monotonicMs();
    let againMs = Number.POSITIVE_INFINITY;
    for (const follower of this.#owing) {
      if (!this.#owes(follower)) {
        this.#owing.delete(follower);
        continue;
      }
      if (follower.client.bufferedBytes() > bufferBytesMax) {
        this.#owing.delete(follower);
        follower.isCongested = true;
        metrics.skipped();
        continue;
      }
      const budgetMs = this.#budget.waitMs(nowMs);
      if (budgetMs > 0) {
        againMs = Math.min(againMs, budgetMs);
        break;
      }
      if (follower.kind === 'workers') {
        this.#owing.delete(follower);
        this.#sendWorkers(follower);
        continue;
      }
      this.#owing.delete(follower);
      if (nowMs - follower.sentAtMs >= DOCUMENT_INTERVAL_MS) this.#sendDocument(follower, nowMs);
      if (this.#owes(follower)) this.#scheduleRound();
    }
    if (againMs < Number.POSITIVE_INFINITY) this.#pump = clock.setTimeout(() => this.#send(), againMs);
  }

  #sendDocument(follower: DocumentFollower, nowMs: number): void {
    const isFirst = follower.state === -1;
    if (isFirst && this.#o.view.isEmpty) {
      // Nobody to tell of, and it was never told of anybody.
      follower.state = this.#state;
      return;
    }
    const document = this.#documentNow(isFirst);
    document.frame ??= statusFrame(document.text, timestampOf(this.#o.clock.now()));
    follower.state = document.state;
    follower.sentAtMs = nowMs;
    this.#deliver(follower, document.frame, 'status');
  }

  /** `mayLag`: one of the last second will do, so that many that come at once do not each have it made anew. */
  #documentNow(mayLag: boolean) {
    const { clock, view, metrics } = this.#o;
    const nowMs = clock.monotonicMs();
    const made = this.#document;
    const isRecent = made !== undefined && nowMs - made.atMs < DOCUMENT_INTERVAL_MS;
    if (made !== undefined && isRecent && (mayLag || made.state === this.#state)) return made;
    metrics.encoded('document');
    const wallMs = clock.now();
    const text = documentText(view.workers(wallMs, { gone: false }), timestampOf(wallMs));
    this.#document = { state: this.#state, atMs: nowMs, text, frame: undefined };
    return this.#document;
  }

  /** Body of `GET /api/status`, at most a second old. */
  documentText(): string {
    return this.#documentNow(true).text;
  }

  #sendWorkers(follower: WorkersFollower): void {
    const point = this.#o.view.point as StatusPoint;
    const { point: known, isNew } = follower;
    if (known === undefined || known.epoch !== point.epoch) {
      this.#sendFull(follower, point);
    } else if (known.version > point.version) {
      // It comes from a gateway that is ahead, or Redis has lost something.
      if (follower.wasChecked) return this.#sendFull(follower, point);
      follower.wasChecked = true;
      void this.#o.refresh().then(() => this.#again(follower));
    } else if (isNew) {
      this.#catchUp(follower, known);
    } else if (known.version === point.version) {
      this.#sendTurned(follower, point);
    } else if (this.#step !== undefined && isWithin(known, this.#step.step)) {
      this.#step.frame ??= this.#encodeStep(this.#step.step);
      this.#deliverTo(follower, this.#step.step.to, this.#step.frame);
      // Freshness may have changed, too: that comes by itself, as it has no version.
      if (this.#owes(follower)) this.#owing.add(follower);
    } else {
      this.#catchUp(follower, known);
    }
  }

  #sendFull(follower: WorkersFollower, point: StatusPoint): void {
    if (this.#full?.state !== this.#state) {
      const { clock, view, metrics } = this.#o;
      metrics.encoded('full');
      const nowMs = clock.now();
      const workers = view.workers(nowMs, { gone: true });
      const frame = workersFrame({ ...point, full: true, workers, removed: [] }, timestampOf(nowMs));
      this.#full = { state: this.#state, frame };
    }
    this.#deliverTo(follower, point, this.#full.frame, this.#freshness);
  }

  /** Tells a client that knows all changes who has turned stale or fresh, once made for all that know the same. */
  #sendTurned(follower: WorkersFollower, point: StatusPoint): void {
    const { clock, view, metrics } = this.#o;
    const missed = this.#freshness - follower.freshness;
    if (missed > this.#turns.length) return this.#sendFull(follower, point);
    let frame = this.#turned.get(follower.freshness);
    if (frame === undefined) {
      metrics.encoded('freshness');
      const nowMs = clock.now();
      const ids = [...new Set(this.#turns.slice(this.#turns.length - missed).flat())].toSorted();
      const workers = view.some(ids, nowMs);
      frame = workersFrame({ ...point, full: false, workers, removed: [] }, timestampOf(nowMs));
      this.#turned.set(follower.freshness, frame);
    }
    this.#deliverTo(follower, point, frame, this.#freshness);
  }

  #encodeStep({ to, changed, removed }: Step): Buffer {
    const { clock, view, metrics } = this.#o;
    metrics.encoded('step');
    const nowMs = clock.now();
    return workersFrame({ ...to, full: false, workers: view.some(changed, nowMs), removed }, timestampOf(nowMs));
  }

  /** Looks up what changed since a client's point, once for all that know the same. */
  #catchUp(follower: WorkersFollower, known: StatusPoint): void {
    const key = `${follower.isNew ? 'new' : ''} ${known.epoch} ${known.version}`;
    let found = this.#catchUps.get(key);
    if (found === undefined) {
      if (this.#catchingUp >= CATCH_UPS_MAX) return this.#sendFull(follower, this.#o.view.point as StatusPoint);
      this.#catchingUp += 1;
      found = this.#lookUp(known, follower.isNew).finally(() => {
        this.#catchingUp -= 1;
      });
      const [oldest] = this.#catchUps.keys();
      if (oldest !== undefined && this.#catchUps.size >= CATCH_UPS_MAX) this.#catchUps.delete(oldest);
      this.#catchUps.set(key, found);
    }
    found.then(
      ({ frame, point, freshness }) => {
        if (this.#followers.get(follower.client) !== follower) return;
        // Another text may have been sent meanwhile, which says more than this one.
        if (follower.point !== known) return this.#again(follower);
        this.#deliverTo(follower, point, frame, freshness);
        this.#again(follower);
      },
      (error: unknown) => {
        if (this.#catchUps.get(key) === found) this.#catchUps.delete(key);
        this.#o.onError(error); // `retry` comes when Redis answers.
      },
    );
  }

  /** For a new client with those that are stale, as it cannot know: that changes without a version. */
  async #lookUp(known: StatusPoint, isNew: boolean): Promise<CatchUp> {
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

  #again(follower: Follower): void {
    if (this.#followers.get(follower.client) !== follower || !this.#owes(follower)) return;
    this.#owing.add(follower);
    this.#send();
  }

  /** `freshness`: which state of it the frame tells of, if it tells of all that is to be told of that. */
  #deliverTo(follower: WorkersFollower, point: StatusPoint, frame: Buffer, freshness = follower.freshness): void {
    follower.point = point;
    follower.freshness = freshness;
    follower.isNew = false;
    this.#deliver(follower, frame, 'workers');
  }

  #deliver({ client }: Follower, frame: Buffer, type: 'status' | 'workers'): void {
    this.#budget.spend(frame.length);
    this.#o.metrics.sent(type, frame.length);
    client.send(frame);
  }
}

function isWithin(point: StatusPoint, { from, to }: Step): boolean {
  return point.epoch === from.epoch && point.version >= from.version && point.version < to.version;
}
