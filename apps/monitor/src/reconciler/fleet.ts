/**
 * The resources in memory, as new as this process can know them: what it follows in Redis, and what it wrote itself a
 * moment ago and has yet to hear of. Without the latter, each write would be followed by a plan for the state before it.
 */
import type { Resource, ResourceKind, ResourceOf, WorkerResource } from '@carrierarr/protocol';
import { targetOf } from '@carrierarr/protocol';
import { hasTags } from '@carrierarr/reconcile';
import type { FollowedChange, ResourceFollow } from '@carrierarr/store';
import { keyOf, type ResourceKey } from './keys.js';

/** What became of a resource; undefined is what there is not. */
export interface FleetChange {
  key: ResourceKey;
  before: Resource | undefined;
  after: Resource | undefined;
  /** This process wrote it. */
  isOwn: boolean;
}

export type FleetListener = (change: FleetChange | 'reset') => void;

export class Fleet {
  readonly #follow: Pick<ResourceFollow, 'resources' | 'onChange'>;
  readonly #byKey = new Map<string, Resource>();
  /** Pool to the names of its Workers. */
  readonly #ofPool = new Map<string, Set<string>>();
  /** Target to the names of the Workers that are it. */
  readonly #atTarget = new Map<string, Set<string>>();
  /** One of the tags that a Worker selects its machine by (`key=value`) to the names of such Workers. */
  readonly #selecting = new Map<string, Set<string>>();
  readonly #listeners = new Set<FleetListener>();

  /** Follows from now on, for ever: it lives as long as what it follows. */
  constructor(follow: Pick<ResourceFollow, 'resources' | 'onChange'>) {
    this.#follow = follow;
    follow.onChange((change) => this.#followed(change));
  }

  get size(): number {
    return this.#byKey.size;
  }

  get<K extends ResourceKind>(kind: K, name: string): ResourceOf<K> | undefined {
    return this.#byKey.get(keyOf(kind, name)) as ResourceOf<K> | undefined;
  }

  keys(): IterableIterator<string> {
    return this.#byKey.keys();
  }

  *workers(): Generator<WorkerResource> {
    for (const resource of this.#byKey.values()) if (resource.kind === 'Worker') yield resource;
  }

  /** The Workers a pool owns. */
  workersOf(pool: { metadata: { name: string; uid: string } }): WorkerResource[] {
    const names = this.#ofPool.get(pool.metadata.name) ?? [];
    return [...names]
      .map((name) => this.get('Worker', name))
      .filter((worker) => worker !== undefined)
      .filter((worker) => worker.metadata.owner?.uid === pool.metadata.uid);
  }

  /** Names of the Workers whose target this is. */
  namesAt(target: string): Iterable<string> {
    return this.#atTarget.get(target) ?? [];
  }

  /** Names of the Workers that select a machine with these tags. */
  *namesSelecting(tags: Readonly<Record<string, string>> = {}): Generator<string> {
    // Most installations have none, and a large one must not ask each of them about each machine.
    if (this.#selecting.size === 0) return;
    for (const [key, value] of Object.entries(tags)) {
      for (const name of this.#selecting.get(`${key}=${value}`) ?? []) {
        const wanted = this.get('Worker', name)?.spec.selector?.tags;
        if (wanted !== undefined && hasTags({ tags }, wanted)) yield name;
      }
    }
  }

  /** This process has written, or read, this newer state. */
  learn(resource: Resource): void {
    this.#set(resource, true);
  }

  /** There is not this one any more. One that was made anew under its name, and heard of since, stays. */
  unlearn({ kind, metadata: { name, uid } }: Resource): void {
    if (this.get(kind, name)?.metadata.uid === uid) this.#delete(keyOf(kind, name), true);
  }

  /** Calls the listener after each change. Returns what ends that. */
  onChange(listener: FleetListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  #followed(change: FollowedChange): void {
    if (change.type === 'RESET') return this.#reset();
    const { kind, metadata } = change.object;
    if (change.type !== 'DELETED') return this.#set(change.object, false);
    const known = this.get(kind, metadata.name);
    // One that was made anew meanwhile stays.
    if (known !== undefined && revisionOf(known) < Number(change.resourceVersion)) {
      this.#delete(keyOf(kind, metadata.name), false);
    }
  }

  #reset(): void {
    this.#byKey.clear();
    for (const index of [this.#ofPool, this.#atTarget]) index.clear();
    this.#selecting.clear();
    for (const kind of ['Worker', 'WorkerPool'] as const) {
      for (const resource of this.#follow.resources.list(kind)) {
        this.#byKey.set(keyOf(kind, resource.metadata.name), resource);
        this.#index(resource);
      }
    }
    for (const listener of this.#listeners) listener('reset');
  }

  #set(resource: Resource, isOwn: boolean): void {
    const key = keyOf(resource.kind, resource.metadata.name);
    const before = this.#byKey.get(key);
    if (before !== undefined && revisionOf(before) >= revisionOf(resource)) {
      // What is heard of now was written by us and known since. Kept once, not twice.
      if (revisionOf(before) === revisionOf(resource)) this.#byKey.set(key, resource);
      return;
    }
    if (before !== undefined) this.#unindex(before);
    this.#byKey.set(key, resource);
    this.#index(resource);
    this.#tell({ key, before, after: resource, isOwn });
  }

  #delete(key: ResourceKey, isOwn: boolean): void {
    const before = this.#byKey.get(key);
    if (before === undefined) return;
    this.#byKey.delete(key);
    this.#unindex(before);
    this.#tell({ key, before, after: undefined, isOwn });
  }

  #tell(change: FleetChange): void {
    for (const listener of this.#listeners) listener(change);
  }

  #index(resource: Resource): void {
    if (resource.kind !== 'Worker') return;
    const { name, owner } = resource.metadata;
    if (owner !== undefined) put(this.#ofPool, owner.name, name);
    put(this.#atTarget, targetOf(resource), name);
    const tag = firstTagOf(resource);
    if (tag !== undefined) put(this.#selecting, tag, name);
  }

  #unindex(resource: Resource): void {
    if (resource.kind !== 'Worker') return;
    const { name, owner } = resource.metadata;
    if (owner !== undefined) take(this.#ofPool, owner.name, name);
    take(this.#atTarget, targetOf(resource), name);
    const tag = firstTagOf(resource);
    if (tag !== undefined) take(this.#selecting, tag, name);
  }
}

/** The first of the tags that a Worker selects by; undefined without a selector, or with one that selects nothing. */
function firstTagOf({ spec }: WorkerResource): string | undefined {
  const [first] = Object.entries(spec.selector?.tags ?? {});
  return first === undefined ? undefined : first.join('=');
}

function revisionOf({ metadata }: Resource): number {
  return Number(metadata.resourceVersion);
}

/** Adds a member to one of the sets of an index. */
export function put<T>(index: Map<string, Set<T>>, at: string, member: T): void {
  const members = index.get(at);
  if (members === undefined) index.set(at, new Set([member]));
  else members.add(member);
}

/** Takes a member out of one of the sets of an index; an empty set goes. */
export function take<T>(index: Map<string, Set<T>>, at: string, member: T): void {
  const members = index.get(at);
  members?.delete(member);
  if (members?.size === 0) index.delete(at);
}
