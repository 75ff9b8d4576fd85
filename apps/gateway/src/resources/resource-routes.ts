/** The routes of Workers and WorkerPools, and of what monitors observed. */
import {
  ClientError,
  deleteQuerySchema,
  type DryRunBody,
  putWorkerQuerySchema,
  RESOURCE_API_VERSION,
  RESOURCE_PLURALS,
  type Resource,
  type ResourceKind,
  resourcesQuerySchema,
} from '@carrierarr/protocol';
import { stringify } from 'yaml';
import type { Answer, Exchange } from '../http/exchange.js';
import { fit, queryOf } from '../http/input.js';
import { type Call, json, type Route } from '../http/route.js';
import type { Orphans } from '../status/orphans.js';
import { manifestBodyOf, patchBodyOf } from './body.js';
import { labelSelector } from './label-selector.js';
import { manifestOf } from './manifest.js';
import type { Plans } from './plans.js';
import type { Actor, Proposal, Resources } from './resources.js';
import { etagOf, expectationOf } from './version.js';
import type { WatchRoute } from './watch.js';

/** Manifests of one dry run. */
const MANIFESTS_MAX = 1_000;

export interface ResourceRouteDependencies {
  resources: Resources;
  plans: Plans;
  watch: WatchRoute;
  orphans: Orphans;
  /** Throws ClientError `rate_limited` if the subject writes too often. */
  limitWrites: (call: Call) => void;
}

export function resourceRoutes(dependencies: ResourceRouteDependencies): Route[] {
  const { orphans } = dependencies;
  return [
    { method: 'GET', path: '/api/v1/observed', answer: async () => json(200, await orphans.marked()) },
    { method: 'GET', path: '/api/v1/orphans', answer: async () => json(200, await orphans.list()) },
    ...routesOf('Worker', dependencies),
    ...routesOf('WorkerPool', dependencies),
    {
      method: 'POST',
      path: '/api/v1/plan',
      answer: async ({ exchange }) => json(200, await dryRun(exchange, dependencies)),
    },
  ];
}

function routesOf(kind: ResourceKind, { resources, plans, watch, limitWrites }: ResourceRouteDependencies): Route[] {
  const path = `/api/v1/${RESOURCE_PLURALS[kind]}`;
  const one = `${path}/{name}`;
  return [
    {
      ...{ method: 'GET', path },
      async answer({ exchange, credential }) {
        const query = fit(resourcesQuerySchema, queryOf(exchange.query), 'the query');
        const { resourceVersion } = query;
        const matches = labelSelector(query.labelSelector ?? '');
        if (resourceVersion !== undefined && !/^\d{1,16}$/.test(resourceVersion)) {
          throw new ClientError(
            'bad_message',
            `Expected \`resourceVersion\` to be one that a gateway gave, such as 123, got ${JSON.stringify(resourceVersion)}.`,
          );
        }
        if (query.watch === 'true') {
          await watch.serve(exchange, { kind, matches, resourceVersion, credential });
          return undefined;
        }
        const { items, resourceVersion: at } = await resources.list(kind);
        return written(exchange, 200, {
          ...{ apiVersion: RESOURCE_API_VERSION, kind: `${kind}List`, metadata: { resourceVersion: at } },
          items: items.filter(({ metadata }) => matches(metadata.labels)),
        });
      },
    },
    {
      ...{ method: 'GET', path: one },
      answer: async ({ exchange, params }) => resourceAnswer(exchange, 200, await resources.get(kind, nameOf(params))),
    },
    {
      ...{ method: 'PUT', path: one },
      async answer(call) {
        const { exchange, params } = call;
        limitWrites(call);
        const manifest = manifestOf(await manifestBodyOf(exchange), { kind, name: nameOf(params) });
        const expected = expectationOf(exchange, manifest.metadata.resourceVersion);
        const { pool } = kind === 'Worker' ? fit(putWorkerQuerySchema, queryOf(exchange.query), 'the query') : {};
        const { resource, change } =
          pool !== undefined && manifest.kind === 'Worker'
            ? await resources.restore(manifest, pool, actorOf(call))
            : await resources.put(manifest, expected, actorOf(call));
        return resourceAnswer(exchange, change === 'created' ? 201 : 200, resource);
      },
    },
    {
      ...{ method: 'PATCH', path: one },
      async answer(call) {
        const { exchange, params } = call;
        limitWrites(call);
        const patch = await patchBodyOf(exchange);
        const expectedOf = (resourceVersion: string | undefined) => expectationOf(exchange, resourceVersion);
        const { resource } = await resources.patch(kind, nameOf(params), patch, expectedOf, actorOf(call));
        return resourceAnswer(exchange, 200, resource);
      },
    },
    {
      ...{ method: 'DELETE', path: one },
      async answer(call) {
        const { exchange, params } = call;
        limitWrites(call);
        const { orphan } = fit(deleteQuerySchema, queryOf(exchange.query), 'the query');
        const expected = expectationOf(exchange, undefined);
        const asked = { orphan: orphan === 'true', expected, actor: actorOf(call) };
        const { resource, isGone } = await resources.delete(kind, nameOf(params), asked);
        return resourceAnswer(exchange, isGone ? 200 : 202, resource);
      },
    },
    {
      ...{ method: 'GET', path: `${one}/status` },
      answer: async ({ exchange, params }) =>
        written(exchange, 200, (await resources.get(kind, nameOf(params))).status ?? {}),
    },
    {
      ...{ method: 'GET', path: `${one}/plan` },
      answer: async ({ exchange, params }) =>
        written(exchange, 200, await plans.of(await resources.get(kind, nameOf(params)))),
    },
    {
      ...{ method: 'GET', path: `${one}/events` },
      answer: async ({ exchange, params }) =>
        written(exchange, 200, { items: await resources.events(kind, nameOf(params)) }),
    },
  ];
}

async function dryRun(
  exchange: Exchange,
  { resources, plans }: Pick<ResourceRouteDependencies, 'resources' | 'plans'>,
): Promise<DryRunBody> {
  const body = await manifestBodyOf(exchange);
  const inputs = Array.isArray(body) ? body : [body];
  if (inputs.length > MANIFESTS_MAX) {
    throw new ClientError(
      'bad_message',
      `The body has ${inputs.length} manifests; at most ${MANIFESTS_MAX} are allowed.`,
    );
  }
  const manifests = inputs.map((input) => manifestOf(input));
  const proposals: Proposal[] = [];
  for (const manifest of manifests) proposals.push(await resources.preview(manifest));
  return plans.ofProposals(proposals);
}

function actorOf({ exchange, credential }: Call): Actor {
  return { subject: credential.subject, address: exchange.facts.address };
}

/** What is no name of a resource is none that exists: the store decides. */
function nameOf(params: ReadonlyMap<string, string>): string {
  return params.get('name') ?? '';
}

function resourceAnswer(exchange: Exchange, status: number, resource: Resource): Answer {
  const answer = written(exchange, status, resource);
  return { ...answer, headers: { ...answer.headers, ETag: etagOf(resource.metadata.resourceVersion) } };
}

/** As YAML to who asked for it, else as JSON. */
function written(exchange: Exchange, status: number, value: unknown): Answer {
  exchange.headers.set('Vary', exchange.headers.has('Vary') ? `${exchange.headers.get('Vary')}, Accept` : 'Accept');
  if (!prefersYaml(exchange.accept)) return json(status, value);
  return {
    status,
    headers: { 'Content-Type': 'application/yaml; charset=utf-8' },
    body: stringify(value, { aliasDuplicateObjects: false, lineWidth: 0 }),
  };
}

/** True if YAML is named, and JSON not before it. */
function prefersYaml(accept: string): boolean {
  const types = accept.split(',').map((type) => type.split(';')[0]?.trim().toLowerCase() ?? '');
  const yaml = types.findIndex((type) => /^(application|text)\/(x-)?yaml$/.test(type));
  const other = types.indexOf('application/json');
  return yaml >= 0 && (other < 0 || yaml < other);
}
