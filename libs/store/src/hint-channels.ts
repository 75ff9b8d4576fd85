/**
 * Hears at once what its listener would find a little later by itself: a message that is missed costs time, and nothing
 * else. So nothing is done about continuity; each new connection just subscribes again.
 */
import type { RedisConnection } from './connection.js';

export interface HintChannelsOptions {
  /** In subscriber mode; forgets its subscriptions when it reconnects. It may serve others, too. */
  connection: RedisConnection;
  /** All in one slot. */
  channels: readonly string[];
  /** A message on one of the channels. */
  onMessage: (channel: string, message: string) => void;
  /** Subscribing failed, as the connection broke again; the next one tries anew. */
  onTrouble: (error: unknown) => void;
}

export class HintChannels {
  readonly #o: HintChannelsOptions;
  readonly #subscribe = () => {
    const { connection, channels, onTrouble } = this.#o;
    connection.ssubscribe(...channels).catch(onTrouble);
  };
  readonly #receive = (channel: string, message: string) => {
    const { channels, onMessage } = this.#o;
    if (channels.includes(channel)) onMessage(channel, message);
  };

  constructor(options: HintChannelsOptions) {
    this.#o = options;
  }

  start(): void {
    const { connection } = this.#o;
    connection.on('smessage', this.#receive);
    connection.on('ready', this.#subscribe);
    if (connection.status === 'ready') this.#subscribe();
  }

  stop(): void {
    const { connection } = this.#o;
    connection.off('smessage', this.#receive);
    connection.off('ready', this.#subscribe);
  }
}
