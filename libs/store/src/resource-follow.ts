/**
 * All resources in memory, kept as they are in Redis.
 *
 * The journal is the truth and the channel only an alarm clock: a message says that there is something to read, and
 * when no message comes the journal is read all the same, every two seconds. It is always read on from the revision
 * that memory is at, so it does not matter which messages were lost, or what changed between listing and subscribing.
 * When the journal does not continue from there (it was cut, or Redis lost data), everything is listed again and
 * listeners hear RESET.
 */
import type { Keys, Resource, ResourceKind, ResourceOf } from '@carrierarr/protocol';
import type { RedisConnection } from './connection.js';
import type { JournalChange, ResourceStore } from './resource-store.js';

/** Longest time without a look at the journal, ms. */
export const FOLLOW_INTERVAL_MS = 2_000;
/** Changes read at once. */
const CHANGES_PER_READ_MAX = 500;

export type FollowedChange = JournalChange | { type: 'RESET' };

export interface ResourceFollowOptions {
  /** In subscriber mode; others may use it too. It may forget its subscriptions when it reconnects. */
  subscriber: RedisConnection;
  keys: Keys;
  store: ResourceStore;
  clock: { setTimeout(callback: () => void, ms: number): { cancel(): void } };
  /** Reading or subscribing failed, or a listener threw; it is tried again within two seconds. */
  onError(error: unknown): void;
}

/** What a {@link ResourceFollow} knows. */
export interface FollowedResources {
  get<K extends ResourceKind>(kind: K, name: string): ResourceOf<K> | undefined;
  /** Sorted by name. The array is not changed afterwards. */
  list<K extends ResourceKind>(kind: K): readonly ResourceOf<K>[];
  /** The revision at which they were so. */
  readonly resourceVersion: string;
}

export class ResourceFollow {
  readonly resources: FollowedResources;
  readonly #o: ResourceFollowOptions;
  readonly #listeners = new Set<(change: FollowedChange) => void>();
  readonly #channel: string;
  #known: Record<ResourceKind, Known> = { Worker: new Known(), WorkerPool: new Known() };
  /** Undefined until everything was listed. */
  #revision: string | undefined;
  #subscribed = false;
  #stopped = false;
  #reading: Promise<void> | undefined;
  /** Something was heard while reading: read once more. */
  #again = false;
  #timer: { cancel(): void } | undefined;
  #listed: (() => void) | undefined;

  readonly #receive = (channel: string) => {
    if (channel === this.#channel) this.#wake();
  };
  readonly #connected = () => {
    // On Cluster ioredis subscribes again by itself.
    if (!this.#o.subscriber.isCluster) this.#subscribed = false;
    this.#wake();
  };

  constructor(options: ResourceFollowOptions) {
    this.#o = options;
    this.#channel = options.keys.resourceChannel();
    const known = <K extends ResourceKind>(kind: K) => this.#known[kind];
    const revision = () => this.#revision ?? '0';
    this.resources = {
      get: <K extends ResourceKind>(kind: K, name: string) => known(kind).get(name) as ResourceOf<K> | undefined,
      list: <K extends ResourceKind>(kind: K) => known(kind).sorted() as readonly ResourceOf<K>[],
      get resourceVersion() {
        return revision();
      },
    };
  }

  /** Resolves when everything is known (or after {@link stop}). Until Redis answers it goes on trying. */
  async start(): Promise<void> {
    const { subscriber } = this.#o;
    const listed = new Promise<void>((resolve) => {
      this.#listed = resolve;
    });
    subscriber.on('smessage', this.#receive);
    subscriber.on('ready', this.#connected);
    this.#wake();
    await listed;
  }

  stop(): void {
    const { subscriber } = this.#o;
    this.#stopped = true;
    this.#timer?.cancel();
    subscriber.off('smessage', this.#receive);
    subscriber.off('ready', this.#connected);
    this.#listeners.clear();
    this.#listed?.();
  }

  /** Calls the listener after each change, in order, once {@link resources} has it. Returns what ends that. */
  onChange(listener: (change: FollowedChange) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  #wake(): void {
    if (this.#stopped) return;
    if (this.#reading !== undefined) {
      this.#again = true;
      return;
    }
    this.#timer?.cancel();
    this.#reading = this.#read().finally(() => {
      this.#reading = undefined;
      if (this.#stopped) return;
      if (this.#again) {
        this.#again = false;
        this.#wake();
      } else {
        this.#timer = this.#o.clock.setTimeout(() => this.#wake(), FOLLOW_INTERVAL_MS);
      }
    });
  }

  async #read(): Promise<void> {
    try {
      // First, so that nothing which is written after the reading goes unheard.
      await this.#subscribe();
    } catch (error) {
      this.#o.onError(error);
    }
    try {
      if (this.#revision === undefined) await this.#list();
      await this.#readJournal();
    } catch (error) {
      if (!this.#stopped) this.#o.onError(error);
    }
  }

  async #subscribe(): Promise<void> {
    const { subscriber } = this.#o;
    if (subscriber.status === 'wait') subscriber.connect().catch(() => undefined); // Its owner hears why.
    // Once it is ready this is called again.
    if (this.#subscribed || subscriber.status !== 'ready') return;
    this.#subscribed = true;
    try {
      await subscriber.ssubscribe(this.#channel);
    } catch (error) {
      this.#subscribed = false;
      throw error;
    }
  }

  async #readJournal(): Promise<void> {
    while (!this.#stopped && this.#revision !== undefined) {
      const answer = await this.#o.store.changesSince(this.#revision, CHANGES_PER_READ_MAX);
      if (answer.kind === 'expired') {
        await this.#list();
        continue;
      }
      for (const change of answer.changes) this.#apply(change);
      if (answer.changes.length < CHANGES_PER_READ_MAX) return;
    }
  }

  async #list(): Promise<void> {
    const { items, resourceVersion } = await this.#o.store.listAll();
    if (this.#stopped) return;
    const known = { Worker: new Known(), WorkerPool: new Known() };
    for (const item of items) known[item.kind].set(item);
    this.#known = known;
    this.#revision = resourceVersion;
    this.#tell({ type: 'RESET' });
    this.#listed?.();
  }

  #apply(change: JournalChange): void {
    if (this.#stopped) return;
    const known = this.#known[change.object.kind];
    if (change.type === 'DELETED') known.delete(change.object.metadata.name);
    else known.set(change.object);
    this.#revision = change.resourceVersion;
    this.#tell(change);
  }

  #tell(change: FollowedChange): void {
    for (const listener of this.#listeners) {
      try {
        listener(change);
      } catch (error) {
        this.#o.onError(error);
      }
    }
  }
}

/** The resources of one kind, by name; sorted when asked, once for each change. */
class Known {
  readonly #byName = new Map<string, Resource>();
  #sorted: readonly Resource[] | undefined;

  get(name: string): Resource | undefined {
    return this.#byName.get(name);
  }

  set(resource: Resource): void {
    this.#byName.set(resource.metadata.name, resource);
    this.#sorted = undefined;
  }

  delete(name: string): void {
    this.#byName.delete(name);
    this.#sorted = undefined;
  }

  sorted(): readonly Resource[] {
    this.#sorted ??= [...this.#byName.values()].toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
    return this.#sorted;
  }
}
