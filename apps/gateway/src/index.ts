/**
 * The gateway: WebSocket clients and HTTP requests on one side, Redis on the other. It keeps nothing that another
 * gateway could not rebuild from Redis.
 */
import type { Clock, Component, Logger, Readiness, RedisSettings, Registry } from '@carrierarr/platform';
import { createRedis, OpsServer, printAddress, sleep, version, waitForRedis } from '@carrierarr/platform';
import { Keys } from '@carrierarr/protocol';
import {
  checkStoreFormat,
  CommandStore,
  defineScripts,
  DrainQueue,
  ExecutionHistory,
  NodeFollow,
  NodeLookup,
  OutputLog,
  type RedisConnection,
  OrphanStore,
  ResourceEvents,
  ResourceFollow,
  ResourceStore,
  RunnerRegistry,
  WorkerStatusStore,
} from '@carrierarr/store';
import { Counter, Gauge } from 'prom-client';
import { createAuthenticator } from './access/create-authenticator.js';
import { ConnectionLimits } from './access/connection-limits.js';
import { Guard } from './access/guard.js';
import { Commands } from './commands.js';
import { gatewayIdOf, type GatewayConfig, historyBoundsOf } from './config.js';
import { createDeliveryMetrics } from './delivery/delivery-metrics.js';
import { Fanout } from './delivery/fanout.js';
import { LogTail } from './delivery/log-tail.js';
import { PageReader } from './delivery/page-reader.js';
import { NodeView } from './fleet/node-view.js';
import { registerHttp } from './http/register.js';
import { Listener } from './listener.js';
import { RedisHealth } from './redis-health.js';
import { StatusFeed } from './status/status-feed.js';
import { Endpoint } from './ws/endpoint.js';
import { Messages } from './ws/messages.js';
import { Subscriptions } from './ws/subscriptions.js';
import uWS from './uws.js';

export { type GatewayConfig, gatewaySchema, validateGatewayConfig } from './config.js';

/** How long the start waits until all nodes are known, ms. */
const NODES_START_MS = 1_000;
/** How long the start waits until all resources are known, ms. */
const FOLLOW_START_MS = 2_000;

export interface GatewayOptions {
  config: GatewayConfig;
  redisSettings: RedisSettings;
  logger: Logger;
  metrics: Registry;
  readiness: Readiness;
  clock: Clock;
  /** False if nobody configured a control script: commands for one are then refused with `no_script`. */
  commandsEnabled?: boolean;
}

export interface Gateway extends Component {
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Where it listens, once started: `--addr` may name port 0. */
  readonly address: { host: string; port: number };
}

/** A gateway that is not started. `start()` rejects if Redis or the address cannot be had, having cleaned up. */
export function createGateway(options: GatewayOptions): Gateway {
  const { config, redisSettings, logger, metrics, readiness, clock, commandsEnabled = true } = options;
  const gatewayId = gatewayIdOf(config);
  const keys = new Keys(redisSettings.keyPrefix);
  const connection = createRedis(redisSettings, { name: 'gateway', role: 'commands', logger });
  const createSubscriber = () => createRedis(redisSettings, { name: 'gateway-tail', role: 'subscriber', logger });
  let subscriber: RedisConnection | undefined = createSubscriber();
  defineScripts(connection);
  const log = new OutputLog(connection, keys);
  const history = new ExecutionHistory(connection, keys);
  const drain = new DrainQueue(connection, keys);
  const redis = new RedisHealth({ connection, keys, clock, logger, readiness });
  const store = new CommandStore({
    connection,
    keys,
    history: historyBoundsOf(config),
    queueLengthMax: config.queueLengthMax,
    pendingTargetsMax: config.pendingTargetsMax,
    idempotencyMs: config.idempotencyWindow,
  });
  const deliveryMetrics = createDeliveryMetrics(metrics);
  const pages = new PageReader(log);
  const fanout = new Fanout({
    tail: (listener) =>
      new LogTail({
        ...{ commands: connection, log, keys, clock, logger, gatewayId, listener },
        subscribe() {
          const first = subscriber;
          subscriber = undefined;
          if (first !== undefined) return first;
          const next = createSubscriber();
          next.connect().catch(() => undefined); // It goes on trying by itself.
          return next;
        },
        metrics: deliveryMetrics,
        onHealth: (ok, detail) => readiness.set('output', ok, detail),
      }),
    clock,
    clientBufferBytes: config.clientBufferBytes,
    recentBytesMax: config.ringBytes,
    metrics: deliveryMetrics,
    readPage: (target, after, epoch) => pages.read(target, after, epoch),
    allCaughtUp: () => pages.clear(),
    onError: (error, target) => logger.warn({ err: error, target }, 'cannot read an output log; trying again'),
  });
  deliveryMetrics.watch(fanout);
  const authenticator = createAuthenticator(config, { clock, logger });
  const guard = new Guard(config, authenticator);
  const limits = new ConnectionLimits(config);
  const status = new StatusFeed({
    ...{ keys, redis, clock, logger, metrics, clientBufferBytes: config.clientBufferBytes },
    subscriber: createRedis(redisSettings, { name: 'gateway-status', role: 'subscriber', logger }),
    store: new WorkerStatusStore({ connection, keys }),
  });
  const nodes = new NodeView({
    ...{ workers: status, redis, clock },
    follow: new NodeFollow({ connection, keys }),
    lookup: new NodeLookup({ connection, keys }),
  });
  const commands = new Commands({
    ...{ store, drain, connection, keys, redis, nodes, gatewayId, clock, logger, metrics, commandsEnabled },
    runners: new RunnerRegistry(connection, keys),
    queueLengthMax: config.queueLengthMax,
  });
  const resourceStore = new ResourceStore({ connection, keys });
  const resourceSubscriber = createRedis(redisSettings, { name: 'gateway-resources', role: 'subscriber', logger });
  const follow = new ResourceFollow({
    ...{ subscriber: resourceSubscriber, keys, store: resourceStore, clock },
    onError: (error) => {
      if (redis.state.kind === 'available') logger.warn({ err: error }, 'cannot follow the resources; trying again');
    },
  });
  const refusals = new Counter({
    name: 'carrierarr_gateway_ws_refusals_total',
    help: 'WebSocket connections and messages that were refused, by error code.',
    labelNames: ['code'] as const,
    registers: [metrics],
  });
  const onRefused = (code: string) => refusals.inc({ code });
  const messages = new Messages({
    ...{ commands, guard, clock, logger, onRefused },
    subscriptions: new Subscriptions({
      ...{ fanout, log, redis: connection, keys, clock, status },
      subscriptionsMax: config.subscriptionsMax,
    }),
    messageBytesMax: config.messageBytesMax,
    messagesPerSecond: config.messagesPerSecond,
    commandsPerSecond: config.commandsPerSecond,
    commandsBurst: config.commandsBurst,
    outputReady: () => (redis.state.kind === 'available' ? fanout.everythingReadyIfWatched : Promise.resolve()),
    onAuthenticated: (client) => endpoint.welcome(client),
  });
  const endpoint: Endpoint = new Endpoint({
    ...{ fanout, messages, guard, limits, clock, logger, status, onRefused, random: Math.random },
    idleTimeoutMs: config.idleTimeout,
    unauthenticatedTimeoutMs: config.unauthenticatedTimeout,
    hello: {
      gateway: gatewayId,
      version: version(),
      limits: {
        message_bytes: config.messageBytesMax,
        subscriptions: config.subscriptionsMax,
        commands_per_second: config.commandsPerSecond,
      },
    },
  });
  metrics.registerMetric(
    new Gauge({
      name: 'carrierarr_gateway_connections',
      help: 'Open WebSocket connections.',
      registers: [],
      collect() {
        this.set(endpoint.connectionCount);
      },
    }),
  );
  redis.onChange((state) => endpoint.setDegraded(state.kind === 'degraded' ? state.reason : null));

  const app = uWS.App();
  endpoint.register(app);
  const http = registerHttp(app, {
    ...{ config, guard, commands, history, log, status, nodes, redis, readiness, metrics, limits, clock, logger },
    ...{ commandStore: store, resourceStore, resourceEvents: new ResourceEvents({ connection, keys }), follow },
    orphanStore: new OrphanStore({ connection, keys }),
    clientCount: () => endpoint.connectionCount,
    wakeOn: (target, onChange) => fanout.wakeOn(target, onChange),
  });
  const listener = new Listener(app, config.addr, clock);
  const ops =
    config.opsAddr === null
      ? undefined
      : new OpsServer({ addr: config.opsAddr, readiness, metrics, version: version(), logger, flags: '--ops-addr' });

  return {
    name: 'gateway',
    stopDeadlineMs: config.shutdownGrace + 2_000,
    get address() {
      return listener.address;
    },
    async start() {
      try {
        await authenticator.start();
        await Promise.all(
          [connection, subscriber]
            .filter((c) => c !== undefined)
            .map((redisConnection) => waitForRedis(redisConnection, { settings: redisSettings })),
        );
        await checkStoreFormat(connection, keys);
        readiness.set('output', false, 'the Redis subscription has yet to answer');
        await redis.start();
        await fanout.start();
        await status.start();
        // Thousands of nodes take a while. They are read on while others start.
        await Promise.race([nodes.nodes().catch(() => undefined), sleep(clock, NODES_START_MS)]);
        // A resource that only a newer version can read must not keep everything else from being served.
        await Promise.race([follow.start(), sleep(clock, FOLLOW_START_MS)]);
        endpoint.start();
        await listener.listen();
        // Nobody is told that it is ready before it listens.
        await ops?.start();
      } catch (error) {
        await this.abandon();
        throw error;
      }
      logger.info({ address: printAddress(listener.address), gateway: gatewayId }, 'gateway listens');
    },
    async stop() {
      const end = clock.monotonicMs() + config.shutdownGrace;
      // Proxies look at readiness: first no new connections come, then the old ones go.
      readiness.drain();
      if (endpoint.connectionCount > 0)
        await new Promise<void>((resolve) => void clock.setTimeout(resolve, config.drainDelay));
      listener.close();
      http.stop();
      await endpoint.drain(config.drainSpread, Math.max(0, end - clock.monotonicMs()));
      await this.abandon();
    },
    /** Lets go of everything at once. */
    async abandon() {
      http.stop();
      endpoint.stop();
      fanout.stop();
      status.stop();
      follow.stop();
      redis.stop();
      authenticator.stop();
      listener.close();
      app.close();
      void drain.close().catch(() => undefined);
      connection.disconnect();
      subscriber?.disconnect();
      resourceSubscriber.disconnect();
      await ops?.stop();
    },
  } as Gateway & { abandon(): Promise<void> };
}
