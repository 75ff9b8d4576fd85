/**
 * The two ways to listen, and the change from one to the other: `target`, one channel for each followed target;
 * `all`, the partitions' channels, from when some client watches everything or a pattern.
 */
import { type Clock, type Logger, sleep } from '@carrierarr/platform';
import { type Keys, PARTITIONS } from '@carrierarr/protocol';
import type { Partitions } from './partitions.js';
import type { Places } from './places.js';
import { retryDelayMs } from './retry-delay.js';
import type { Subscription } from './subscription.js';

export interface EverythingOptions {
  subscription: Pick<Subscription, 'subscribe' | 'unsubscribe'>;
  partitions: Partitions;
  places: Pick<Places, 'all'>;
  keys: Keys;
  clock: Clock;
  logger: Logger;
  stopping: AbortSignal;
}

export class Everything {
  readonly #o: EverythingOptions;
  #ready: Promise<void> | undefined;
  #isReady = false;
  /** Goes up each time that listening to everything begins or ends. */
  #entries = 0;

  constructor(options: EverythingOptions) {
    this.#o = options;
  }

  /** In `all` mode: resolves when nothing that is written from then on will be missed. Else undefined. */
  get ready(): Promise<void> | undefined {
    return this.#ready;
  }

  /** True once {@link ready} has resolved. */
  get isReady(): boolean {
    return this.#isReady;
  }

  /** Listens to every target, now and in future. */
  enter(): Promise<void> {
    if (this.#ready === undefined) {
      this.#o.partitions.open();
      this.#ready = this.#enter(++this.#entries);
      this.#ready.catch(() => undefined);
    }
    return this.#ready;
  }

  async #enter(entry: number): Promise<void> {
    const { subscription, partitions, clock, logger, stopping } = this.#o;
    for (let attempt = 0; ; attempt++) {
      try {
        await subscription.subscribe(this.#partitionChannels());
        const sequences = await partitions.askRedis();
        if (entry !== this.#entries) throw new Error('Nobody wanted everything any more.');
        partitions.begin(sequences);
        break;
      } catch (error) {
        if (stopping.aborted || entry !== this.#entries) throw error;
        if (attempt === 0) logger.warn({ err: error }, 'cannot listen to every target; trying again');
        await sleep(clock, retryDelayMs(attempt));
      }
    }
    this.#isReady = true;
    await subscription.unsubscribe(this.#targetChannels());
  }

  /** Goes back to one channel for each followed target. */
  async leave(): Promise<void> {
    if (this.#ready === undefined) return;
    // All at once, so that whoever follows or wants everything from now on starts afresh.
    this.#ready = undefined;
    this.#isReady = false;
    this.#entries += 1;
    this.#o.partitions.close();
    await this.#o.subscription.subscribe(this.#targetChannels()).catch(
      () => undefined, // Not connected: after a reconnect the wanted channels are subscribed to.
    );
    if (this.#ready !== undefined) return;
    await this.#o.subscription.unsubscribe(this.#partitionChannels());
  }

  #partitionChannels(): string[] {
    return Array.from({ length: PARTITIONS }, (_, p) => this.#o.keys.partitionChannel(p));
  }

  #targetChannels(): string[] {
    return Array.from(this.#o.places.all(), ({ target }) => this.#o.keys.outputChannel(target));
  }
}
