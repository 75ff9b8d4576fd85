/** Puts an agent together, and takes it apart in the right order. */
import { cpus } from 'node:os';
import { PipeFolder, readSecrets } from '@carrierarr/execution';
import {
  type Clock,
  type Component,
  type Logger,
  type Readiness,
  type Registry,
  systemClock,
} from '@carrierarr/platform';
import { type ConfigUpdate, type NodeStatus, NodeType, type RegisterRequest } from '@carrierarr/protocol/agent-control';
import { AmqpPublisher } from './amqp/publisher.js';
import { Actions } from './commands/actions.js';
import { Commands } from './commands/commands.js';
import { Refusal } from './commands/work.js';
import type { AgentConfig } from './config.js';
import { ControlPlane } from './control/control-plane.js';
import { IdleWatch } from './idle/idle-watch.js';
import { runPowerOff } from './idle/power-off.js';
import type { CloudIdentity } from './metadata/cloud-identity.js';
import { type Cloud, cloudToAsk, identityOf, type Identity, logIdentity, nebulaAddress } from './metadata/identity.js';
import { IdentitySearch } from './metadata/identity-search.js';
import { InterruptionWatch } from './metadata/interruption-watch.js';
import { createAgentMetrics } from './metrics.js';
import { NodeState } from './state/node-state.js';
import { nextStartNumber } from './state/start-number.js';
import { FolderTakenError, StateLock } from './state/state-lock.js';
import {
  capabilitiesOf,
  Collector,
  heartbeatBodyOf,
  idleSightOf,
  type NodeFacts,
  nodeStatusOf,
  nodeTypeOf,
  type Sight,
} from './status/collector.js';

export interface AgentOptions {
  config: AgentConfig;
  logger: Logger;
  metrics: Registry;
  readiness: Readiness;
  clock?: Clock;
  env?: NodeJS.ProcessEnv;
  /** Ends the program: a command said so. */
  exit?: () => void;
}

/** How long it may take to say goodbye over gRPC when the agent stops: with that over RabbitMQ, within what containers get. */
const LAST_WORDS_MS = 4_000;

/** To be told that something is wrong with it though it runs. */
export interface Agent extends Component {
  /** In words; none: all is well. */
  problems(): string[];
  start(): Promise<void>;
  stop(): Promise<void>;
}

export function createAgent(options: AgentOptions): Agent {
  const { config, logger, readiness, clock = systemClock, env = process.env, exit = () => undefined } = options;
  const collector = new Collector(config, clock);
  const pipes = new PipeFolder('agent');
  const state = new NodeState(config.stateDir, logger);
  const lock = new StateLock(config.stateDir);
  let identity: Identity = identityOf(config, undefined);
  let interruptions: InterruptionWatch | undefined;
  let search: IdentitySearch | undefined;
  let type = nodeTypeOf(config.type, 0);
  let control: ControlPlane | undefined;
  let publisher: AmqpPublisher | undefined;
  let pipesOpen: Promise<void> | undefined;
  let isStopping = false;
  let startNumber = 0;

  const idle = new IdleWatch({
    ...{ stateDir: config.stateDir, flagMs: config.idleShutdown, clock, logger },
    bounds: { gpuPercent: config.idleGpuPercent, countConnections: config.idleConnections },
    look: async () => idleSightOf(await look(), commands.running),
    powerOff,
  });
  const metrics = createAgentMetrics(options.metrics, {
    running: () => commands.running,
    idleSeconds: () => Math.floor(idle.idleMs / 1000),
    undelivered: () => commands.undelivered,
    spoolBytes: () => commands.budget.used,
  });
  const commands = new Commands({
    ...{ config, metrics, clock, logger },
    link: () => control ?? NO_LINK,
    begin: async (command, output) => {
      await openPipes();
      return actions.begin(command, output);
    },
    holdFolder: () => lock.take(),
    onActivity: () => idle.touch(),
    secrets: readSecrets({
      ...{ config, env, logger, program: 'carrierarr-agent' },
      own: { 'join token': config.token, 'RabbitMQ password': passwordOf(config.rabbitmqUrl) },
    }),
  });
  const actions = new Actions({
    ...{ config, env, pipes, clock, exit },
    nodeId: () => identity.nodeId,
    setDraining: async (isDraining) => {
      await state.setDraining(isDraining);
      control?.sendStatusNow();
    },
    setConfig: (args) => updateConfig(args),
  });

  /** Again if it failed: a full disk does not stay full. Rejects with {@link Refusal}. */
  function openPipes(): Promise<void> {
    pipesOpen ??= pipes.open().catch((cause: Error) => {
      pipesOpen = undefined;
      throw new Refusal(`No folder for the pipes of programs could be made: ${cause.message}.`);
    });
    return pipesOpen;
  }

  function facts(): NodeFacts {
    const about = { identity, type, idleMs: idle.idleMs, notice: interruptions?.notice };
    return { ...about, isDraining: state.isDraining, nowMs: clock.now() };
  }

  /** What is said of the machine when it registers. Its last words do not wait for a look. */
  function described(): Promise<Sight> {
    return isStopping ? collector.lastLook() : collector.look();
  }

  /** A driver may be there only some time after the boot. True if the node is of another kind than was said so far. */
  function learnType({ gpus }: Sight): boolean {
    const now = nodeTypeOf(config.type, gpus.length);
    // A look that failed sees none.
    if (now === type || now !== NodeType.NODE_TYPE_GPU_WORKER) return false;
    type = now;
    logger.info({ type: NodeType[type], gpus: gpus.length }, 'GPUs are seen that were not there at the start');
    return true;
  }

  /** Nebula may be up only some time after the boot. True if the address is another than was said so far. */
  function learnAddress(): boolean {
    const now = config.nebulaIp ?? nebulaAddress() ?? identity.nebulaIp;
    if (now === identity.nebulaIp) return false;
    identity = { ...identity, nebulaIp: now };
    logger.info({ nebulaIp: now }, 'this is the address in the Nebula network now');
    return true;
  }

  /** True if the node is to register anew. */
  function learn(sight: Sight): boolean {
    const hasAddress = learnAddress();
    return learnType(sight) || hasAddress;
  }

  async function look(): Promise<Sight> {
    const sight = await collector.look();
    if (!learn(sight)) return sight;
    control?.registerAgain();
    publisher?.registerAgain();
    return sight;
  }

  async function status(): Promise<NodeStatus> {
    return nodeStatusOf(await look(), facts());
  }

  async function registration(): Promise<RegisterRequest> {
    const sight = await described();
    if (learn(sight)) publisher?.registerAgain();
    const { nodeId, instanceId, nebulaIp, publicIp, region, az } = identity;
    return {
      ...{ nodeId, nodeType: type, instanceId, nebulaIp, publicIp, region, availabilityZone: az },
      ...{ labels: config.labels, capabilities: capabilitiesOf(sight, cpus().length) },
      ...{ features: [], agentVersion: '' },
    };
  }

  async function amqpBody(action: 'register' | 'deregister', who: Identity): Promise<Record<string, unknown>> {
    const sight = await described();
    if (learn(sight)) control?.registerAgain();
    const now = { ...who, nebulaIp: identity.nebulaIp };
    return { ...amqpRegistration(action, now, type, sight, clock.now()), start_number: startNumber };
  }

  async function applyConfig(update: ConfigUpdate): Promise<void> {
    control?.setIntervals({
      heartbeatMs: update.heartbeatIntervalSec * 1000,
      statusMs: update.statusIntervalSec * 1000,
    });
    if (!update.onlyIntervals && update.idleShutdownMinutes >= 0) await idle.order(update.idleShutdownMinutes * 60_000);
  }

  /** Of the command; the names are those of ConfigUpdate. What is not named stays. */
  async function updateConfig(args: Readonly<Record<string, string>>): Promise<string[]> {
    const names = ['heartbeat_interval_sec', 'status_interval_sec', 'idle_shutdown_minutes'] as const;
    const [heartbeat, statusSec, idleMinutes] = names.map((name) => wholeNumber(name, args[name]));
    const unknown = Object.keys(args).find((name) => !(names as readonly string[]).includes(name));
    if (unknown !== undefined) throw new Refusal(`Expected ${names.join(', ')}, got ${JSON.stringify(unknown)}.`);
    await applyConfig({
      ...{ heartbeatIntervalSec: heartbeat ?? 0, statusIntervalSec: statusSec ?? 0 },
      ...{ idleShutdownMinutes: idleMinutes ?? 0, onlyIntervals: idleMinutes === undefined },
    });
    return names.flatMap((name) => (args[name] === undefined ? [] : [`${name}=${args[name]}`]));
  }

  function watchInterruptions(cloud: Cloud | undefined): void {
    if (cloud?.imds === undefined) return;
    const onNotice = (): void => {
      metrics.interruptions.inc();
      control?.sendStatusNow();
    };
    interruptions = new InterruptionWatch({ imds: cloud.imds, onNotice, clock, logger });
    interruptions.start();
  }

  /** The cloud answers at last: whoever knows this node hears who it is. */
  function identified(cloud: Cloud, found: CloudIdentity): void {
    watchInterruptions(cloud);
    const former = identity;
    identity = identityOf(config, found);
    logIdentity(logger, identity);
    control?.registerAgain();
    // A control plane joins both names. Over RabbitMQ alone nothing does, so what goes by the first one is to go.
    const isRenamed = config.controlPlane.length === 0 && former.instanceId !== identity.instanceId;
    if (isRenamed) publisher?.rename(() => amqpBody('deregister', former));
    else publisher?.registerAgain();
  }

  async function powerOff(idleMs: number): Promise<void> {
    const minutes = Math.round(idleMs / 60_000);
    control?.sendLog('warn', `idle for ${minutes} min: powering off`, {
      idle_seconds: String(Math.round(idleMs / 1000)),
    });
    if (config.shutdownCommand === 'exit') return exit();
    await runPowerOff({ argv: config.shutdownCommand.split(' '), env: actions.powerEnvironment(), clock });
  }

  return {
    name: 'agent',
    stopDeadlineMs: 30_000,

    problems() {
      const { diskProblem } = commands;
      const problems = diskProblem === undefined ? [] : [`No commands are taken: ${diskProblem.message}`];
      if (idle.limitMs > 0 && idle.unknown.length > 0) {
        const what = idle.unknown.join(', ');
        problems.push(`It cannot be told whether the machine is idle (${what}), so it is not powered off.`);
      }
      return problems;
    },

    async start() {
      // Another agent's is no folder for this one. One that cannot be used is no reason to leave a machine on.
      await lock.take().catch((error: unknown) => {
        if (error instanceof FolderTakenError) throw error;
      });
      await state.open();
      // First of all that may fail: what is not used must be powered off whatever else does not work.
      await idle.start();
      const cloud = cloudToAsk(config, env, clock);
      const found = await cloud?.identity();
      identity = identityOf(config, found);
      const sight: Sight = await collector.look();
      type = nodeTypeOf(config.type, sight.gpus.length);
      logIdentity(logger, identity);
      logger.info(
        { type: NodeType[type], gpus: sight.gpus.length, gpuProblem: sight.gpuProblem },
        'looked at the machine',
      );
      await openPipes().catch((error: unknown) => logger.error({ err: error }, 'no pipes for programs; trying again'));
      await commands.start();
      if (found !== undefined) watchInterruptions(cloud);
      else if (cloud !== undefined) {
        const onFound = (late: CloudIdentity): void => identified(cloud, late);
        search = new IdentitySearch({ ask: () => cloud.identity(), onFound, clock, logger });
        search.start();
      }
      control = new ControlPlane({
        ...{ config, nodeId: identity.nodeId, registration, status, readiness, metrics, clock, logger },
        running: () => commands.runningIds(),
        isTouchNeeded: () => commands.isTouchNeeded(),
        events: {
          onUp: () => commands.onUp(),
          onCommand: (command) => commands.take(command),
          onCancel: (cancel) => commands.cancel(cancel),
          onAck: (ack) => commands.confirm(ack),
          onConfig: (update) => void applyConfig(update),
        },
      });
      control.start();
      if (config.rabbitmqUrl !== null) {
        startNumber = await nextStartNumber(config.stateDir, clock.now(), logger);
        publisher = new AmqpPublisher({
          ...{ url: config.rabbitmqUrl, vhost: config.rabbitmqVhost, readiness, metrics, clock, logger },
          registration: (action) => amqpBody(action, identity),
          heartbeat: async () => ({ ...heartbeatBodyOf(await look(), facts()), start_number: startNumber }),
        });
        publisher.start();
      }
      if (config.controlPlane.length === 0 && config.rabbitmqUrl === null) readiness.set('agent', true);
    },

    async stop() {
      isStopping = true;
      search?.stop();
      interruptions?.stop();
      await idle.stop();
      await commands.stop();
      // In this order: a node that deregisters while it has a stream is kept, and held for dead later.
      await control?.stop(LAST_WORDS_MS);
      await publisher?.stop();
      await pipes.close();
      await lock.release();
    },
  };
}

const NODE_TYPE_WORDS: Readonly<Record<number, string>> = {
  [NodeType.NODE_TYPE_GPU_WORKER]: 'gpu-worker',
  [NodeType.NODE_TYPE_CPU_WORKER]: 'cpu-worker',
  [NodeType.NODE_TYPE_LIGHTHOUSE]: 'lighthouse',
};

function amqpRegistration(
  action: 'register' | 'deregister',
  identity: Identity,
  type: NodeType,
  sight: Sight,
  nowMs: number,
): Record<string, unknown> {
  const { hasGpu, gpuModel, gpuCount, gpuMemoryMb, cpuCores, memoryMb, diskMb } = capabilitiesOf(sight, cpus().length);
  return {
    ...{ action, node_id: identity.instanceId || identity.nodeId, node_type: NODE_TYPE_WORDS[type] ?? '' },
    ...{ nebula_ip: identity.nebulaIp, public_ip: identity.publicIp, region: identity.region, az: identity.az },
    capabilities: {
      ...{ gpu: hasGpu, gpu_model: gpuModel, gpu_count: gpuCount, gpu_memory_mb: gpuMemoryMb },
      ...{ cpu_cores: cpuCores, memory_mb: memoryMb, disk_mb: diskMb },
    },
    timestamp: new Date(nowMs).toISOString(),
  };
}

/** Before there is a control plane. */
const NO_LINK = {
  ...{ isUp: false, streamsCommands: false, silentMs: 0 },
  sendAccepted: () => undefined,
  sendResult: () => false,
  sendOutput: () => Promise.reject(new Error('no control plane')),
};

function passwordOf(url: string | null): string {
  return url === null ? '' : decodeURIComponent(new URL(url).password);
}

const MINUTES_MAX = 525_600;

function wholeNumber(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d+$/.test(text) && value <= MINUTES_MAX) return value;
  throw new Refusal(
    `Expected ${name} to be a whole number from 0 to ${MINUTES_MAX}, got ${JSON.stringify(text.slice(0, 50))}.`,
  );
}
