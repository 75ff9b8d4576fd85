/** Puts a monitor together, and takes it apart in the right order. */
import { randomBytes } from 'node:crypto';
import {
  type Address,
  type Clock,
  type Component,
  createRedis,
  type Logger,
  type Readiness,
  type RedisSettings,
  type Registry,
  sleep,
  systemClock,
  waitForRedis,
} from '@carrierarr/platform';
import { Keys, type SourceReport, targetOf } from '@carrierarr/protocol';
import {
  checkStoreFormat,
  CommandStore,
  defineScripts,
  DrainQueue,
  ExecutionHistory,
  Leadership,
  NodeFollow,
  NodeRegistry,
  OrphanStore,
  OutputLog,
  ResourceEvents,
  ResourceFollow,
  ResourceStore,
  WorkerStatusStore,
} from '@carrierarr/store';
import { createAgentSide } from './agents/agents.js';
import { AgentQueues } from './agents/amqp/agent-queues.js';
import { createAmqpMetrics } from './agents/amqp/metrics.js';
import { createNodesMetrics } from './agents/nodes/metrics.js';
import { randomMonitorId } from './config.js';
import { Election, type Term } from './leader/election.js';
import { LeaderChannel } from './leader/leader-channel.js';
import { createElectionMetrics } from './leader/metrics.js';
import type { MonitorConfig } from './monitor-config.js';
import { createObserveMetrics } from './observe/metrics.js';
import { Observer } from './observe/observer.js';
import { Fleet } from './reconciler/fleet.js';
import { createQueueMetrics, createReconcileMetrics } from './reconciler/metrics.js';
import { Others } from './reconciler/others.js';
import { RedisClock } from './redis-clock.js';
import { ScriptCommands } from './script-commands.js';
import { Leading } from './term.js';

export interface MonitorOptions {
  config: MonitorConfig;
  redisSettings: RedisSettings;
  logger: Logger;
  metrics: Registry;
  /**
   * Gets checks named `redis`, `leader` and `sources`, `rabbitmq` where that is read, and `agents` if agents are served.
   */
  readiness: Readiness;
  clock?: Clock;
}

/** A monitor as a part of a program; `start` and `stop` once each. */
export interface MonitorComponent extends Component {
  /** Its name, as the gateway of its commands. */
  readonly id: string;
  /** The fence of its term, while it leads. */
  readonly fence: number | undefined;
  /** Where it listens for agents; undefined while it does not. */
  readonly agentsAddress: Address | undefined;
  start(): Promise<void>;
  stop(): Promise<void>;
  readonly stopDeadlineMs: number;
}

/** For answers of Redis and of clouds that are on their way, ms. */
const STOP_DEADLINE_MS = 15_000;
/** How long a stop waits for what still uses the connections, ms. */
const STOP_MARGIN_MS = 6_000;

/**
 * Connects to nothing before `start`, which rejects if Redis cannot be reached or holds data of another format. From then
 * on it leads or stands by; a standby is as ready as a leader.
 */
export function createMonitor(options: MonitorOptions): MonitorComponent {
  const { config, redisSettings, logger, readiness, clock: ownClock = systemClock } = options;
  const id = config.monitorId ?? randomMonitorId();
  // Two processes that were given one name are two monitors all the same.
  const holder = `${id} ${randomBytes(8).toString('hex')}`;
  const keys = new Keys(redisSettings.keyPrefix);

  const connection = createRedis(redisSettings, { name: 'monitor', role: 'commands', logger });
  // Its own: a renewal must not wait behind ten thousand looks.
  const lease = createRedis(redisSettings, { name: 'monitor-lease', role: 'commands', logger });
  const subscriber = createRedis(redisSettings, { name: 'monitor-notices', role: 'subscriber', logger });
  for (const each of [connection, lease]) defineScripts(each);

  const history = new ExecutionHistory(connection, keys);
  const bounds = {
    history: {
      entriesMax: config.historyEntries,
      bytesMax: config.historyBytes,
      ageMaxMs: config.historyAge,
      executionsMs: config.historyExecutions,
    },
    queueLengthMax: config.queueLengthMax,
    pendingTargetsMax: config.pendingTargetsMax,
    idempotencyMs: config.idempotencyWindow,
  };
  const commands = new CommandStore({ connection, keys, ...bounds });
  const drain = new DrainQueue(connection, keys);
  const resources = new ResourceStore({ connection, keys });
  const clock = new RedisClock(ownClock, () => commands.redisNowMs());
  const follow = new ResourceFollow({
    ...{ subscriber, keys, store: resources, clock },
    onError: (error) => logger.debug({ err: error }, 'resources could not be followed; trying again'),
  });
  const fleet = new Fleet(follow);
  const registry = new NodeRegistry({ connection, keys });
  const nodes = {
    ...{ connection, keys, registry, follow: new NodeFollow({ connection, keys }) },
    limits: { staleMs: config.staleTimeout, deadMs: Math.max(config.staleTimeout, config.deadThreshold) },
    isEndingDead: config.autoTerminateDead,
    metrics: createNodesMetrics(options.metrics),
  };
  const metrics = {
    election: createElectionMetrics(options.metrics),
    observe: createObserveMetrics(options.metrics),
    queue: createQueueMetrics(options.metrics, 'carrierarr', () => clock.monotonicMs()),
    reconcile: createReconcileMetrics(options.metrics, config.reconcileConcurrency),
  };

  let leading: Leading | undefined;
  const failing = new Map<string, string>();
  const showSources = ({ source, ok, error = 'it did not answer' }: SourceReport) => {
    if (ok) failing.delete(source);
    else failing.set(source, error);
    const detail = [...failing].map(([name, why]) => `${name}: ${why}`).join(' ');
    // Another monitor would fare no better: it goes on being ready, and says what is wrong.
    readiness.set('sources', true, failing.size === 0 ? 'all answer' : detail);
  };
  const scripted = () => [...fleet.workers()].filter((worker) => leading?.views.isScripted(worker) ?? false);
  const observer = new Observer({
    ...{ config, clock, logger, metrics: metrics.observe },
    script: {
      targets: () => [...new Set(scripted().map(targetOf))],
      commands: new ScriptCommands({
        ...{ store: commands, drain, history, log: new OutputLog(connection, keys), monitor: id },
        fence: () => election.fence,
        argsOf(target) {
          for (const name of fleet.namesAt(target)) return fleet.get('Worker', name)?.spec.args['status'] ?? [];
          return [];
        },
      }),
    },
    async onPoll(report, change) {
      if (leading === undefined) throw new Error('This monitor does not lead any more.');
      await leading.publish(report, change);
    },
  });
  const lead = async (term: Term) => {
    readiness.set('leader', true, 'this monitor leads');
    failing.clear();
    leading = new Leading(
      {
        ...{ fleet, observer, logger, clock, monitor: id, metrics, nodes, onReport: showSources },
        status: new WorkerStatusStore({ connection, keys }),
        orphans: new OrphanStore({ connection, keys }),
        others: new Others({ connection, keys }),
        stores: {
          ...{ resources, commands, drain, store: commands, history },
          events: new ResourceEvents({ connection, keys }),
        },
        isReconciling: config.reconcile,
        isCollectingOrphans: config.gcOrphans,
        concurrency: config.reconcileConcurrency,
        resyncMs: config.resync,
      },
      term,
    );
    try {
      await leading.run();
    } finally {
      leading = undefined;
      readiness.set('sources', true, 'the leader polls them');
    }
  };
  const election = new Election({
    leadership: new Leadership({ connection: lease, keys }),
    ...{ holder, lead, clock, logger, metrics: metrics.election },
    onLeader({ holder: leader, isUs }) {
      if (!isUs) readiness.set('leader', true, `${leader.split(' ', 1)[0]} leads; this monitor stands by`);
    },
  });
  const channel = new LeaderChannel({
    ...{ connection: subscriber, keys },
    onVacancy: () => election.nudge(),
    onTrouble: (error) => logger.debug({ err: error }, 'the channel of the leader'),
  });

  const { rabbitmqUrl: url, rabbitmqVhost: vhost } = config;
  const agentQueues =
    url === null
      ? undefined
      : new AgentQueues({
          ...{ url, vhost, clock, logger, readiness, monitor: id },
          registry,
          metrics: createAmqpMetrics(options.metrics),
        });

  const agents =
    config.grpcAddr === 'off'
      ? undefined
      : createAgentSide({
          ...{ config, redisSettings, subscriber, keys, clock, logger, readiness, metrics: options.metrics },
          ...{ addr: config.grpcAddr, monitor: holder, commands: bounds },
        });

  const onReady = () => readiness.set('redis', true);
  const onClose = () => readiness.set('redis', false, 'no connection to Redis');
  const disconnect = () => {
    for (const each of [connection, lease, subscriber]) each.disconnect();
  };

  return {
    name: 'monitor',
    id,
    stopDeadlineMs: STOP_DEADLINE_MS,
    get fence() {
      return election.fence;
    },
    get agentsAddress() {
      return agents?.address;
    },

    async start() {
      readiness.set('redis', false, 'not started yet');
      readiness.set('leader', false, 'nobody is known to lead yet');
      readiness.set('sources', true, 'the leader polls them');
      try {
        await Promise.all(
          [connection, lease, subscriber].map((each) =>
            waitForRedis(each, { settings: redisSettings, clock: ownClock }),
          ),
        );
        await checkStoreFormat(connection, keys);
        await Promise.all([clock.start(), observer.prepare()]);
        await follow.start();
        await agents?.start();
      } catch (error) {
        clock.stop();
        follow.stop();
        disconnect();
        throw error;
      }
      connection.on('ready', onReady);
      connection.on('close', onClose);
      onReady();
      channel.start();
      election.start();
      await agentQueues?.start();
      logger.info({ monitor: id, reconciles: config.reconcile }, 'monitor watches');
    },

    async stop() {
      readiness.set('leader', false, 'stopping');
      channel.stop();
      await Promise.all([
        agentQueues?.stop(),
        Promise.race([Promise.all([election.stop(), agents?.stop()]), sleep(ownClock, STOP_MARGIN_MS)]),
      ]);
      connection.off('ready', onReady);
      connection.off('close', onClose);
      follow.stop();
      clock.stop();
      await Promise.race([drain.close().catch(() => undefined), sleep(ownClock, STOP_MARGIN_MS)]);
      disconnect();
    },
  };
}
