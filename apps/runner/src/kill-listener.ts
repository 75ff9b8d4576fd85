/**
 * Hears of kill requests at once, over a channel. Only a hint: it makes the lease keeper renew, which tells of the
 * request itself. A notice that is missed costs a second at most, until the next renewal.
 */
import { type Keys, killNoticeSchema } from '@carrierarr/protocol';
import { HintChannels, type RedisConnection } from '@carrierarr/store';

export interface KillListenerOptions {
  /** In subscriber mode; forgets its subscriptions when it reconnects. */
  connection: RedisConnection;
  keys: Keys;
  /** An execution is to be killed; it may be another runner's. */
  onNotice: (execution: string) => void;
  /** Subscribing failed, or a message could not be read. */
  onTrouble: (error: unknown) => void;
}

export class KillListener {
  readonly #connection: RedisConnection;
  readonly #hints: HintChannels;

  constructor({ connection, keys, onNotice, onTrouble }: KillListenerOptions) {
    this.#connection = connection;
    this.#hints = new HintChannels({
      ...{ connection, channels: [keys.killChannel()], onTrouble },
      onMessage: (_channel, message) => {
        try {
          onNotice(killNoticeSchema.parse(JSON.parse(message)).execution);
        } catch (error) {
          onTrouble(error);
        }
      },
    });
  }

  start(): void {
    this.#hints.start();
    // It goes on trying, and its owner logs why.
    if (this.#connection.status !== 'ready') this.#connection.connect().catch(() => undefined);
  }

  stop(): void {
    this.#hints.stop();
  }
}
