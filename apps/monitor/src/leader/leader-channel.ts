/**
 * Hears at once that a leader has gone. Only a hint, which saves standbys the wait for their next attempt; a message that
 * is missed costs half a second.
 */
import type { Keys } from '@carrierarr/protocol';
import { HintChannels, type RedisConnection } from '@carrierarr/store';

export interface LeaderChannelOptions {
  /** In subscriber mode; forgets its subscriptions when it reconnects. */
  connection: RedisConnection;
  keys: Keys;
  onVacancy: () => void;
  /** Subscribing failed; the next connection tries again. */
  onTrouble: (error: unknown) => void;
}

export class LeaderChannel {
  readonly #hints: HintChannels;

  constructor({ connection, keys, onVacancy, onTrouble }: LeaderChannelOptions) {
    this.#hints = new HintChannels({
      ...{ connection, channels: [keys.leaderChannel()], onTrouble },
      onMessage: (_channel, message) => {
        // A new leader says its fence, one that has gone nothing.
        if (message === '') onVacancy();
      },
    });
  }

  start(): void {
    this.#hints.start();
  }

  stop(): void {
    this.#hints.stop();
  }
}
