/** The routes: what each asks for and answers. Checks that all have in common are in `register.ts`. */
import { type Clock, type Readiness, type Registry, TokenBuckets, version } from '@carrierarr/platform';
import {
  type acceptedBodySchema,
  ClientError,
  commandBodySchema,
  executionsQuerySchema,
  targetsQuerySchema,
  outputQuerySchema,
  partitionOfExecution,
  statusQuerySchema,
  targetSchema,
} from '@carrierarr/protocol';
import type { ExecutionHistory } from '@carrierarr/store';
import type { Commands } from '../commands.js';
import type { GatewayConfig } from '../config.js';
import { fleetRoutes } from '../fleet/fleet-routes.js';
import type { NodeView } from '../fleet/node-view.js';
import type { RedisHealth } from '../redis-health.js';
import { type ResourceRouteDependencies, resourceRoutes } from '../resources/resource-routes.js';
import type { StatusFeed } from '../status/status-feed.js';
import type { Exchange } from './exchange.js';
import { fit, jsonBodyOf, queryOf } from './input.js';
import { type OutputRoute, unknownExecution } from './output.js';
import { loadPage } from './page.js';
import { type Call, json, jsonText, type Route } from './route.js';

/** Targets in one answer; those active last. */
const TARGETS_MAX = 1_000;

export interface RouteDependencies {
  config: Pick<GatewayConfig, 'page' | 'opsAddr' | 'commandsPerSecond' | 'commandsBurst'>;
  commands: Commands;
  history: ExecutionHistory;
  status: StatusFeed;
  nodes: NodeView;
  resources: Omit<ResourceRouteDependencies, 'limitWrites'>;
  redis: RedisHealth;
  readiness: Readiness;
  metrics: Registry;
  clock: Clock;
  output: OutputRoute;
  /** WebSocket clients now. */
  clientCount: () => number;
}

export function createRoutes(dependencies: RouteDependencies): Route[] {
  const { config, clock, resources, nodes, commands } = dependencies;
  const rate = new TokenBuckets({ perSecond: config.commandsPerSecond, burst: config.commandsBurst });
  /** Commands and writes count alike: both change the world. */
  const limitWrites = ({ exchange, credential: { subject } }: Pick<Call, 'exchange' | 'credential'>) => {
    const waitMs = rate.take(clientKey(exchange, subject), clock.monotonicMs());
    limitRate(exchange, waitMs, `${config.commandsPerSecond} commands and writes`);
  };
  return [
    ...operationRoutes(dependencies),
    ...commandRoutes(dependencies, limitWrites),
    ...executionRoutes(dependencies),
    ...resourceRoutes({ ...resources, limitWrites }),
    ...fleetRoutes({ nodes, commands, limitWrites }),
  ];
}

/**
 * `/health`, `/ready`, `/metrics` and `/version` are open: probes and scrapers have no tokens, and they tell no more than counts. Where
 * there is an address for operators, `/ready` and `/metrics` are there alone.
 */
function operationRoutes({ config, readiness, metrics, clientCount, status }: RouteDependencies): Route[] {
  const inside: Route[] = [
    {
      method: 'GET',
      path: '/ready',
      isOpen: true,
      answer: () => {
        const report = readiness.ready();
        return json(report.ready ? 200 : 503, report);
      },
    },
    {
      method: 'GET',
      path: '/metrics',
      isOpen: true,
      answer: async () => ({
        status: 200,
        headers: { 'Content-Type': metrics.contentType },
        body: await metrics.metrics(),
      }),
    },
  ];
  const routes: Route[] = [
    {
      method: 'GET',
      path: '/health',
      isOpen: true,
      answer: () => json(200, { status: 'healthy', clients: clientCount() }),
    },
    ...(config.opsAddr === null ? inside : []),
    { method: 'GET', path: '/version', isOpen: true, answer: () => json(200, { version: version() }) },
    {
      method: 'GET',
      path: '/api/status',
      async answer({ exchange }) {
        const { gone } = fit(statusQuerySchema, queryOf(exchange.query), 'the query');
        return jsonText(200, await status.document({ gone: gone === 'true' }));
      },
    },
  ];
  const { page } = config;
  // The page holds no secrets: who opens it has to show a token to connect.
  if (page !== null) routes.push({ method: 'GET', path: '/', isOpen: true, answer: () => loadPage(page) });
  return routes;
}

function commandRoutes(
  { commands, history, redis }: RouteDependencies,
  limitWrites: ResourceRouteDependencies['limitWrites'],
): Route[] {
  return [
    {
      method: 'POST',
      path: '/api/v1/targets/{target}/commands',
      async answer(call) {
        const { exchange, params, credential } = call;
        const { subject } = credential;
        const target = fit(targetSchema, params.get('target'), 'the target in the path');
        const body = fit(commandBodySchema, await jsonBodyOf(exchange), 'the body');
        const { address } = exchange.facts;
        limitWrites(call);
        if (body.command === 'kill') {
          const killed = await commands.kill({ target, subject });
          return json(202, accepted({ ...killed, position: 0, duplicate: false }));
        }
        const { command, args, id: clientId, timeout_seconds: timeoutSeconds, idempotent } = body;
        return json(
          202,
          accepted(
            await commands.submit({ target, command, args, clientId, timeoutSeconds, idempotent, subject, address }),
          ),
        );
      },
    },
    {
      method: 'GET',
      path: '/api/v1/targets',
      async answer({ exchange }) {
        const { target } = fit(targetsQuerySchema, queryOf(exchange.query), 'the query');
        if (target === undefined)
          return json(200, { targets: await redis.bounded(() => history.targets(TARGETS_MAX)) });
        const found = await redis.bounded(() => history.target(target));
        return json(200, { targets: found === undefined ? [] : [found] });
      },
    },
  ];
}

function executionRoutes({ commands, history, redis, output }: RouteDependencies): Route[] {
  return [
    {
      method: 'GET',
      path: '/api/v1/executions',
      async answer({ exchange }) {
        const { target, state, limit, before } = fit(executionsQuerySchema, queryOf(exchange.query), 'the query');
        if (before !== undefined) checkExecutionId(before);
        const page = await redis.bounded(() =>
          history.list({
            limit,
            ...(target !== undefined && { target }),
            ...(state !== undefined && { state }),
            ...(before !== undefined && { before }),
          }),
        );
        return json(200, page);
      },
    },
    {
      method: 'GET',
      path: '/api/v1/executions/{id}',
      async answer({ params }) {
        const id = checkExecutionId(params.get('id'));
        const execution = await redis.bounded(() => history.get(id));
        if (!execution) throw unknownExecution(id);
        return json(200, execution);
      },
    },
    {
      method: 'GET',
      path: '/api/v1/executions/{id}/output',
      async answer({ exchange, params, credential }) {
        const id = checkExecutionId(params.get('id'));
        await output.serve(exchange, id, fit(outputQuerySchema, queryOf(exchange.query), 'the query'), credential);
        return undefined;
      },
    },
    {
      method: 'DELETE',
      path: '/api/v1/executions/{id}',
      async answer({ params, credential }) {
        const id = checkExecutionId(params.get('id'));
        const execution = await redis.bounded(() => history.get(id));
        if (!execution) throw unknownExecution(id);
        const killed = await commands.kill({ target: execution.target, execution: id, subject: credential.subject });
        return json(202, { execution_id: killed.execution, target: killed.target, state: killed.state });
      },
    },
  ];
}

/** Whose rate a request counts against: the subject's, or the address's where all are the same subject. */
export function clientKey(exchange: Exchange, subject: string): string {
  return `${subject} ${exchange.facts.address}`;
}

/** Throws ClientError `rate_limited` unless `waitMs` is 0. */
export function limitRate(exchange: Exchange, waitMs: number, bound: string): void {
  if (waitMs === 0) return;
  exchange.headers.set('Retry-After', String(Math.ceil(waitMs / 1000)));
  throw new ClientError(
    'rate_limited',
    `More than ${bound} a second came from here. This one was not carried out: send it again in ${waitMs} ms.`,
  );
}

type AcceptedBody = ReturnType<(typeof acceptedBodySchema)['parse']>;

function accepted(answer: { execution: string; target: string; position: number; duplicate: boolean }): AcceptedBody {
  const { execution, target, position, duplicate } = answer;
  return { execution_id: execution, target, position, duplicate };
}

function checkExecutionId(text: string | undefined): string {
  if (text === undefined || partitionOfExecution(text) === undefined) throw unknownExecution(text ?? '');
  return text;
}
