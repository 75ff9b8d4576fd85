/**
 * Hears of kill requests at once, over a channel. Only a hint: it makes the lease keeper renew, which tells of the
 * request itself. A notice that is missed costs a second at most, until the next renewal.
 */
import type { Cluster, Redis } from 'ioredis';
import { type Keys, killNoticeSchema } from '@carrierarr/protocol';

export interface KillListenerOptions {
  /** In subscriber mode; forgets its subscriptions when it reconnects. */
  connection: Redis | Cluster;
  keys: Keys;
  /** An execution is to be killed; it may be another runner's. */
  onNotice: (execution: string) => void;
  /** Subscribing failed, or a message could not be read. */
  onTrouble: (error: unknown) => void;
}

export class KillListener {
  readonly #o: KillListenerOptions;
  readonly #subscribe = () => {
    const { connection, keys, onTrouble } = this.#o;
    // Fails when the connection breaks again; then the next `ready` subscribes.
    connection.ssubscribe(keys.killChannel()).catch(onTrouble);
  };
  readonly #receive = (channel: string, message: string) => {
    const { keys, onNotice, onTrouble } = this.#o;
    // The connection serves others too.
    if (channel !== keys.killChannel()) return;
    try {
      onNotice(killNoticeSchema.parse(JSON.parse(message)).execution);
    } catch (error) {
      onTrouble(error);
    }
  };

  constructor(options: KillListenerOptions) {
    this.#o = options;
  }

  start(): void {
    const { connection } = this.#o;
    connection.on('smessage', this.#receive);
    connection.on('ready', this.#subscribe);
    if (connection.status === 'ready') this.#subscribe();
    else connection.connect().catch(() => undefined); // It goes on trying, and its owner logs why.
  }

  stop(): void {
    const { connection } = this.#o;
    connection.off('smessage', this.#receive);
    connection.off('ready', this.#subscribe);
  }
}
