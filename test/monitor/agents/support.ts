/** Monitors that serve agents, and clients that speak as agents do, by nothing but the generated stubs. */
import { randomBytes } from 'node:crypto';
import {
  type ChannelCredentials,
  type ClientDuplexStream,
  type ClientOptions,
  credentials,
  Metadata,
  type ServiceError,
  type StatusObject,
} from '@grpc/grpc-js';
import { createMonitor, monitorSchema } from '@carrierarr/monitor';
import { createLogger, createMetrics, loadConfig, printAddress, Readiness, redisSettings } from '@carrierarr/platform';
import { type AgentRequest, Keys } from '@carrierarr/protocol';
import {
  AgentControlClient,
  AgentMessage,
  type ControlMessage,
  FleetStatusRequest,
  type FleetStatusResponse,
  type HeartbeatResponse,
  Hello,
  NodeStatus,
  RegisterRequest,
  type RegisterResponse,
} from '@carrierarr/protocol/agent-control';
import {
  AgentMail,
  CommandStore,
  defineScripts,
  ExecutionHistory,
  NodeFollow,
  NodeRegistry,
  OutputLog,
} from '@carrierarr/store';
import type { TestRedis } from '../../support/redis.js';
import { until } from '../../support/until.js';

type Payload = NonNullable<AgentMessage['payload']>;
type Answer = NonNullable<ControlMessage['payload']>;
type Case = Answer['$case'];
type ValueOf<C extends Case> = Extract<Answer, { $case: C }>['value'];

/** A stream as the agent's side of it. */
export class TestStream {
  readonly received: Answer[] = [];
  /** How it ended. */
  readonly ended: Promise<Pick<StatusObject, 'code' | 'details'>>;
  constructor(readonly call: ClientDuplexStream<AgentMessage, ControlMessage>) {
    call.on('data', ({ payload }: ControlMessage) => {
      if (payload !== undefined) this.received.push(payload);
    });
    call.on('error', () => undefined);
    this.ended = new Promise((resolve) => call.on('status', ({ code, details }) => resolve({ code, details })));
  }

  say(payload: Payload): this {
    this.call.write({ payload });
    return this;
  }

  status(nodeId: string, status: Partial<NodeStatus> = {}): this {
    return this.say({ $case: 'status', value: NodeStatus.fromPartial({ nodeId, ...status }) });
  }

  hello(nodeId: string, hello: Partial<Hello> = {}): this {
    return this.say({ $case: 'hello', value: Hello.fromPartial({ nodeId, features: ['commands.v1'], ...hello }) });
  }

  of<C extends Case>(kind: C): ValueOf<C>[] {
    return this.received.flatMap((answer) => (answer.$case === kind ? [answer.value as ValueOf<C>] : []));
  }

  /** The first message of a kind (that fits), as soon as it is there. */
  async next<C extends Case>(
    kind: C,
    fits: (value: ValueOf<C>) => boolean = () => true,
    timeoutMs?: number,
  ): Promise<ValueOf<C>> {
    const found = await until(
      `a ${kind} from the monitor`,
      () => this.of(kind).find(fits) as Answer['value'] | undefined,
      timeoutMs,
    );
    return found as ValueOf<C>;
  }

  output(of: { execution: string; fence: number }, sequence: number, lines: string[], stream = 1): this {
    return this.say({
      $case: 'output',
      value: {
        ...{ commandId: of.execution, fence: of.fence, sequence, timeMs: 1_000 },
        ...{ runs: [{ stream, lines: lines.length }], body: Buffer.from(lines.join('\n')) },
      },
    });
  }
}

/** One connection of an agent. */
export class TestAgent {
  readonly client: AgentControlClient;
  constructor(
    address: string,
    secured: ChannelCredentials = credentials.createInsecure(),
    options: Partial<ClientOptions> = {},
    readonly metadata = new Metadata(),
  ) {
    this.client = new AgentControlClient(address, secured, {
      // Each has a connection of its own, as agents on several machines have.
      'grpc.use_local_subchannel_pool': 1,
      ...options,
    });
  }

  register(request: Partial<RegisterRequest>): Promise<RegisterResponse> {
    return called((done) => this.client.register(RegisterRequest.fromPartial(request), this.metadata, done));
  }

  heartbeat(nodeId: string): Promise<HeartbeatResponse> {
    return called((done) => this.client.heartbeat({ nodeId, timestamp: undefined }, this.metadata, done));
  }

  fleet(request: Partial<FleetStatusRequest> = {}): Promise<FleetStatusResponse> {
    return called((done) => this.client.getFleetStatus(FleetStatusRequest.fromPartial(request), this.metadata, done));
  }

  stream(): TestStream {
    return new TestStream(this.client.connect(this.metadata));
  }

  close(): void {
    this.client.close();
  }
}

/** The answer of a unary call; rejects with the error, which has a `code`. */
export function called<T>(call: (done: (error: ServiceError | null, value: T) => void) => unknown): Promise<T> {
  return new Promise((resolve, reject) => {
    call((error, value) => (error === null ? resolve(value) : reject(error)));
  });
}

/** Monitors of one installation, and its Redis seen by the test. */
export function installationOf(redis: TestRedis, prefix = `t${randomBytes(4).toString('hex')}`) {
  const connection = redis.client();
  defineScripts(connection);
  const keys = new Keys(prefix);
  const monitors: { stop(): Promise<void> }[] = [];
  const agents: TestAgent[] = [];
  const store = new CommandStore({
    ...{ connection, keys, queueLengthMax: 100, pendingTargetsMax: 1_000, idempotencyMs: 60_000 },
    history: { entriesMax: 10_000, bytesMax: 1e8, ageMaxMs: 1e9, executionsMs: 1e9 },
  });
  const mail = new AgentMail({ connection, keys });
  const log = new OutputLog(connection, keys);
  const follow = new NodeFollow({ connection, keys });

  return {
    ...{ connection, keys, store, mail, follow, log, prefix },
    registry: new NodeRegistry({ connection, keys }),
    history: new ExecutionHistory(connection, keys),

    async monitor(name: string, flags: string[] = [], redisUrl = redis.url) {
      const argv = ['--redis-url', redisUrl, '--redis-key-prefix', prefix, '--monitor-id', name, '--reconcile=false'];
      argv.push('--grpc-addr', '127.0.0.1:0', ...flags);
      const loaded = loadConfig({ program: 'monitor', summary: '', schema: monitorSchema, argv, env: {} });
      if (loaded.kind !== 'config') throw new Error('help');
      const metrics = createMetrics({ program: 'monitor', version: 'test', hasProcessMetrics: false });
      const readiness = new Readiness();
      const logger = createLogger({ program: name, level: process.env['TEST_LOG'] ?? 'silent' });
      const monitor = createMonitor({
        ...{ config: loaded.values, redisSettings: redisSettings(loaded.values), logger, metrics, readiness },
      });
      await monitor.start();
      monitors.push(monitor);
      const address = printAddress(await until('agents to be served', () => monitor.agentsAddress));
      return {
        ...{ monitor, readiness, address },
        /** An agent of this monitor. */
        agent: (...args: ConstructorParameters<typeof TestAgent> extends [string, ...infer R] ? R : never) => {
          const agent = new TestAgent(address, ...args);
          agents.push(agent);
          return agent;
        },
        /** Value of a metric, with its labels as they are written: `streams`, `refused_total{reason="token"}`. */
        metric: async (named: string): Promise<number> => {
          const text = await metrics.metrics();
          const line = text.split('\n').find((each) => each.startsWith(`carrierarr_agents_${named} `));
          if (line === undefined) throw new Error(`There is no metric \`${named}\` in:\n${text}`);
          return Number(line.split(' ').at(-1));
        },
      };
    },

    agentAt(address: string, options: Partial<ClientOptions> = {}) {
      const agent = new TestAgent(address, credentials.createInsecure(), options);
      agents.push(agent);
      return agent;
    },

    async node(name: string) {
      await follow.refresh();
      return follow.find(name);
    },

    /** Resolves once a node has a stream that counts. */
    streaming(name: string, fits: (fence: number) => boolean = () => true) {
      return until(`a stream of ${name}`, async () => {
        await follow.refresh();
        const node = follow.find(name);
        return node?.stream !== undefined && fits(node.stream.fence) && follow.isStreaming(node) ? node : undefined;
      });
    },

    /** A command that a runner has claimed, and whose mail waits. */
    async command(node: string, overrides: Partial<AgentRequest> = {}) {
      const target = overrides.target ?? node;
      const common = { subject: 's', address: '', gateway: 'g', idempotent: false } as const;
      await store.submit({ target, command: 'exec', args: ['true'], executor: 'agent', node, ...common });
      const claim = await store.claim(target, { id: 'r', incarnation: 'i' });
      if (claim.kind !== 'claimed') throw new Error(claim.kind);
      const request: AgentRequest = {
        ...{ execution: claim.execution.id, target, fence: claim.fence, type: 'EXEC', args: { cmd: 'true' } },
        ...{ argv: ['true'], timeout_seconds: 0, kill_grace_ms: 1_000, outage_grace_ms: 60_000 },
        ...{ output_bytes_max: 1_000_000, ...overrides },
      };
      await mail.put(node, request);
      return request;
    },

    /** The lines in a target's log, each with the letter of its stream. */
    async lines(target: string): Promise<string[]> {
      const { entries } = await log.read(target, 0, 10_000);
      return entries.flatMap(({ entry }) => {
        if (entry.kind !== 'lines') return [];
        const texts = entry.body.toString().split('\n');
        return entry.runs.flatMap(({ stream, lines }) => texts.splice(0, lines).map((text) => `${stream} ${text}`));
      });
    },

    async stop() {
      for (const agent of agents.splice(0)) agent.close();
      await Promise.all(monitors.splice(0).map((monitor) => monitor.stop()));
    },
  };
}
