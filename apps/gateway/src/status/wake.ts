/**
 * The channel on which monitors say that the status has changed. Pub/sub forgets, and a connection may be silently
 * dead: this is only an alarm clock, and whoever uses it looks from time to time all the same.
 */
import type { Keys } from '@carrierarr/protocol';
import type { RedisConnection } from '@carrierarr/store';

export interface WakeOptions {
  /** A connection for this alone, not connected yet; closed by {@link Wake.stop}. */
  subscriber: RedisConnection;
  keys: Keys;
  /** Something has changed, or may have while nobody listened. */
  onWake: () => void;
  onError: (error: unknown) => void;
}

export class Wake {
  readonly #o: WakeOptions;
  readonly #channel: string;
  #isHeld = false;

  constructor(options: WakeOptions) {
    this.#o = options;
    this.#channel = options.keys.statusChannel();
  }

  start(): void {
    const { subscriber, onWake } = this.#o;
    subscriber.on('smessage', (channel: string) => {
      if (channel === this.#channel) onWake();
    });
    subscriber.on('ready', () => void this.#subscribe());
    if (subscriber.status === 'ready') void this.#subscribe();
    else if (subscriber.status === 'wait') subscriber.connect().catch(() => undefined); // It goes on trying by itself.
  }

  stop(): void {
    this.#o.subscriber.disconnect();
  }

  async #subscribe(): Promise<void> {
    const { subscriber, onWake, onError } = this.#o;
    try {
      // On Cluster ioredis subscribes again by itself, and would remember each further call as one more.
      if (!(subscriber.isCluster && this.#isHeld)) await subscriber.ssubscribe(this.#channel);
      this.#isHeld = true;
    } catch (error) {
      onError(error);
    }
    onWake();
  }
}
