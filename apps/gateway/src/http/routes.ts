/** The routes: what each asks for and answers. Checks that all have in common are in `register.ts`. */
import { type Clock, type Readiness, type Registry, version } from '@carrierarr/platform';
import {
  type acceptedBodySchema,
  ClientError,
  commandBodySchema,
  executionsQuerySchema,
  outputQuerySchema,
  partitionOfExecution,
  targetSchema,
} from '@carrierarr/protocol';
import type { ExecutionHistory } from '@carrierarr/store';
import type { Credential } from '../access/authenticate.js';
import { TokenBuckets } from '../access/token-bucket.js';
import type { Commands } from '../commands.js';
import type { GatewayConfig } from '../config.js';
import type { RedisHealth } from '../redis-health.js';
import type { Status } from '../status.js';
import type { Answer, Exchange } from './exchange.js';
import { fit, jsonBodyOf, queryOf } from './input.js';
import { type OutputRoute, unknownExecution } from './output.js';
import { loadPage } from './page.js';
import type { Pattern } from './router.js';

/** Targets in one answer; those active last. */
const TARGETS_MAX = 1_000;

/** A request that has passed the checks. */
export interface Call {
  exchange: Exchange;
  params: ReadonlyMap<string, string>;
  credential: Credential;
}

export interface Route extends Pattern {
  /** Everybody may call it, also where a token is needed. */
  isOpen?: boolean;
  /** Undefined: it has answered by itself. */
  answer: (call: Call) => Answer | Promise<Answer | undefined>;
}

export interface RouteDependencies {
  config: Pick<GatewayConfig, 'page' | 'commandsPerSecond' | 'commandsBurst'>;
  commands: Commands;
  history: ExecutionHistory;
  status: Status;
  redis: RedisHealth;
  readiness: Readiness;
  metrics: Registry;
  clock: Clock;
  output: OutputRoute;
  /** WebSocket clients now. */
  clientCount: () => number;
}

export function createRoutes(dependencies: RouteDependencies): Route[] {
  return [...operationRoutes(dependencies), ...commandRoutes(dependencies), ...executionRoutes(dependencies)];
}

/** `/health`, `/ready`, `/metrics` and `/version` are open: probes and scrapers have no tokens, and they tell no more than counts. */
function operationRoutes({ config, readiness, metrics, clientCount, status }: RouteDependencies): Route[] {
  const routes: Route[] = [
    {
      method: 'GET',
      path: '/health',
      isOpen: true,
      answer: () => json(200, { status: 'healthy', clients: clientCount() }),
    },
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
    { method: 'GET', path: '/version', isOpen: true, answer: () => json(200, { version: version() }) },
    { method: 'GET', path: '/api/status', answer: async () => json(200, await status.read()) },
  ];
  const { page } = config;
  // The page holds no secrets: who opens it has to show a token to connect.
  if (page !== null) routes.push({ method: 'GET', path: '/', isOpen: true, answer: () => loadPage(page) });
  return routes;
}

function commandRoutes({ config, commands, history, redis, clock }: RouteDependencies): Route[] {
  const rate = new TokenBuckets({ perSecond: config.commandsPerSecond, burst: config.commandsBurst });
  return [
    {
      method: 'POST',
      path: '/api/v1/targets/{target}/commands',
      async answer({ exchange, params, credential: { subject } }) {
        const target = fit(targetSchema, params.get('target'), 'the target in the path');
        const body = fit(commandBodySchema, await jsonBodyOf(exchange), 'the body');
        const { address } = exchange.facts;
        limitRate(
          exchange,
          rate.take(clientKey(exchange, subject), clock.monotonicMs()),
          `${config.commandsPerSecond} commands`,
        );
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
      answer: async () => json(200, { targets: await redis.bounded(() => history.targets(TARGETS_MAX)) }),
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

export function json(status: number, value: unknown): Answer {
  return { status, headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(value) };
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
