/**
 * The gateway's routes of resources, made of a Map and a journal, to drive the command line into corners that a real
 * gateway reaches rarely: lost answers, conflicts at the worst moment, watches that break off, hostile names. What it
 * receives and sends is checked against the schemas of the protocol, so it cannot drift from them.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  dryRunBodySchema,
  errorBodySchema,
  ERRORS,
  type ErrorCode,
  type Execution,
  executionsBodySchema,
  type Manifest,
  manifestSchema,
  type Metadata,
  observedBodySchema,
  type OrphansBody,
  planBodySchema,
  type Resource,
  type ResourceEvent,
  resourceEventsBodySchema,
  type ResourceKind,
  resourceSchema,
  resourcesQuerySchema,
  TERMINATE_FINALIZER,
  watchLineSchema,
  type WorkerResource,
  workerListSchema,
  workerPoolListSchema,
} from '@carrierarr/protocol';

interface Journaled {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: Resource;
  readonly revision: number;
}
interface Watcher {
  readonly kind: ResourceKind;
  readonly response: ServerResponse;
  readonly isWanted: (resource: Resource) => boolean;
}
type Observed = ReturnType<typeof observedBodySchema.parse>;

class Refusal extends Error {
  constructor(
    readonly code: ErrorCode,
    text: string = ERRORS[code].meaning,
  ) {
    super(text);
  }
}

export class FakeResources {
  readonly #http: Server;
  readonly #resources = new Map<string, Resource>();
  readonly #watchers = new Set<Watcher>();
  #journal: Journaled[] = [];
  #revision = 100;
  #port = 0;
  /** `METHOD /path?query` of every request, in order. */
  readonly requests: string[] = [];
  /** Called before each request is answered; an error code refuses it, `lost` carries it out and loses the answer. */
  onRequest: (request: string) => ErrorCode | 'lost' | undefined = () => undefined;
  /** Error text instead of the code's own. */
  errorText: string | undefined;
  readonly events = new Map<string, ResourceEvent[]>();
  executions: Execution[] = [];
  orphans: OrphansBody['items'] = [];
  observed: Observed = { epoch: 'e', version: 1, timestamp: new Date().toISOString(), workers: [], sources: [] };
  summary = 'It is as desired.';

  constructor() {
    this.#http = createServer((request, response) => void this.#respond(request, response));
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get watchers(): number {
    return this.#watchers.size;
  }

  async start(): Promise<this> {
    this.#http.listen(this.#port, '127.0.0.1');
    await once(this.#http, 'listening');
    this.#port = (this.#http.address() as AddressInfo).port;
    return this;
  }

  async stop(): Promise<void> {
    if (!this.#http.listening) return;
    this.#http.close();
    this.#http.closeAllConnections();
    await once(this.#http, 'close');
  }

  /** Breaks every watch off. */
  drop(): void {
    for (const { response } of this.#watchers) response.destroy();
    this.#watchers.clear();
  }

  /** Forgets which changes there were until now. */
  forget(): void {
    this.#journal = [];
  }

  worker(name: string): WorkerResource | undefined {
    return this.#resources.get(`Worker/${name}`) as WorkerResource | undefined;
  }

  resource(kind: ResourceKind, name: string): Resource | undefined {
    return this.#resources.get(`${kind}/${name}`);
  }

  names(): string[] {
    return [...this.#resources.keys()].toSorted();
  }

  /** Writes as somebody else does: an owner, a pool, the reconciler. */
  write(resource: Resource): Resource {
    const key = keyOf(resource);
    const revision = ++this.#revision;
    const stored = resourceSchema.parse({
      ...resource,
      metadata: { ...resource.metadata, resourceVersion: String(revision) },
    });
    const type = this.#resources.has(key) ? 'MODIFIED' : 'ADDED';
    this.#resources.set(key, stored);
    this.#record({ type, object: stored, revision });
    return stored;
  }

  /** A resource as the gateway makes it of a manifest; `metadata` and `status` are the server's. */
  add(manifest: unknown, metadata: Partial<Metadata> = {}, status?: unknown): Resource {
    const parsed = manifestSchema.parse(manifest);
    return this.write(
      resourceSchema.parse({
        ...parsed,
        metadata: {
          ...parsed.metadata,
          uid: `uid-${this.#revision + 1}`,
          generation: 1,
          resourceVersion: '0',
          creationTimestamp: new Date(Date.now() - 90_000).toISOString(),
          finalizers: parsed.kind === 'Worker' ? [TERMINATE_FINALIZER] : [],
          ...metadata,
        },
        ...(status !== undefined && { status }),
      }),
    );
  }

  /** Removes for good, as when the finalizer is done. */
  remove(kind: ResourceKind, name: string): void {
    const key = `${kind}/${name}`;
    const object = this.#resources.get(key);
    if (object === undefined) throw new Error(`no ${key}`);
    this.#resources.delete(key);
    const revision = ++this.#revision;
    // As it was last: with the version of its last change.
    this.#record({ type: 'DELETED', object, revision });
  }

  #record(change: Journaled): void {
    this.#journal.push(change);
    for (const watcher of this.#watchers) this.#tell(watcher, change);
  }

  #tell({ kind, response, isWanted }: Watcher, { type, object }: Journaled): void {
    if (object.kind === kind && isWanted(object)) line(response, { type, object });
  }

  async #respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = '';
    for await (const chunk of request) text += String(chunk);
    const { method = '', url: raw = '' } = request;
    this.requests.push(`${method} ${raw}`);
    const fault = this.onRequest(`${method} ${raw}`);
    const url = new URL(raw, 'http://x');
    try {
      if (fault !== undefined && fault !== 'lost') throw new Refusal(fault, this.errorText);
      if (url.searchParams.get('watch') === 'true') {
        this.#watch(url, response);
        return;
      }
      const body: unknown = text === '' ? undefined : JSON.parse(text);
      const [status, answer] = this.#answer(method, url, body);
      if (fault === 'lost') {
        response.destroy();
        return;
      }
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(answer));
    } catch (error) {
      const { code, message } = error instanceof Refusal ? error : new Refusal('internal', String(error));
      response.writeHead(ERRORS[code].http, { 'content-type': 'application/json' });
      response.end(JSON.stringify(errorBodySchema.parse({ error: message, code, retryable: ERRORS[code].retryable })));
    }
  }

  #watch(url: URL, response: ServerResponse): void {
    const kind = url.pathname.endsWith('/workers') ? 'Worker' : 'WorkerPool';
    const { labelSelector, resourceVersion = '0' } = resourcesQuerySchema.parse(Object.fromEntries(url.searchParams));
    const oldest = this.#journal[0]?.revision ?? this.#revision + 1;
    if (Number(resourceVersion) < oldest - 1) throw new Refusal('expired');
    response.writeHead(200, { 'content-type': 'application/json' });
    const watcher = { kind, response, isWanted: selects(labelSelector) } as const;
    const metadata = { resourceVersion };
    line(response, { type: 'BOOKMARK', object: { kind, metadata } });
    for (const change of this.#journal) if (change.revision > Number(resourceVersion)) this.#tell(watcher, change);
    this.#watchers.add(watcher);
    response.on('close', () => this.#watchers.delete(watcher));
  }

  #answer(method: string, url: URL, body: unknown): readonly [number, unknown] {
    const [, , , plural = '', name, part] = url.pathname.split('/').map(decodeURIComponent);
    if (plural === 'observed') return [200, observedBodySchema.parse(this.observed)];
    if (plural === 'orphans') return [200, { timestamp: new Date().toISOString(), items: this.orphans }];
    if (plural === 'executions') return [200, executionsBodySchema.parse({ executions: this.executions })];
    if (plural === 'plan') return [200, this.#dryRun(manifestSchema.parse(body))];
    const kind = plural === 'workers' ? 'Worker' : 'WorkerPool';
    if (name === undefined) return [200, this.#list(kind, url.searchParams.get('labelSelector') ?? undefined)];
    const current = this.#resources.get(`${kind}/${name}`);
    if (method === 'PUT') return this.#put(manifestSchema.parse(body), current);
    if (current === undefined) throw new Refusal('not_found');
    if (part === 'events')
      return [200, resourceEventsBodySchema.parse({ items: this.events.get(keyOf(current)) ?? [] })];
    if (part === 'plan') return [200, this.#plan(kind, name)];
    if (method === 'PATCH') {
      const { spec } = body as { spec: object };
      const { apiVersion, metadata } = current;
      return this.#put(
        manifestSchema.parse({
          ...{ apiVersion, kind, spec: { ...current.spec, ...spec } },
          metadata: { name: metadata.name, labels: metadata.labels },
        }),
        current,
      );
    }
    if (method === 'DELETE') return [200, this.#delete(current, url.searchParams.get('orphan') === 'true')];
    return [200, current];
  }

  #list(kind: ResourceKind, selector: string | undefined): unknown {
    const items = [...this.#resources.values()]
      .filter((each) => each.kind === kind && selects(selector)(each))
      .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
    const list = { apiVersion: 'carrierarr.io/v1', kind: `${kind}List`, items };
    const metadata = { resourceVersion: String(this.#revision) };
    return (kind === 'Worker' ? workerListSchema : workerPoolListSchema).parse({ ...list, metadata });
  }

  #put(manifest: Manifest, current: Resource | undefined): readonly [number, unknown] {
    const expected = manifest.metadata.resourceVersion;
    if (expected !== undefined && expected !== current?.metadata.resourceVersion) throw new Refusal('conflict');
    if (current === undefined) return [201, this.add(manifest)];
    const generation = current.metadata.generation + 1;
    const metadata = { ...current.metadata, labels: manifest.metadata.labels, generation };
    return [200, this.write({ ...current, metadata, spec: manifest.spec } as Resource)];
  }

  #delete(current: Resource, isOrphaned: boolean): unknown {
    const metadata = { ...current.metadata, deletionTimestamp: new Date().toISOString() };
    if (isOrphaned || metadata.finalizers.length === 0) {
      this.remove(current.kind, metadata.name);
      return { ...current, metadata };
    }
    return this.write({ ...current, metadata });
  }

  #plan(kind: ResourceKind, name: string) {
    const command = { verb: 'start', args: ['--fast'], target: name };
    return planBodySchema.parse({ kind, name, summary: this.summary, command, events: [] });
  }

  #dryRun(manifest: Manifest): unknown {
    const { kind, metadata } = manifest;
    const current = this.#resources.get(`${kind}/${metadata.name}`);
    const change =
      current === undefined
        ? 'created'
        : JSON.stringify(current.spec) === JSON.stringify(manifest.spec)
          ? 'unchanged'
          : 'changed';
    return dryRunBodySchema.parse({
      items: [{ kind, name: metadata.name, change, paths: [], plan: this.#plan(kind, metadata.name) }],
    });
  }
}

function keyOf({ kind, metadata }: Resource): string {
  return `${kind}/${metadata.name}`;
}

function line(response: ServerResponse, value: unknown): void {
  response.write(`${JSON.stringify(watchLineSchema.parse(value))}\n`);
}

/** `k=v`, `k!=v` and `k`, which is what the tests use. */
function selects(selector: string | undefined): (resource: Resource) => boolean {
  const terms = selector === undefined ? [] : selector.split(',');
  return ({ metadata: { labels } }) =>
    terms.every((term) => {
      const [, key = '', operator, value] = /^([^!=]+)(?:(=|!=)(.*))?$/.exec(term) ?? [];
      if (operator === undefined) return Object.hasOwn(labels, key);
      return (labels[key] === value) === (operator === '=');
    });
}
