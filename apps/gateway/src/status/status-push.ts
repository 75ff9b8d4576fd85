/**
 * Who is told of the workers, and what each is owed.
 *
 * Old clients get the document of all workers when something has changed, at most once a second. Clients that asked
 * for `workers` get what changed since the point they know, those that turned stale or fresh, which changes no version,
 * and everything when that cannot be told (status-texts.ts). What is sent is bounded in bytes per second, so the larger the fleet and the more clients, the more changes one message gathers. A client whose socket is
 * full is left out, and gets the newest when it has drained: nothing is queued for anybody.
 */
import type { Clock, Timer } from '@carrierarr/platform';
import type { StatusPoint } from '@carrierarr/protocol';
import type { StatusDelta } from '@carrierarr/store';
import { ByteBudget } from './byte-budget.js';
import type { StatusMetrics } from './status-metrics.js';
import { DOCUMENT_AGE_MS_MAX, StatusTexts, type Told } from './status-texts.js';
import type { StatusView, Step } from './status-view.js';

/** Shortest time between two documents for one client, ms. */
export const DOCUMENT_INTERVAL_MS = DOCUMENT_AGE_MS_MAX;
/** A client that may ask for `workers` has this long to do so before it gets its first document, ms. */
export const OPT_IN_MS = 500;
/** What a gateway sends about workers, in bytes per second, to all its clients together. */
export const STATUS_BYTES_PER_SECOND_MAX = 64 * 1024 * 1024;
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
  readonly #texts: StatusTexts;
  #roundAtMs = Number.NEGATIVE_INFINITY;
  #round: Timer | undefined;
  #pump: Timer | undefined;

  constructor(options: StatusPushOptions) {
    this.#o = options;
    this.#texts = new StatusTexts(options);
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
    const { freshness } = this.#texts;
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
    this.#texts.changed(step);
    this.#tell();
  }

  /** These workers have turned stale or fresh. */
  freshnessChanged(turned: readonly string[]): void {
    this.#texts.freshnessChanged(turned);
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
    if (follower.kind === 'document') return follower.state !== this.#texts.state;
    const { point } = this.#o.view;
    return (
      follower.isNew ||
      follower.freshness !== this.#texts.freshness ||
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
      follower.state = this.#texts.state;
      return;
    }
    const document = this.#texts.document(isFirst);
    follower.state = document.state;
    follower.sentAtMs = nowMs;
    this.#deliver(follower, document.frame(), 'status');
  }

  /** Body of `GET /api/status`, at most a second old. */
  documentText(): string {
    return this.#texts.document(true).text();
  }

  #sendWorkers(follower: WorkersFollower): void {
    const point = this.#o.view.point as StatusPoint;
    const { point: known, isNew } = follower;
    if (known === undefined || known.epoch !== point.epoch) {
      this.#tellOf(follower, this.#texts.full(point));
    } else if (known.version > point.version) {
      // It comes from a gateway that is ahead, or Redis has lost something.
      if (follower.wasChecked) return this.#tellOf(follower, this.#texts.full(point));
      follower.wasChecked = true;
      void this.#o.refresh().then(() => this.#again(follower));
    } else if (isNew) {
      this.#catchUp(follower, known);
    } else if (known.version === point.version) {
      this.#tellOf(follower, this.#texts.turned(follower.freshness, point) ?? this.#texts.full(point));
    } else {
      const step = this.#texts.step(known);
      if (step === undefined) return this.#catchUp(follower, known);
      this.#tellOf(follower, step);
      // Freshness may have changed, too: that comes by itself, as it has no version.
      if (this.#owes(follower)) this.#owing.add(follower);
    }
  }

  #catchUp(follower: WorkersFollower, known: StatusPoint): void {
    const found = this.#texts.since(known, follower.isNew);
    if (found === undefined) return this.#tellOf(follower, this.#texts.full(this.#o.view.point as StatusPoint));
    found.then(
      (told) => {
        if (this.#followers.get(follower.client) !== follower) return;
        // Another text may have been sent meanwhile, which says more than this one.
        if (follower.point !== known) return this.#again(follower);
        this.#tellOf(follower, told);
        this.#again(follower);
      },
      (error: unknown) => this.#o.onError(error), // `retry` comes when Redis answers.
    );
  }

  #again(follower: Follower): void {
    if (this.#followers.get(follower.client) !== follower || !this.#owes(follower)) return;
    this.#owing.add(follower);
    this.#send();
  }

  #tellOf(follower: WorkersFollower, { frame, point, freshness }: Told): void {
    follower.point = point;
    if (freshness !== undefined) follower.freshness = freshness;
    follower.isNew = false;
    this.#deliver(follower, frame, 'workers');
  }

  #deliver({ client }: Follower, frame: Buffer, type: 'status' | 'workers'): void {
    this.#budget.spend(frame.length);
    this.#o.metrics.sent(type, frame.length);
    client.send(frame);
  }
}
