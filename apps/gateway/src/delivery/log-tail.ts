/**
 * Follows output logs: pub/sub is their live edge, the log itself the truth.
 *
 * Pub/sub forgets: a reconnect is a hole, and a subscription can be dead while its socket looks well. So each
 * target that is followed has a *place* (the last offset handed on), and an entry is handed on only if it follows
 * its place without a hole; anything else starts a *repair*, which reads the log from the place until its end.
 * Live entries that arrive during a repair are not kept, only noticed: the repair finds them in the log
 * (`tail/places.ts`).
 *
 * Two ways to listen (`tail/everything.ts`). `target`: one channel for each followed target. `all`: the 64 partition
 * channels, from when some client watches everything or a pattern; then unknown targets are met too, and each
 * partition's own sequence shows whether news of one was missed (`tail/partitions.ts`).
 *
 * Loss that nothing follows up (the last line before a silence) is found by the *audit*, every 1.5 s: it asks Redis
 * which targets have news and compares, after giving messages on their way the time to the next audit
 * (`tail/audit.ts`). It also sends itself a *probe* through the subscription; two unanswered ones make it connect anew
 * (`tail/probe.ts`, `tail/subscription.ts`).
 */
import type { Clock, Logger } from '@carrierarr/platform';
import { decodePublished, type Keys, partitionOf, type PlacedEntry } from '@carrierarr/protocol';
import type { OutputLog, RedisConnection } from '@carrierarr/store';
import { Audit } from './tail/audit.js';
import { Everything } from './tail/everything.js';
import { Partitions } from './tail/partitions.js';
import type { Place } from './tail/place.js';
import { Places, type RepairMetrics } from './tail/places.js';
import { Probe, type ProbeMetrics } from './tail/probe.js';
import { Subscription } from './tail/subscription.js';
import type { TailListener } from './tail/tail-listener.js';

export interface LogTailOptions {
  /** A new subscriber connection, connecting or connected: nothing else may use it. The tail closes it. */
  subscribe(): RedisConnection;
  commands: RedisConnection;
  log: OutputLog;
  keys: Keys;
  clock: Clock;
  logger: Logger;
  gatewayId: string;
  listener: TailListener;
  metrics: TailMetrics;
  /** Told when the tail begins or ceases to be known as complete. */
  onHealth(ok: boolean, detail: string): void;
}

export interface TailMetrics extends RepairMetrics, ProbeMetrics {
  unreadable(): void;
}

export class LogTail {
  readonly #o: LogTailOptions;
  readonly #stopping = new AbortController();
  readonly #subscription: Subscription;
  readonly #probe: Probe;
  readonly #places: Places;
  readonly #partitions: Partitions;
  readonly #everything: Everything;
  readonly #audit: Audit;
  /** The first look for a target's place, shared by all who want the target. */
  readonly #following = new WeakMap<Place, Promise<void>>();

  constructor(options: LogTailOptions) {
    this.#o = options;
    const { commands, log, keys, clock, logger, gatewayId, listener, metrics } = options;
    const onHealth = (ok: boolean, detail: string) => options.onHealth(ok, detail);
    const stopping = this.#stopping.signal;
    const subscription = new Subscription({
      logger,
      open: () => options.subscribe(),
      onMessage: (channel, message) => this.#message(channel, message),
      onSubscribed: () => this.#subscribed(),
      onDown: () => onHealth(false, 'the Redis subscription is down'),
    });
    const probe = new Probe({ subscription, commands, keys, gatewayId, clock, logger, metrics, onHealth });
    const places = new Places({ log, listener, clock, logger, metrics, stopping });
    const partitions = new Partitions({ places, log, listener, logger });
    this.#subscription = subscription;
    this.#probe = probe;
    this.#places = places;
    this.#partitions = partitions;
    this.#everything = new Everything({ subscription, partitions, places, keys, clock, logger, stopping });
    this.#audit = new Audit({ probe, partitions, places, log, clock, logger, stopping });
  }

  /** Begins to listen. The subscriber must be connected or connecting. */
  async start(): Promise<void> {
    this.#subscription.connect();
    this.#subscription.want(this.#probe.channels());
    await this.#subscription.resubscribe();
    this.#audit.start();
  }

  stop(): void {
    this.#stopping.abort();
    this.#audit.stop();
    this.#subscription.stop();
  }

  /** Number of channels subscribed to, for metrics. */
  get channelCount(): number {
    return this.#subscription.channelCount;
  }

  /** Where a followed target is now. */
  place(target: string): { epoch: string; last: number } | undefined {
    const place = this.#places.get(target);
    return place?.placed ? { epoch: place.epoch, last: place.last } : undefined;
  }

  /** Follows a target from the present end of its log. Resolves to that position. */
  async follow(target: string): Promise<{ epoch: string; last: number }> {
    let place = this.#places.get(target);
    if (place === undefined) {
      place = this.#places.add(target, this.#partitions.servedTo(partitionOf(target)));
      const following = this.#begin(place);
      following.catch(() => undefined);
      this.#following.set(place, following);
    }
    await this.#following.get(place);
    return { epoch: place.epoch, last: place.last };
  }

  /** Listens to a target and finds where its log ends. A place that stayed unknown would swallow the target's entries. */
  async #begin(place: Place): Promise<void> {
    try {
      if (this.#everything.ready !== undefined) await this.#everything.ready;
      else await this.#subscription.subscribe([this.#o.keys.outputChannel(place.target)]);
      await this.#places.repair(place, 'start');
    } catch (error) {
      if (this.#places.get(place.target) === place) await this.unfollow(place.target);
      throw error;
    }
  }

  /** Ceases to follow a target. In `all` mode it may be discovered again at its next entry. */
  async unfollow(target: string): Promise<void> {
    if (!this.#places.delete(target)) return;
    await this.#subscription.unsubscribe([this.#o.keys.outputChannel(target)]);
  }

  /** Reads what the log has beyond the target's place, now. */
  refresh(target: string): Promise<void> {
    return this.#places.refresh(target);
  }

  /** Listens to every target, now and in future. Resolves when nothing that is written from now on will be missed. */
  followAll(): Promise<void> {
    return this.#everything.enter();
  }

  /** Goes back to one channel for each followed target. */
  leaveAll(): Promise<void> {
    return this.#everything.leave();
  }

  /** True once {@link followAll} has come into effect. */
  get hearsAll(): boolean {
    return this.#everything.isReady;
  }

  #message(channel: Buffer | string, message: Buffer): void {
    if (this.#probe.take(channel, message)) return;
    let placed: PlacedEntry;
    try {
      placed = decodePublished(message);
    } catch (error) {
      this.#o.metrics.unreadable();
      this.#o.logger.error({ err: error, channel: channel.toString() }, 'unreadable message on an output channel');
      return;
    }
    if (this.#partitions.isHeard) this.#partitions.pass(placed);
    this.#places.pass(placed);
  }

  /** What was published while nobody listened is in the logs. */
  #subscribed(): void {
    this.#places.reconnected();
    this.#partitions.reconnected();
  }
}
