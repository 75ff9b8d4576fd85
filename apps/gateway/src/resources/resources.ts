/**
 * What owners do with resources. Every write is made against the version that it was decided on; where the client named
 * none, it is decided again when somebody else was faster. Each change is a line of the audit log and an event of the
 * resource (A4).
 */
import { randomUUID } from 'node:crypto';
import type { Clock, Logger } from '@carrierarr/platform';
import {
  POOL_LABEL,
  ClientError,
  type Manifest,
  type Resource,
  type ResourceKind,
  type ResourceOf,
  targetOf,
} from '@carrierarr/protocol';
import {
  createResource,
  markDeleted,
  type ResourceEvents,
  type ResourceFollow,
  type ResourceStore,
  updateResource,
} from '@carrierarr/store';
import { shown } from '../problem.js';
import type { RedisHealth } from '../redis-health.js';
import { type ChangedPath, changedPaths } from './changed-paths.js';
import type { StatusFeed } from '../status/status-feed.js';
import { checkTarget, issuesOf, issuesOfChange, issuesOfMember, type MachinesWhere, targetTaken } from './checks.js';
import { badResource, manifestOf } from './manifest.js';
import { type Json, mergePatch } from './merge-patch.js';
import { type Expectation, meets } from './version.js';

/** Times that a write is decided anew because somebody else was faster. */
const TRIES_MAX = 10;
/** Paths named by an event. */
const PATHS_TOLD_MAX = 5;
/** Name of the audit log's lines. */
export const AUDIT_EVENT = 'resource.changed';

/** Who asks, and from where. */
export interface Actor {
  subject: string;
  address: string;
}

export interface ResourcesOptions {
  store: ResourceStore;
  events: ResourceEvents;
  follow: Pick<ResourceFollow, 'resources'>;
  redis: RedisHealth;
  status: Pick<StatusFeed, 'workersWhere'>;
  clock: Clock;
  logger: Pick<Logger, 'info' | 'warn'>;
}

export interface Written<T> {
  resource: T;
  change: 'created' | 'changed' | 'unchanged';
}

/** What a manifest would make of what is there. */
export interface Proposal {
  resource: Resource;
  change: Written<Resource>['change'];
  paths: ChangedPath[];
}

export class Resources {
  readonly #o: ResourcesOptions;

  constructor(options: ResourcesOptions) {
    this.#o = options;
  }

  /** Throws ClientError `not_found`. */
  async get<K extends ResourceKind>(kind: K, name: string): Promise<ResourceOf<K>> {
    const found = await this.#find(kind, name);
    if (found === undefined) throw unknown(kind, name);
    return found;
  }

  async list<K extends ResourceKind>(kind: K): Promise<{ items: ResourceOf<K>[]; resourceVersion: string }> {
    return this.#o.redis.bounded(() => this.#o.store.list(kind));
  }

  async events(kind: ResourceKind, name: string) {
    const { redis, events } = this.#o;
    const found = await redis.bounded(() => events.list(kind, name));
    // Events outlive their resource; without either there is nothing of that name.
    if (found.length === 0) await this.get(kind, name);
    return found;
  }

  /** Creates or replaces. Throws ClientError `conflict` and `bad_resource`. */
  async put<K extends ResourceKind>(
    manifest: Manifest & { kind: K },
    expected: Expectation,
    actor: Actor,
  ): Promise<Written<ResourceOf<K>>> {
    const { kind } = manifest;
    const { name } = manifest.metadata;
    for (let tries = 1; ; tries += 1) {
      const before = await this.#find(kind, name);
      check(expected, kind, name, before);
      const proposal = this.#propose(manifest, before);
      const written = await this.#write(proposal, before, actor);
      if (written !== undefined) return written as Written<ResourceOf<K>>;
      giveUpAfter(tries, kind, name);
    }
  }

  /**
   * Creates a Worker as one of a pool, as the pool itself would have: for a backup, whose machines are adopted under the
   * names that they have. The pool must be paused, or it would make others meanwhile. Throws ClientError `not_found`,
   * `conflict` and `bad_resource`.
   */
  async restore(
    manifest: Manifest & { kind: 'Worker' },
    poolName: string,
    actor: Actor,
  ): Promise<Written<ResourceOf<'Worker'>>> {
    const pool = await this.get('WorkerPool', poolName);
    const issues = [...issuesOf(manifest), ...issuesOfMember(manifest, pool)];
    if (issues.length > 0) throw badResource(issues, `Worker ${shown(manifest.metadata.name)}`);
    if (!pool.spec.paused) {
      throw new ClientError(
        'conflict',
        `The WorkerPool ${shown(poolName)} is not paused, and would make Workers of its own meanwhile. Pause it first.`,
      );
    }
    const { name, uid } = pool.metadata;
    const labels = { ...manifest.metadata.labels, [POOL_LABEL]: name };
    // Without the hash of its template: the pool compares it anew, and goes on with a roll-out that was under way.
    const resource = createResource(
      { ...manifest, metadata: { ...manifest.metadata, labels } },
      {
        uid: randomUUID(),
        nowIso: new Date(this.#o.clock.now()).toISOString(),
        owner: { kind: 'WorkerPool', name, uid },
      },
    );
    const paths = changedPaths(undefined, resource);
    const written = await this.#write({ resource, change: 'created', paths }, undefined, actor);
    if (written !== undefined) return written as Written<ResourceOf<'Worker'>>;
    throw new ClientError('conflict', `There is a Worker ${shown(manifest.metadata.name)} already.`);
  }

  /** Changes parts by a JSON merge patch. Throws as {@link put}, and ClientError `not_found`. */
  async patch<K extends ResourceKind>(
    kind: K,
    name: string,
    patch: Json,
    expectedOf: (resourceVersion: string | undefined) => Expectation,
    actor: Actor,
  ): Promise<Written<ResourceOf<K>>> {
    for (let tries = 1; ; tries += 1) {
      const before = await this.get(kind, name);
      const { apiVersion, metadata, spec } = before;
      const base = { apiVersion, kind, metadata: { name, labels: metadata.labels }, spec } as unknown as Json;
      const manifest = manifestOf(mergePatch(base, patch), { kind, name });
      const expected = expectedOf(manifest.metadata.resourceVersion);
      check(expected, kind, name, before);
      const written = await this.#write(this.#propose(manifest, before), before, actor);
      if (written !== undefined) return written as Written<ResourceOf<K>>;
      giveUpAfter(tries, kind, name);
    }
  }

  /**
   * Lets a resource go: at once if nothing has to be done first, else when its finalizers are done. An orphan's machine
   * is left alone; a pool's orphans are all its Workers. Throws ClientError `not_found` and `conflict`.
   */
  async delete<K extends ResourceKind>(
    kind: K,
    name: string,
    { orphan, expected, actor }: { orphan: boolean; expected: Expectation; actor: Actor },
  ): Promise<{ resource: ResourceOf<K>; isGone: boolean }> {
    const { store, redis, clock } = this.#o;
    for (let tries = 1; ; tries += 1) {
      const before: Resource = await this.get(kind, name);
      check(expected, kind, name, before);
      const marked = markDeleted(before, new Date(clock.now()).toISOString(), orphan);
      const { resourceVersion } = before.metadata;
      if (marked.kind === 'Worker' && marked.metadata.finalizers.length === 0) {
        const answer = await redis.bounded(() => store.remove(kind, name, resourceVersion));
        if (answer.kind === 'ok') {
          this.#audit({ action: 'removed', resource: marked, actor, orphan });
          return { resource: marked as ResourceOf<K>, isGone: true };
        }
      } else {
        // A pool that is paused deletes none of its Workers, whose machines are to stay.
        const next = marked.kind === 'WorkerPool' && orphan ? paused(marked) : marked;
        const isNews = before.metadata.deletionTimestamp === undefined || orphan;
        const answer = await redis.bounded(() => store.put<Resource>(next, resourceVersion));
        if (answer.kind === 'ok') {
          if (isNews) {
            this.#audit({ action: 'deleted', resource: answer.resource, actor, orphan });
            await this.#tell(
              kind,
              name,
              'DeletionRequested',
              `By ${actor.subject}${orphan ? ', leaving the machine' : ''}.`,
            );
          }
          if (kind === 'WorkerPool' && orphan) await this.#orphanWorkersOf(answer.resource, actor);
          return { resource: answer.resource as ResourceOf<K>, isGone: false };
        }
      }
      giveUpAfter(tries, kind, name);
    }
  }

  /** What writing a manifest would change, checked as if it were. Throws ClientError `conflict` and `bad_resource`. */
  async preview(manifest: Manifest): Promise<Proposal> {
    const proposal = this.#propose(manifest, await this.#find(manifest.kind, manifest.metadata.name));
    // Whoever really writes is told by the store, which alone sees all who write at once.
    checkTarget(manifest, this.#o.follow.resources.list('Worker'));
    return proposal;
  }

  #propose(manifest: Manifest, before: Resource | undefined): Proposal {
    const machines: MachinesWhere = (isWanted) => this.#o.status.workersWhere(isWanted);
    const issues = [...issuesOf(manifest), ...(before === undefined ? [] : issuesOfChange(before, manifest, machines))];
    if (issues.length > 0) throw badResource(issues, `${manifest.kind} ${shown(manifest.metadata.name)}`);
    const nowIso = new Date(this.#o.clock.now()).toISOString();
    const resource: Resource =
      before === undefined ? createResource(manifest, { uid: randomUUID(), nowIso }) : updateResource(before, manifest);
    const paths = changedPaths(before, resource);
    return { resource, paths, change: before === undefined ? 'created' : paths.length > 0 ? 'changed' : 'unchanged' };
  }

  #find<K extends ResourceKind>(kind: K, name: string): Promise<ResourceOf<K> | undefined> {
    return this.#o.redis.bounded(() => this.#o.store.get(kind, name));
  }

  /** Undefined: somebody else was faster. Throws ClientError `conflict` if its target is another Worker's. */
  async #write(
    { resource, change, paths }: Proposal,
    before: Resource | undefined,
    actor: Actor,
  ): Promise<Written<Resource> | undefined> {
    if (change === 'unchanged') return { resource: before ?? resource, change };
    const { store, redis } = this.#o;
    const { kind, metadata } = resource;
    const answer = await redis.bounded(() => store.put(resource, before?.metadata.resourceVersion ?? '0'));
    if (answer.kind === 'taken' && resource.kind === 'Worker') throw targetTaken(targetOf(resource), answer.by);
    if (answer.kind !== 'ok') return undefined;
    this.#audit({ action: change, resource: answer.resource, actor, paths });
    const told = paths.slice(0, PATHS_TOLD_MAX).map(({ path }) => path);
    const more = paths.length > told.length ? `, and ${paths.length - told.length} more` : '';
    if (change === 'created') await this.#tell(kind, metadata.name, 'Created', `By ${actor.subject}.`);
    else await this.#tell(kind, metadata.name, 'SpecChanged', `By ${actor.subject}: ${told.join(', ')}${more}.`);
    return { resource: answer.resource, change };
  }

  /** The pool is paused and marked, so no others come. What is left after a failure another DELETE removes. */
  async #orphanWorkersOf(pool: Resource, actor: Actor): Promise<void> {
    const { items } = await this.list('Worker');
    for (const { metadata } of items) {
      if (metadata.owner?.uid !== pool.metadata.uid) continue;
      await this.delete('Worker', metadata.name, { orphan: true, expected: { kind: 'any' }, actor }).catch(
        (error: unknown) => {
          if (!(error instanceof ClientError && error.code === 'not_found')) throw error;
        },
      );
    }
  }

  #audit({
    action,
    resource,
    actor,
    orphan,
    paths,
  }: {
    action: 'created' | 'changed' | 'deleted' | 'removed';
    resource: Resource;
    actor: Actor;
    orphan?: boolean;
    paths?: readonly ChangedPath[];
  }): void {
    const { kind, metadata } = resource;
    const { name, resourceVersion, generation } = metadata;
    this.#o.logger.info(
      {
        ...{ event: AUDIT_EVENT, action, kind, name, resourceVersion, generation, ...actor },
        ...(orphan && { orphan }),
        ...(paths && { paths: paths.map(({ path }) => path) }),
      },
      `${kind} ${action}`,
    );
  }

  /** The change is made already: that nobody can be told of it is no reason to say that it failed. */
  async #tell(kind: ResourceKind, name: string, reason: string, message: string): Promise<void> {
    try {
      await this.#o.redis.bounded(() => this.#o.events.record(kind, name, { type: 'Normal', reason, message }));
    } catch (error) {
      this.#o.logger.warn({ err: error, kind, name, reason }, 'an event of a resource could not be recorded');
    }
  }
}

function giveUpAfter(tries: number, kind: ResourceKind, name: string): void {
  // Who named a version is told by the check, at the next try.
  if (tries < TRIES_MAX) return;
  throw new ClientError(
    'conflict',
    `Others changed ${kind} ${shown(name)} ${tries} times meanwhile. Try again in a moment.`,
  );
}

/** Throws ClientError `conflict` unless what is there is what was expected. */
function check(expected: Expectation, kind: ResourceKind, name: string, found: Resource | undefined): void {
  const version = found?.metadata.resourceVersion;
  if (meets(expected, version)) return;
  const there = version === undefined ? 'there is none' : `it is at version ${version}`;
  const wanted =
    expected.kind === 'version'
      ? `to be at version ${expected.resourceVersion}`
      : expected.kind === 'nothing'
        ? 'not to exist'
        : 'to exist';
  throw new ClientError(
    'conflict',
    `Expected ${kind} ${shown(name)} ${wanted}, but ${there}. Read it again, and decide anew.`,
  );
}

function paused<T extends Resource>(resource: T): T {
  const { metadata, spec } = resource;
  if (spec.paused) return resource;
  return {
    ...resource,
    metadata: { ...metadata, generation: metadata.generation + 1 },
    spec: { ...spec, paused: true },
  };
}

export function unknown(kind: ResourceKind, name: string): ClientError {
  return new ClientError('not_found', `There is no ${kind} ${shown(name.slice(0, 200))}.`);
}
