/**
 * Desired state, with optimistic concurrency and a journal.
 *
 * Every change gets a revision, which becomes the resource's `resourceVersion`, and an entry in the journal. Who has
 * read everything at some revision follows the journal from there (`resource-follow.ts`). A resource is stored as
 * `<revision> <canonical JSON without its resourceVersion>`, so a write of what is there already is seen to be none:
 * it gets no revision and wakes nobody.
 */
import type { Keys, Resource, ResourceChange, ResourceKind, ResourceOf } from '@carrierarr/protocol';
import { RESOURCE_KINDS, resourceSchema, targetOf } from '@carrierarr/protocol';
import { canonicalJson } from './canonical-json.js';
import { callScript, type RedisConnection, type ScriptName } from './connection.js';
import { refuseDeposed } from './leadership.js';
import { replies } from './transaction.js';

/** Changes kept; Redis may keep a few more. */
export const JOURNAL_ENTRIES_MAX = 20_000;

export type WriteAnswer<T> =
  | { kind: 'ok'; resource: T }
  /** It is not the expected one; `resourceVersion` is what is there. */
  | { kind: 'conflict'; resourceVersion: string | undefined }
  /** The target of this Worker is that of another, whose name is `by`. */
  | { kind: 'taken'; by: string }
  | { kind: 'not-found' };

/** A change with its revision. A deleted object's resourceVersion is that of its deletion. */
export type JournalChange = ResourceChange & { resourceVersion: string };

export type JournalAnswer =
  /** `resourceVersion`: where to read on from. */
  { kind: 'changes'; changes: JournalChange[]; resourceVersion: string } | { kind: 'expired' };

/** Thrown when a stored resource is not one that this program understands. */
export class UnreadableResourceError extends Error {
  override name = 'UnreadableResourceError';
}

export interface ResourceStoreOptions {
  connection: RedisConnection;
  keys: Keys;
  /** Default {@link JOURNAL_ENTRIES_MAX}. */
  journalEntriesMax?: number;
}

export class ResourceStore {
  readonly #connection: RedisConnection;
  readonly #keys: Keys;
  readonly #journalEntriesMax: number;

  constructor({ connection, keys, journalEntriesMax = JOURNAL_ENTRIES_MAX }: ResourceStoreOptions) {
    this.#connection = connection;
    this.#keys = keys;
    this.#journalEntriesMax = journalEntriesMax;
  }

  async get<K extends ResourceKind>(kind: K, name: string): Promise<ResourceOf<K> | undefined> {
    const stored = await this.#connection.hget(this.#keys.resources(kind), name);
    return stored === null ? undefined : (fromStored(kind, name, stored) as ResourceOf<K>);
  }

  /** All of a kind, sorted by name, and the revision at which they were so. */
  async list<K extends ResourceKind>(kind: K): Promise<{ items: ResourceOf<K>[]; resourceVersion: string }> {
    const [stored, revision] = await replies<[Record<string, string>, string | null]>(
      this.#connection.multi().hgetall(this.#keys.resources(kind)).get(this.#keys.resourceRevision()),
    );
    return { items: itemsOf(kind, stored), resourceVersion: revision ?? '0' };
  }

  /** All of every kind, and the revision at which they were so. */
  async listAll(): Promise<{ items: Resource[]; resourceVersion: string }> {
    const transaction = this.#connection.multi().get(this.#keys.resourceRevision());
    for (const kind of RESOURCE_KINDS) transaction.hgetall(this.#keys.resources(kind));
    const [revision, ...stored] = await replies<[string | null, ...Record<string, string>[]]>(transaction);
    const items = RESOURCE_KINDS.flatMap((kind, i): Resource[] => itemsOf(kind, stored[i] ?? {}));
    return { items, resourceVersion: revision ?? '0' };
  }

  /**
   * Writes a whole resource. `expected`: '0' = it must not exist; a resourceVersion = it must be that one; undefined =
   * whatever is there. The resource's own `metadata.resourceVersion` is set here. `fence`: only while that leader
   * leads, else {@link DeposedError}. An equal resource is not written again. A target has one Worker, however many
   * are written at once.
   */
  async put<T extends Resource>(resource: T, expected: string | undefined, fence?: number): Promise<WriteAnswer<T>> {
    const { name } = resource.metadata;
    const { resourceVersion: _, ...metadata } = resource.metadata;
    const written = [resource.kind === 'Worker' ? targetOf(resource) : '', canonicalJson({ ...resource, metadata })];
    const [what, revision] = await this.#write('carrierarrPutResource', resource.kind, name, expected, fence, written);
    if (what === 'ok')
      return {
        kind: 'ok',
        resource: { ...resource, metadata: { ...resource.metadata, resourceVersion: String(revision) } },
      };
    if (what === 'not_found') return { kind: 'not-found' };
    if (what === 'taken') return { kind: 'taken', by: String(revision) };
    return { kind: 'conflict', resourceVersion: revision === '' ? undefined : String(revision) };
  }

  /** Removes a resource for good: its finalizers must be done. `expected` and `fence` as for {@link put}. */
  async remove(
    kind: ResourceKind,
    name: string,
    expected: string | undefined,
    fence?: number,
  ): Promise<{ kind: 'ok' | 'conflict' | 'not-found' }> {
    const [what] = await this.#write('carrierarrRemoveResource', kind, name, expected, fence);
    return { kind: what === 'not_found' ? 'not-found' : what === 'ok' ? 'ok' : 'conflict' };
  }

  async #write(
    script: ScriptName,
    kind: ResourceKind,
    name: string,
    expected: string | undefined,
    fence: number | undefined,
    written: readonly string[] = [],
  ) {
    const reply = await callScript(this.#connection, script, [
      this.#keys.leader(),
      this.#keys.resources(kind),
      this.#keys.resourceRevision(),
      this.#keys.resourceJournal(),
      this.#keys.resourceTargets(),
      fence ?? '',
      this.#keys.resourceChannel(),
      name,
      expected ?? '',
      this.#journalEntriesMax,
      ...written,
    ]);
    refuseDeposed(fence, reply);
    return reply;
  }

  /**
   * Changes after a revision, oldest first, at most `limit`. 'expired' when the journal does not continue from there:
   * it no longer reaches back, or the revision is none that this store gave out (Redis lost it); list again then.
   */
  async changesSince(resourceVersion: string, limit: number): Promise<JournalAnswer> {
    if (!/^\d{1,16}$/.test(resourceVersion)) return { kind: 'expired' };
    const [entries, newest] = await replies<[[id: string, fields: string[]][], string | null]>(
      this.#connection
        .multi()
        .xrange(this.#keys.resourceJournal(), `(${resourceVersion}-0`, '+', 'COUNT', limit)
        .get(this.#keys.resourceRevision()),
    );
    const first = entries[0];
    const continuesFrom = first === undefined ? (newest ?? '0') : fieldOf(first[1], 'p');
    if (continuesFrom !== resourceVersion) return { kind: 'expired' };
    const changes = entries.map(([id, fields]) => changeOf(id, fields));
    return { kind: 'changes', changes, resourceVersion: changes.at(-1)?.resourceVersion ?? resourceVersion };
  }

  /** The revision of the newest change of any resource; '0' before the first. */
  async revision(): Promise<string> {
    return (await this.#connection.get(this.#keys.resourceRevision())) ?? '0';
  }
}

function itemsOf<K extends ResourceKind>(kind: K, stored: Record<string, string>): ResourceOf<K>[] {
  return Object.keys(stored)
    .toSorted()
    .map((name) => fromStored(kind, name, stored[name] as string) as ResourceOf<K>);
}

function fromStored(kind: ResourceKind, name: string, stored: string): Resource {
  const space = stored.indexOf(' ');
  return parseResource(stored.slice(space + 1), stored.slice(0, space), `${kind} "${name}"`);
}

function changeOf(id: string, fields: string[]): JournalChange {
  const resourceVersion = id.slice(0, id.indexOf('-'));
  return {
    type: fieldOf(fields, 't') as ResourceChange['type'],
    object: parseResource(fieldOf(fields, 'o') ?? '', resourceVersion, `journal entry ${id}`),
    resourceVersion,
  };
}

/** Leaving an unreadable one out would look like its deletion, and machines would be acted on: better to stop. */
function parseResource(json: string, resourceVersion: string, what: string): Resource {
  try {
    const value = JSON.parse(json) as { metadata: Record<string, unknown> };
    value.metadata['resourceVersion'] = resourceVersion;
    return resourceSchema.parse(value);
  } catch (cause) {
    throw new UnreadableResourceError(
      `Expected the stored ${what} to be a resource that this program knows. Run the carrierarr version that wrote it.`,
      { cause },
    );
  }
}

function fieldOf(fields: readonly string[], name: string): string | undefined {
  for (let i = 0; i + 1 < fields.length; i += 2) if (fields[i] === name) return fields[i + 1];
  return undefined;
}
