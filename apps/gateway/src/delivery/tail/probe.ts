/**
 * Whether the subscription is alive: a subscription can be dead while its socket looks well, so the tail sends itself
 * messages through it. Two that do not come back make it connect anew.
 */
import type { Clock, Logger } from '@carrierarr/platform';
import { type Keys, PARTITIONS } from '@carrierarr/protocol';
import type { RedisConnection } from '@carrierarr/store';
import type { Subscription } from './subscription.js';

export interface ProbeMetrics {
  probeFailed(): void;
  roundTripSeconds(seconds: number): void;
}

export interface ProbeOptions {
  subscription: Pick<Subscription, 'isCluster' | 'replaceConnection'>;
  commands: RedisConnection;
  keys: Keys;
  gatewayId: string;
  clock: Clock;
  logger: Logger;
  metrics: ProbeMetrics;
  onHealth(ok: boolean, detail: string): void;
}

/** Bytes of a probe's message, at most: it is a number. */
const MESSAGE_BYTES_MAX = 16;
/** Unanswered probes after which the subscription is taken for dead: found within 3 x 1.5 s. */
const UNANSWERED_MAX = 2;

export class Probe {
  readonly #o: ProbeOptions;
  /** All channels that it ever used. */
  readonly #channels = new Set<string>();
  #sent = 0;
  #seen = 0;
  #sentAtMs = 0;
  /** Channels that have yet to answer. */
  readonly #missing = new Set<string>();
  #unanswered = 0;

  constructor(options: ProbeOptions) {
    this.#o = options;
  }

  /** The channels it goes through. On Cluster each shard has a connection of its own, and so each partition a probe. */
  channels(): string[] {
    const { subscription, keys, gatewayId } = this.#o;
    const channels = Array.from({ length: subscription.isCluster ? PARTITIONS : 1 }, (_, partition) =>
      keys.probeChannel(partition, gatewayId),
    );
    for (const channel of channels) this.#channels.add(channel);
    return channels;
  }

  async send(): Promise<void> {
    this.#sent += 1;
    this.#sentAtMs = this.#o.clock.monotonicMs();
    const channels = this.channels();
    this.#missing.clear();
    for (const channel of channels) this.#missing.add(channel);
    await Promise.all(channels.map((channel) => this.#o.commands.spublish(channel, String(this.#sent))));
  }

  /** Takes a message of the subscription. False if it is none of a probe. */
  take(channel: Buffer | string, message: Buffer): boolean {
    // Nearly all messages are entries, and longer: they need no look at the channel.
    if (message.length > MESSAGE_BYTES_MAX) return false;
    const name = channel.toString();
    if (!this.#channels.has(name)) return false;
    this.#answered(name, Number(message.toString('latin1')));
    return true;
  }

  #answered(channel: string, number: number): void {
    // An answer may come twice, where a channel was subscribed to twice.
    if (number !== this.#sent || !this.#missing.delete(channel) || this.#missing.size > 0) return;
    this.#seen = number;
    this.#unanswered = 0;
    this.#o.metrics.roundTripSeconds((this.#o.clock.monotonicMs() - this.#sentAtMs) / 1000);
    this.#o.onHealth(true, 'the Redis subscription answers');
  }

  /** Judges the probe that was sent last, which has had its time. */
  check(): void {
    if (this.#sent === this.#seen) return;
    this.#unanswered += 1;
    this.#o.metrics.probeFailed();
    if (this.#unanswered < UNANSWERED_MAX) return;
    this.#unanswered = 0;
    this.#o.onHealth(false, 'the Redis subscription is silent; connecting anew');
    this.#o.logger.warn('the Redis subscription is silent; connecting anew');
    this.#o.subscription.replaceConnection();
  }
}
