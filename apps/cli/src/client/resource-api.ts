/** The gateway's HTTP routes for resources and for what monitors see, typed. */
import {
  type DryRunBody,
  dryRunBodySchema,
  type Manifest,
  observedBodySchema,
  type OrphansBody,
  orphansBodySchema,
  type PlanBody,
  planBodySchema,
  RESOURCE_PLURALS,
  type Resource,
  type ResourceEvent,
  resourceEventsBodySchema,
  type ResourceKind,
  resourceSchema,
  type WatchLine,
  watchLineSchema,
  workerListSchema,
  workerPoolListSchema,
} from '@carrierarr/protocol';
import { GatewayHttp, type HttpOptions, type Reader } from './http.js';
import type { GatewayAccess } from './settings.js';
import { GatewayFailure } from './unreachable.js';

export type Observed = ReturnType<typeof observedBodySchema.parse>;

export interface ResourceListing {
  readonly items: readonly Resource[];
  /** Watch from here. */
  readonly resourceVersion: string;
}

export interface ResourcesQuery {
  readonly kind: ResourceKind;
  /** In the gateway's words: `k=v,k!=v,k,!k`. */
  readonly selector: string | null;
}

/** Every method throws `GatewayFailure`. */
export class ResourceApi {
  readonly #http: GatewayHttp;

  constructor(access: GatewayAccess, options: HttpOptions = {}) {
    this.#http = new GatewayHttp(access, options);
  }

  /** Undefined if there is none. */
  async get(kind: ResourceKind, name: string): Promise<Resource | undefined> {
    return orAbsent(this.#http.request('GET', pathOf(kind, name), resourceSchema));
  }

  async list({ kind, selector }: ResourcesQuery): Promise<ResourceListing> {
    const path = `/${RESOURCE_PLURALS[kind]}${queryText({ labelSelector: selector })}`;
    const schema: Reader<ReturnType<typeof workerListSchema.parse> | ReturnType<typeof workerPoolListSchema.parse>> =
      kind === 'Worker' ? workerListSchema : workerPoolListSchema;
    const { items, metadata } = await this.#http.request('GET', path, schema);
    return { items, resourceVersion: metadata.resourceVersion };
  }

  /** What changes after `resourceVersion`. Ends when the gateway or `signal` ends it. */
  watch(
    { kind, selector }: ResourcesQuery,
    resourceVersion: string,
    signal: AbortSignal,
  ): AsyncGenerator<WatchLine, void, undefined> {
    const query = queryText({ labelSelector: selector, watch: 'true', resourceVersion });
    return this.#http.lines(`/${RESOURCE_PLURALS[kind]}${query}`, watchLineSchema, signal);
  }

  /** Writes it as a whole; with a `resourceVersion` only if nothing was written since, else `conflict`. */
  put(manifest: Manifest): Promise<Resource> {
    return this.#http.request('PUT', pathOf(manifest.kind, manifest.metadata.name), resourceSchema, {
      body: manifest,
    });
  }

  /** Creates a Worker as one of a pool, which must be paused. Throws `conflict` if there is one of that name. */
  putMember(manifest: Manifest, pool: string): Promise<Resource> {
    const path = `${pathOf(manifest.kind, manifest.metadata.name)}${queryText({ pool })}`;
    return this.#http.request('PUT', path, resourceSchema, { body: manifest });
  }

  /** Changes some of its fields (RFC 7396). */
  patch(kind: ResourceKind, name: string, patch: unknown): Promise<Resource> {
    const type = 'application/merge-patch+json';
    return this.#http.request('PATCH', pathOf(kind, name), resourceSchema, { body: patch, type });
  }

  /** Asks for its end; false if there is none. With `isOrphaned` its machines stay as they are. */
  async delete(kind: ResourceKind, name: string, isOrphaned: boolean): Promise<boolean> {
    const query = queryText({ orphan: isOrphaned ? 'true' : null });
    const answer = await orAbsent(this.#http.request('DELETE', `${pathOf(kind, name)}${query}`, found));
    return answer !== undefined;
  }

  async events(kind: ResourceKind, name: string): Promise<ResourceEvent[]> {
    return (await this.#http.request('GET', `${pathOf(kind, name)}/events`, resourceEventsBodySchema)).items;
  }

  /** What the reconciler would do now; undefined if there is no such resource. */
  async plan(kind: ResourceKind, name: string): Promise<PlanBody | undefined> {
    return orAbsent(this.#http.request('GET', `${pathOf(kind, name)}/plan`, planBodySchema));
  }

  /** What writing a manifest would change, and then do. */
  async dryRun(manifest: Manifest): Promise<DryRunBody['items']> {
    return (await this.#http.request('POST', '/plan', dryRunBodySchema, { body: manifest })).items;
  }

  /** Machines that belong to no Worker. */
  async orphans(): Promise<OrphansBody['items']> {
    return (await this.#http.request('GET', '/orphans', orphansBodySchema)).items;
  }

  observed(): Promise<Observed> {
    return this.#http.request('GET', '/observed', observedBodySchema);
  }
}

const found: Reader<true> = { parse: () => true };

/** Undefined instead of the error that there is no such thing. */
async function orAbsent<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof GatewayFailure && error.code === 'not_found') return undefined;
    throw error;
  }
}

function pathOf(kind: ResourceKind, name: string): string {
  return `/${RESOURCE_PLURALS[kind]}/${encodeURIComponent(name)}`;
}

/** With its question mark; empty if all are null. */
function queryText(parameters: Readonly<Record<string, string | null>>): string {
  const given = Object.entries(parameters).filter((each): each is [string, string] => each[1] !== null);
  return given.length === 0 ? '' : `?${new URLSearchParams(given).toString()}`;
}
