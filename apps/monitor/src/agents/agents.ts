/** Puts together what serves agents over gRPC, and takes it apart in the right order. */
import {
  type Clock,
  type Component,
  createRedis,
  type Logger,
  printAddress,
  type Readiness,
  type RedisSettings,
  type Registry,
  sleep,
  type Timer,
  Tokens,
  waitForRedis,
} from '@carrierarr/platform';
import type { Address } from '@carrierarr/platform';
import type { Keys } from '@carrierarr/protocol';
import {
  AgentMail,
  CommandStore,
  type CommandStoreOptions,
  defineScripts,
  ExecutionHistory,
  NodeFollow,
  NodeRegistry,
  type RedisConnection,
} from '@carrierarr/store';
import { AgentChannels } from './agent-channels.js';
import { AgentLogs } from './agent-logs.js';
import { RegistryCalls } from './agent-calls.js';
import { CertificateFiles } from './certificates.js';
import { CommandResults } from './command-results.js';
import { type AgentsConfig, reportIntervalsOf } from './config.js';
import { FleetView } from './fleet-view.js';
import { GrpcServer } from './grpc-server.js';
import { LocalStreams } from './local-streams.js';
import { MailCarrier } from './mail-carrier.js';
import { createAgentMetrics } from './metrics.js';
import { NodeTargets } from './node-targets.js';
import type { NodesConfig } from './nodes/config.js';
import { OutputPassage } from './output-passage.js';
import { Peers, Registrations } from './peers.js';
import { Streams } from './streams.js';

/** More often than {@link NodeRegistry.listen} asks for. */
const LISTEN_EVERY_MS = 2_500;
/** Until the port is tried again, ms. */
const BIND_RETRY_MS = 1_000;
const STOP_MARGIN_MS = 1_000;
/** Name of the readiness check. */
const CHECK = 'agents';

export interface AgentSideOptions {
  config: AgentsConfig & Pick<NodesConfig, 'staleTimeout'>;
  /** Where to listen; without `off`. */
  addr: Address;
  /** Name of this monitor in the registry of nodes. */
  monitor: string;
  redisSettings: RedisSettings;
  /** In subscriber mode, connected. */
  subscriber: RedisConnection;
  keys: Keys;
  /** Of the stores of commands, without their connection. */
  commands: Omit<CommandStoreOptions, 'connection' | 'keys'>;
  /** Redis' clock. */
  clock: Clock;
  logger: Logger;
  metrics: Registry;
  readiness: Readiness;
}

/** What serves agents; `start` and `stop` once each. */
export interface AgentSide extends Component {
  /** Undefined while it does not listen. */
  readonly address: Address | undefined;
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** Connects to nothing before `start`. The port may be taken then: it is tried again until it is free. */
export function createAgentSide(options: AgentSideOptions): AgentSide {
  const { config, addr, monitor, redisSettings, subscriber, keys, clock, logger, readiness } = options;
  const now = () => clock.now();
  const connection = createRedis(redisSettings, { name: 'monitor-agents', role: 'commands', logger });
  // Its own: an entry waits for those before it, and nothing else is to.
  const outputConnection = createRedis(redisSettings, { name: 'monitor-output', role: 'commands', logger });
  for (const each of [connection, outputConnection]) defineScripts(each);

  const metrics = createAgentMetrics(options.metrics, {
    streams: () => local.size,
    mailOpen: () => carrier.localOpen,
    resultsWaiting: () => results.waiting,
  });
  const registry = new NodeRegistry({ connection, keys });
  const mail = new AgentMail({ connection, keys });
  const store = new CommandStore({ ...options.commands, connection, keys });
  const outputStore = new CommandStore({ ...options.commands, connection: outputConnection, keys });
  const targets = new NodeTargets({ connection, keys, clock });
  const local = new LocalStreams();
  const registrations = new Registrations();
  const intervals = reportIntervalsOf(config);
  const carrier = new MailCarrier({ mail, store, streams: local, clock, logger, metrics });
  const results = new CommandResults({
    ...{ mail, carrier, store, streams: local, now, clock, logger, metrics },
    history: new ExecutionHistory(connection, keys),
  });
  const streams = new Streams({
    ...{ monitor, registry, registrations, local, carrier, results, intervals, now, clock, logger, metrics },
    output: new OutputPassage({ carrier, store: outputStore, now, metrics }),
    logs: new AgentLogs({ store, targets, linesPerSecond: config.agentLogLinesPerSecond, now, clock, metrics }),
  });
  const { agentTokensFile, grpcTlsCert, grpcTlsKey, grpcTlsClientCa } = config;
  const tokens = agentTokensFile === null ? undefined : new Tokens({ path: agentTokensFile, clock, logger });
  const certificates =
    grpcTlsCert === null || grpcTlsKey === null
      ? undefined
      : new CertificateFiles({
          ...{ cert: grpcTlsCert, key: grpcTlsKey, clientCa: grpcTlsClientCa, clock, logger },
          onReload: () => metrics.tlsReloads.inc(),
        });
  const fleet = new FleetView({ follow: new NodeFollow({ connection, keys }), targets, clock });
  const server = new GrpcServer({
    ...{ addr, certificates, tokens, clock, logger, metrics },
    requiresClientCertificate: grpcTlsClientCa !== null,
    peers: new Peers({
      streamsMax: config.agentStreamsMax,
      streamsPerAddressMax: config.agentStreamsPerAddressMax,
      callsPerSecond: config.agentCallsPerSecond,
    }),
    limits: {
      messagesPerSecond: config.agentMessagesPerSecond,
      bytesPerSecond: config.agentBytesPerSecond,
      messageBytesMax: config.grpcMessageBytesMax,
      keepaliveMs: config.grpcKeepalive,
      keepaliveTimeoutMs: config.grpcKeepaliveTimeout,
    },
    calls: new RegistryCalls({ registry, registrations, fleet, intervals, now, metrics }),
    handle: (stream, message) => streams.handle(stream, message),
    onOpened: (stream) => local.add(stream),
    onClosed: (stream) => streams.closed(stream),
  });
  const channels = new AgentChannels({
    ...{ connection: subscriber, keys },
    onMail: (execution, node) => void carrier.woken(execution, node),
    onStream: (node, fence) => streams.superseded(node, fence),
    onTrouble: (error) => logger.debug({ err: error }, 'the channels of agents'),
  });

  let listening: Timer | undefined;
  let isStopping = false;
  /** Says that agents are heard here, or will be: their silence counts only while somebody listens. */
  const sayListening = () => {
    registry.listen(monitor, server.address === undefined ? [] : ['grpc']).catch((error: unknown) => {
      logger.debug({ err: error }, 'could not say that this monitor listens to agents');
    });
  };
  const bind = async () => {
    for (let attempt = 0; !isStopping; attempt += 1) {
      try {
        await server.listen();
        const where = printAddress(server.address ?? addr);
        readiness.set(CHECK, true, `listens on ${where}`);
        logger.info({ address: where, tls: certificates !== undefined }, 'agents are served');
        sayListening();
        return;
      } catch (error) {
        const text =
          `Cannot listen for agents on \`-grpc-addr ${printAddress(addr)}\`: another program has the port, or the address ` +
          'is not of this machine. Choose another, or `-grpc-addr off`. It is tried again until it works.';
        readiness.set(CHECK, false, text);
        if (attempt === 0) logger.error({ err: error }, text);
        await sleep(clock, BIND_RETRY_MS);
      }
    }
  };

  return {
    name: 'agents',
    get address() {
      return server.address;
    },

    async start() {
      readiness.set(CHECK, false, 'not started yet');
      try {
        await Promise.all(
          [connection, outputConnection].map((each) => waitForRedis(each, { settings: redisSettings, clock })),
        );
        await tokens?.start();
        await certificates?.start();
      } catch (error) {
        for (const each of [connection, outputConnection]) each.disconnect();
        tokens?.stop();
        throw error;
      }
      channels.start();
      carrier.start();
      listening = clock.setInterval(sayListening, LISTEN_EVERY_MS);
      // Others may wait for the rest of the monitor meanwhile.
      void bind();
    },

    async stop() {
      isStopping = true;
      readiness.set(CHECK, false, 'stopping');
      listening?.cancel();
      await server.stop();
      carrier.stop();
      channels.stop();
      results.stop();
      certificates?.stop();
      tokens?.stop();
      await Promise.race([registry.leave(monitor).catch(() => undefined), sleep(clock, STOP_MARGIN_MS)]);
      for (const each of [connection, outputConnection]) each.disconnect();
    },
  };
}
