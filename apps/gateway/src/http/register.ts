/**
 * HTTP: the checks that every request passes on its way to its route, in this order. Host and Origin (is the page that
 * asks allowed?), the route, the token, the rate. `/health` alone skips them all: whatever asks, the answer is only that
 * the process lives.
 */
import { ANONYMOUS, type Clock, type Logger, type Readiness, redactUrl, TokenBuckets } from '@carrierarr/platform';
import { ClientError, type errorBodySchema } from '@carrierarr/protocol';
import { UnreadableExecutionError, UnreadableResourceError } from '@carrierarr/store';
import type {
  CommandStore,
  ExecutionHistory,
  OutputLog,
  OrphanStore,
  ResourceEvents,
  ResourceFollow,
  ResourceStore,
} from '@carrierarr/store';
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type uWS from 'uWebSockets.js';
import type { Credential } from '../access/authenticate.js';
import type { ConnectionLimits } from '../access/connection-limits.js';
import type { Guard } from '../access/guard.js';
import type { Commands } from '../commands.js';
import type { GatewayConfig } from '../config.js';
import type { NodeView } from '../fleet/node-view.js';
import { RedisAwayError, type RedisHealth } from '../redis-health.js';
import { GivenCommands } from '../resources/given-commands.js';
import { Plans } from '../resources/plans.js';
import { Resources } from '../resources/resources.js';
import { WatchRoute } from '../resources/watch.js';
import { Orphans } from '../status/orphans.js';
import type { StatusFeed } from '../status/status-feed.js';
import { ClientGoneError, Exchange } from './exchange.js';
import { GAP_HEADER, OutputRoute } from './output.js';
import { matchRoute, segmentsOf } from './router.js';
import { json, type Route } from './route.js';
import { clientKey, createRoutes, limitRate } from './routes.js';

export interface HttpDependencies {
  config: Pick<
    GatewayConfig,
    'page' | 'opsAddr' | 'messageBytesMax' | 'commandsPerSecond' | 'commandsBurst' | 'messagesPerSecond'
  >;
  guard: Guard;
  commands: Commands;
  history: ExecutionHistory;
  log: OutputLog;
  status: StatusFeed;
  nodes: NodeView;
  commandStore: Pick<CommandStore, 'executionOfToken' | 'commandsOn'>;
  orphanStore: Pick<OrphanStore, 'read'>;
  resourceStore: ResourceStore;
  resourceEvents: ResourceEvents;
  /** All resources, for checks, plans and watches. */
  follow: ResourceFollow;
  redis: RedisHealth;
  readiness: Readiness;
  metrics: Registry;
  /** Followers of an output and watchers of resources count as connections. */
  limits: ConnectionLimits;
  clock: Clock;
  logger: Logger;
  /** WebSocket clients now. */
  clientCount: () => number;
  /** Calls `onChange` after each new entry of a target. Returns what ends that. */
  wakeOn: (target: string, onChange: () => void) => () => void;
}

export interface HttpRoutes {
  /** Ends the answers that go on (followed outputs, watches), as the gateway shuts down. */
  stop(): void;
}

/** For answers that no browser is to show as anything else, keep, or put into a frame. */
const SECURITY_HEADERS = {
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Resource-Policy': 'same-origin',
};
const NOT_FOR_SHOW = {
  'Cache-Control': 'no-store',
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
};
const PREFLIGHT_AGE_S = 600;

/** Adds every route but `/ws` to the app. Call it after the WebSocket route was added. */
export function registerHttp(app: uWS.TemplatedApp, dependencies: HttpDependencies): HttpRoutes {
  const http = new Http(dependencies);
  app.any('/*', (res, req) => http.serve(res, req));
  return http;
}

class Http implements HttpRoutes {
  readonly #d: HttpDependencies;
  readonly #output: OutputRoute;
  readonly #watch: WatchRoute;
  readonly #routes: Route[];
  readonly #rate: TokenBuckets;
  readonly #requests: Counter<'method' | 'route' | 'status'>;
  readonly #durations: Histogram<'route'>;

  constructor(dependencies: HttpDependencies) {
    const { config, guard, metrics } = dependencies;
    const registers = [metrics];
    this.#d = dependencies;
    const gaps = new Counter({
      name: 'carrierarr_gateway_http_output_gaps_total',
      help: 'Gaps told to clients that read outputs over HTTP.',
      registers,
    });
    const stillValid = (credential: Credential) => guard.stillValid(credential);
    const output = new OutputRoute({ ...dependencies, gaps, stillValid });
    this.#output = output;
    const { commandStore, resourceStore: store, resourceEvents: events, orphanStore, history } = dependencies;
    const behind = new Counter({
      name: 'carrierarr_gateway_watches_behind_total',
      help: 'Times that a watch of resources had more waiting than is queued for it, and went on from the journal.',
      registers,
    });
    const watch = new WatchRoute({ ...dependencies, store, stillValid, onBehind: () => behind.inc() });
    this.#watch = watch;
    const resources = new Resources({ ...dependencies, store, events });
    const plans = new Plans({ ...dependencies, commands: new GivenCommands({ store: commandStore, history }) });
    const orphans = new Orphans({ ...dependencies, store: orphanStore });
    this.#routes = createRoutes({ ...dependencies, output, resources: { resources, plans, watch, orphans } });
    this.#rate = new TokenBuckets({ perSecond: config.messagesPerSecond, burst: config.messagesPerSecond * 2 });
    this.#requests = new Counter({
      name: 'carrierarr_gateway_http_requests_total',
      help: 'HTTP requests that were answered.',
      labelNames: ['method', 'route', 'status'],
      registers,
    });
    this.#durations = new Histogram({
      name: 'carrierarr_gateway_http_request_seconds',
      help: 'Time to answer, by route. Followed outputs count for as long as they are followed.',
      labelNames: ['route'],
      buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600],
      registers,
    });
    const followers: Gauge = new Gauge({
      name: 'carrierarr_gateway_http_followers',
      help: 'Clients that follow an output over HTTP.',
      registers,
      collect: () => followers.set(output.following),
    });
    const watchers: Gauge = new Gauge({
      name: 'carrierarr_gateway_http_watchers',
      help: 'Clients that watch resources over HTTP.',
      registers,
      collect: () => watchers.set(watch.watching),
    });
  }

  /** The callback of uWebSockets.js: must not throw, nor touch the request later. */
  serve(res: uWS.HttpResponse, req: uWS.HttpRequest): void {
    const { clock, config, guard } = this.#d;
    const beganMs = clock.monotonicMs();
    const facts = guard.read(res, req);
    const exchange = new Exchange({ res, req }, { facts, bodyBytesMax: config.messageBytesMax, clock });
    for (const [name, value] of Object.entries(SECURITY_HEADERS)) exchange.headers.set(name, value);
    const call = { route: 'none', subject: '' };
    void this.#pass(exchange, call)
      .catch((error: unknown) => this.#refuse(exchange, error))
      .finally(() => this.#note(exchange, call, beganMs));
  }

  stop(): void {
    this.#output.stop();
    this.#watch.stop();
  }

  async #pass(exchange: Exchange, call: { route: string; subject: string }): Promise<void> {
    const { guard, config, clock } = this.#d;
    if (!/^\/health\/*$/.test(exchange.path)) this.#checkPage(exchange);
    const segments = segmentsOf(exchange.path);
    const match = matchRoute(this.#routes, exchange.method, segments);
    if (match.kind === 'none') throw new ClientError('not_found', notFoundText(exchange.path, segments));
    if (match.kind === 'other-methods') {
      exchange.headers.set('Allow', match.methods.join(', '));
      if (exchange.method === 'OPTIONS') return this.#preflight(exchange, match.methods);
      const seen = JSON.stringify(exchange.method.slice(0, 20));
      throw new ClientError(
        'method_not_allowed',
        `Expected ${match.methods.join(' or ')} for ${exchange.path}, got ${seen}.`,
      );
    }
    const { route, params } = match;
    call.route = route.path;
    const credential: Credential = route.isOpen
      ? { kind: 'subject', subject: ANONYMOUS }
      : await guard.identify(exchange.facts);
    call.subject = credential.subject;
    if (!route.isOpen) {
      const waitMs = this.#rate.take(clientKey(exchange, credential.subject), clock.monotonicMs());
      limitRate(exchange, waitMs, `${config.messagesPerSecond} requests`);
    }
    const isPage = route.path === '/';
    if (!isPage) for (const [name, value] of Object.entries(NOT_FOR_SHOW)) exchange.headers.set(name, value);
    const answer = await route.answer({ exchange, params, credential });
    if (answer) exchange.answer(answer);
  }

  /** Refuses pages that may not ask; lets those that may read the answer (CORS). */
  #checkPage(exchange: Exchange): void {
    const { facts, headers } = exchange;
    this.#d.guard.checkPage(facts);
    if (facts.origin === '') return;
    headers.set('Access-Control-Allow-Origin', facts.origin);
    headers.set('Access-Control-Expose-Headers', `${GAP_HEADER}, ETag, Retry-After`);
    headers.set('Cross-Origin-Resource-Policy', 'cross-origin');
    headers.set('Vary', 'Origin');
  }

  /** A browser asks what a page of another origin may send. It was let in above. */
  #preflight(exchange: Exchange, methods: readonly string[]): void {
    exchange.answer({
      status: 204,
      headers: {
        'Access-Control-Allow-Methods': methods.join(', '),
        'Access-Control-Allow-Headers': 'Authorization, Content-Type, If-Match, If-None-Match',
        'Access-Control-Max-Age': String(PREFLIGHT_AGE_S),
      },
    });
  }

  #refuse(exchange: Exchange, error: unknown): void {
    if (error instanceof ClientGoneError) return;
    const told = toClientError(error);
    if (told.code === 'internal') {
      this.#d.logger.error({ err: error, method: exchange.method, url: exchange.path }, 'a request failed');
    }
    for (const [name, value] of Object.entries(NOT_FOR_SHOW)) exchange.headers.set(name, value);
    if (told.code === 'unauthenticated') exchange.headers.set('WWW-Authenticate', 'Bearer');
    if (told.retryable && !exchange.headers.has('Retry-After')) exchange.headers.set('Retry-After', '1');
    const { message, code, retryable, issues } = told;
    const body: ErrorBody = { error: message, code, retryable, ...(issues && { issues: [...issues] }) };
    exchange.answer(json(told.httpStatus, body));
  }

  #note(exchange: Exchange, { route, subject }: { route: string; subject: string }, beganMs: number): void {
    const { logger, clock } = this.#d;
    const { method, path, query, facts } = exchange;
    const tookMs = clock.monotonicMs() - beganMs;
    // The method is whatever the client wrote: as a label it must be one of few.
    const known = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'].includes(method) ? method : 'other';
    const status = exchange.isGone ? 'gone' : String(exchange.status);
    this.#requests.inc({ method: known, route, status });
    this.#durations.observe({ route }, tookMs / 1000);
    const level = exchange.status >= 500 && route !== '/ready' ? 'warn' : 'debug';
    const url = redactUrl(query === '' ? path : `${path}?${query}`);
    logger[level]({ method, url, status, subject, address: facts.address, tookMs: Math.round(tookMs) }, 'request');
  }
}

type ErrorBody = ReturnType<(typeof errorBodySchema)['parse']>;

function toClientError(error: unknown): ClientError {
  if (error instanceof ClientError) return error;
  if (error instanceof RedisAwayError) {
    return new ClientError('unavailable', `${error.message}. Try again in a moment.`, { cause: error });
  }
  if (error instanceof UnreadableExecutionError || error instanceof UnreadableResourceError) {
    return new ClientError('internal', error.message, { cause: error });
  }
  return new ClientError(
    'internal',
    'The request failed because of a defect of carrierarr. The log of the gateway has the details.',
    {
      cause: error,
    },
  );
}

function notFoundText(path: string, segments: readonly string[]): string {
  if (segments.length === 1 && segments[0] === 'ws') {
    return '/ws is a WebSocket: connect to it with ws:// or wss://, not with a plain request.';
  }
  const seen = JSON.stringify(path.slice(0, 200));
  return `There is nothing at ${seen}. The routes of the API begin with /api/v1/, such as /api/v1/targets, /api/v1/executions and /api/v1/workers.`;
}
