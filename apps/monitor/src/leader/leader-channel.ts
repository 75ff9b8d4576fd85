/**
 * Hears at once that a leader has gone. Only a hint, which saves standbys the wait for their next attempt; a message that
 * is missed costs half a second.
 */
import type { Keys } from '@carrierarr/protocol';
import type { RedisConnection } from '@carrierarr/store';

export interface LeaderChannelOptions {
  /** In subscriber mode; forgets its subscriptions when it reconnects. */
  connection: RedisConnection;
  keys: Keys;
  onVacancy: () => void;
  /** Subscribing failed; the next connection tries again. */
  onTrouble: (error: unknown) => void;
}

export class LeaderChannel {
  readonly #o: LeaderChannelOptions;
  readonly #subscribe = () => {
    const { connection, keys, onTrouble } = this.#o;
    connection.ssubscribe(keys.leaderChannel()).catch(onTrouble);
  };
  readonly #receive = (channel: string, message: string) => {
    // A new leader says its fence, one that has gone nothing.
    if (channel === this.#o.keys.leaderChannel() && message === '') this.#o.onVacancy();
  };

  constructor(options: LeaderChannelOptions) {
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
