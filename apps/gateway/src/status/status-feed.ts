/**
 * The status of all workers, as monitors write it to Redis: kept here as it is there, and pushed to clients.
 *
 * It is read when the channel says that there is news, and every two seconds all the same, for pub/sub forgets. While
 * Redis is away the last that was known is served, and says how old it is.
 */
import type { Clock, Logger, Timer } from '@carrierarr/platform';
import type { Keys, SeenWorker, SourceReport, StatusPoint, WorkerRecord } from '@carrierarr/protocol';
import type { RedisConnection, WorkerStatusStore } from '@carrierarr/store';
import type { Registry } from 'prom-client';
import { documentText } from './encode.js';
import { timestampOf } from '../delivery/encode.js';
import { RedisAwayError, type RedisHealth } from '../redis-health.js';
import { createStatusMetrics } from './status-metrics.js';
import { type StatusClient, StatusPush } from './status-push.js';
import { StatusView } from './status-view.js';
import { Wake } from './wake.js';

/** Longest time without a look, ms. */
export const LOOK_EVERY_MS = 2_000;
/** Shortest time between two looks, ms: many sources may report at once. */
const LOOK_GAP_MS = 50;

export interface StatusFeedOptions {
  /** A connection for the channel alone, not connected yet; closed by {@link StatusFeed.stop}. */
  subscriber: RedisConnection;
  keys: Keys;
  store: Pick<WorkerStatusStore, 'changesSince' | 'reports'>;
  redis: Pick<RedisHealth, 'state'>;
  clock: Clock;
  logger: Pick<Logger, 'warn'>;
  metrics: Registry;
  /** Bytes queued in a client's socket beyond which it is left out until it drains. */
  clientBufferBytes: number;
  bytesPerSecondMax?: number;
}

/** All that is known, and when it was last seen to be so. */
export interface ObservedStatus extends StatusPoint {
  timestamp: string;
  workers: SeenWorker[];
  sources: readonly SourceReport[];
}

export class StatusFeed {
  readonly #o: StatusFeedOptions;
  readonly #view = new StatusView();
  readonly #push: StatusPush;
  readonly #wake: Wake;
  #looking: Promise<void> | undefined;
  /** Something was heard while looking: look once more. */
  #again = false;
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  /** When Redis last answered, by both clocks. */
  #confirmed: { atMs: number; wallMs: number } | undefined;
  #tick: Timer | undefined;
  #soon: Timer | undefined;
  #isStopped = false;
  #hasFailed = false;

  constructor(options: StatusFeedOptions) {
    this.#o = options;
    const { clock, store, metrics, clientBufferBytes, bytesPerSecondMax } = options;
    this.#push = new StatusPush({
      ...{ view: this.#view, clock, bufferBytesMax: clientBufferBytes },
      ...(bytesPerSecondMax !== undefined && { bytesPerSecondMax }),
      changesSince: (point) => store.changesSince(point, clock.now()),
      refresh: () => this.refresh(),
      metrics: createStatusMetrics(metrics, () => this.#ageSeconds),
      onError: (error) => this.#failed(error),
    });
    this.#wake = new Wake({
      ...{ subscriber: options.subscriber, keys: options.keys },
      onWake: () => this.#soonLook(),
      onError: (error) => this.#failed(error),
    });
  }

  /** Resolves after the first look, whatever it found. */
  async start(): Promise<void> {
    this.#tick = this.#o.clock.setInterval(() => void this.#lookAndJudge(), LOOK_EVERY_MS);
    this.#wake.start();
    await this.#lookAndJudge();
  }

  stop(): void {
    this.#isStopped = true;
    this.#tick?.cancel();
    this.#soon?.cancel();
    this.#wake.stop();
    this.#push.stop();
  }

  // --- clients ---------------------------------------------------------------------------------------------------

  add(client: StatusClient, options: { mayOptIn: boolean }): void {
    this.#push.add(client, options);
  }
  optIn(client: StatusClient, point: StatusPoint | undefined): void {
    this.#push.optIn(client, point);
  }
  remove(client: StatusClient): void {
    this.#push.remove(client);
  }
  drained(client: StatusClient): void {
    this.#push.drained(client);
  }

  // --- for HTTP and plans ----------------------------------------------------------------------------------------

  /** The document as JSON text. `gone`: with those that have vanished. Throws RedisAwayError if nothing is known. */
  async document({ gone }: { gone: boolean }): Promise<string> {
    const [, confirmed] = await this.#known();
    if (!gone && this.#o.redis.state.kind === 'available') return this.#push.documentText();
    return documentText(this.#view.rows(this.#o.clock.now(), { gone }), this.#timestampOf(confirmed));
  }

  /** Everything, vanished ones too. Throws RedisAwayError if nothing is known. */
  async observed(): Promise<ObservedStatus> {
    const [point, confirmed] = await this.#known();
    const workers = this.#view.workers(this.#o.clock.now(), { gone: true });
    return { ...point, timestamp: this.#timestampOf(confirmed), workers, sources: this.#view.sources };
  }

  /** When what is known was last seen to be so. */
  #timestampOf({ wallMs }: { wallMs: number }): string {
    const { clock, redis } = this.#o;
    return timestampOf(redis.state.kind === 'available' ? clock.now() : wallMs);
  }

  /** A worker by its id, as far as is known now. */
  workerOf(id: string): WorkerRecord | undefined {
    return this.#view.record(id);
  }

  /** The workers with a target, as far as is known now. */
  workersWithTarget(target: string): WorkerRecord[] {
    return this.#view.withTarget(target);
  }

  /** The workers that this is true of, as far as is known now. */
  workersWhere(isWanted: (record: WorkerRecord) => boolean): WorkerRecord[] {
    return this.#view.where(isWanted);
  }

  async #known(): Promise<[StatusPoint, { wallMs: number }]> {
    if (this.#confirmed === undefined) await this.refresh();
    const { point } = this.#view;
    if (point !== undefined && this.#confirmed !== undefined) return [point, this.#confirmed];
    const { state } = this.#o.redis;
    throw new RedisAwayError(
      false,
      state.kind === 'degraded' ? state.reason : 'the status of workers could not be read',
    );
  }

  // --- looking ---------------------------------------------------------------------------------------------------

  get #ageSeconds(): number | undefined {
    return this.#confirmed && (this.#o.clock.monotonicMs() - this.#confirmed.atMs) / 1000;
  }

  #soonLook(): void {
    if (this.#isStopped || this.#soon !== undefined) return;
    const waitMs = this.#lookedAtMs + LOOK_GAP_MS - this.#o.clock.monotonicMs();
    if (waitMs <= 0) {
      void this.refresh();
      return;
    }
    this.#soon = this.#o.clock.setTimeout(() => {
      this.#soon = undefined;
      void this.refresh();
    }, waitMs);
  }

  /** Reads what is new. Never rejects; resolves when all that was written before the call is known, if Redis answers. */
  async refresh(): Promise<void> {
    if (this.#looking !== undefined) {
      this.#again = true;
      return this.#looking;
    }
    this.#looking = this.#lookUntilDone().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #lookUntilDone(): Promise<void> {
    do {
      this.#again = false;
      await this.#look();
    } while (this.#again && !this.#isStopped);
  }

  async #look(): Promise<void> {
    const { redis, store, clock } = this.#o;
    this.#lookedAtMs = clock.monotonicMs();
    if (redis.state.kind === 'degraded') return;
    try {
      // Not bounded as a request's call is: a large fleet may take longer, and nobody waits.
      const [reports, delta] = await Promise.all([store.reports(), store.changesSince(this.#view.point, clock.now())]);
      if (this.#isStopped) return;
      this.#confirmed = { atMs: clock.monotonicMs(), wallMs: clock.now() };
      this.#hasFailed = false;
      this.#view.hear(reports);
      const step = this.#view.apply(delta);
      if (step === 'nothing') this.#push.retry();
      else this.#push.changed(step);
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Freshness is judged only after a look: a report that was not heard yet is no old report. */
  async #lookAndJudge(): Promise<void> {
    await this.refresh();
    if (this.#isStopped) return;
    const turned = this.#view.judge(this.#o.clock.now());
    if (turned.length > 0) this.#push.freshnessChanged(turned);
  }

  #failed(error: unknown): void {
    if (this.#isStopped || this.#hasFailed || this.#o.redis.state.kind === 'degraded') return;
    this.#hasFailed = true;
    this.#o.logger.warn({ err: error }, 'the status of workers could not be read; trying again');
  }
}
