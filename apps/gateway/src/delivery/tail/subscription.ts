/**
 * The channels that the tail listens to, over a connection that may break or be replaced.
 *
 * It knows which channels are *wanted*, and after each reconnect subscribes to them. What was published meanwhile
 * nobody tells: whoever uses it looks for that in the logs (`onSubscribed`).
 */
import type { Logger } from '@carrierarr/platform';
import type { RedisConnection } from '@carrierarr/store';

export interface SubscriptionOptions {
  /** A new subscriber connection, connecting or connected: nothing else may use it. It is closed here. */
  open(): RedisConnection;
  logger: Logger;
  onMessage(channel: Buffer | string, message: Buffer): void;
  /** All that is wanted is subscribed to, after a time when it may not have been. */
  onSubscribed(): void;
  onDown(): void;
}

/** Channels that one call names. */
const CHANNELS_PER_CALL_MAX = 500;

export class Subscription {
  readonly #o: SubscriptionOptions;
  /** Channels that should be subscribed to now. */
  readonly #wanted = new Set<string>();
  /** Channels that the present subscriber is subscribed to, on Cluster. */
  #held = new Set<string>();
  #subscriber!: RedisConnection;

  constructor(options: SubscriptionOptions) {
    this.#o = options;
  }

  /** Number of channels wanted. */
  get channelCount(): number {
    return this.#wanted.size;
  }

  get isCluster(): boolean {
    return this.#subscriber.isCluster;
  }

  connect(): void {
    const subscriber = this.#o.open();
    this.#subscriber = subscriber;
    this.#held = new Set();
    subscriber.on('smessageBuffer', (channel: Buffer | string, message: Buffer) => {
      if (this.#subscriber === subscriber) this.#o.onMessage(channel, message);
    });
    subscriber.on('ready', () => {
      if (this.#subscriber === subscriber) void this.resubscribe();
    });
    subscriber.on('close', () => {
      if (this.#subscriber === subscriber) this.#o.onDown();
    });
  }

  /** Listens on a new connection in place of one that is dead although it looks well. */
  replaceConnection(): void {
    // A new connection, not `disconnect(true)`: in ioredis 6.0.0 a Cluster that is disconnected while one of its sharded
    // subscribers connects never subscribes again (its `isResetting` stays true).
    const old = this.#subscriber;
    this.connect();
    old.disconnect();
  }

  stop(): void {
    // Stopped before it was started: there is none.
    (this.#subscriber as RedisConnection | undefined)?.disconnect();
  }

  /** Subscribes to all that is wanted. Does not fail: without a connection it happens when there is one again. */
  async resubscribe(): Promise<void> {
    try {
      await this.#ssubscribe([...this.#wanted]);
    } catch (error) {
      this.#o.logger.warn({ err: error }, 'cannot subscribe; trying again when Redis is back');
      return;
    }
    this.#o.onSubscribed();
  }

  /** Wants channels, and no more: {@link resubscribe} subscribes to them. */
  want(channels: string[]): void {
    for (const channel of channels) this.#wanted.add(channel);
  }

  /** Wants channels and subscribes to them. When it fails they stay wanted. */
  async subscribe(channels: string[]): Promise<void> {
    this.want(channels);
    await this.#ssubscribe(channels);
  }

  async #ssubscribe(channels: string[]): Promise<void> {
    if (channels.length === 0) return;
    const subscriber = this.#subscriber;
    if (!subscriber.isCluster) {
      await Promise.all(chunks(channels).map((call) => subscriber.ssubscribe(...call)));
      return;
    }
    // On Cluster ioredis subscribes again by itself after a reconnect, and adds a channel to what it will subscribe to
    // each time that it is asked, so it is asked once. One slot a call, as Cluster wants it.
    const held = this.#held;
    const subscribe = async (channel: string) => {
      await subscriber.ssubscribe(channel);
      if (this.#wanted.has(channel)) held.add(channel);
    };
    await Promise.all(channels.filter((channel) => !held.has(channel)).map(subscribe));
  }

  /** Gives up those of the channels that are wanted. */
  async unsubscribe(channels: string[]): Promise<void> {
    const subscribed = channels.filter((channel) => this.#wanted.delete(channel));
    if (subscribed.length === 0) return;
    for (const channel of subscribed) this.#held.delete(channel);
    const calls = this.#subscriber.isCluster ? subscribed.map((channel) => [channel]) : chunks(subscribed);
    try {
      await Promise.all(calls.map((call) => this.#subscriber.sunsubscribe(...call)));
    } catch {
      // Not connected: after a reconnect only wanted channels are subscribed to.
    }
  }
}

function chunks(channels: string[]): string[][] {
  const result: string[][] = [];
  for (let i = 0; i < channels.length; i += CHANNELS_PER_CALL_MAX)
    result.push(channels.slice(i, i + CHANNELS_PER_CALL_MAX));
  return result;
}
