/** A control plane for agents under test: the generated service on a port of its own, in the old or the new flavour. */
import {
  type AgentMessage,
  AgentControlService,
  type Command,
  type CommandResult,
  CommandType,
  type CommandOutput,
  type ControlMessage,
  type HeartbeatRequest,
  type NodeStatus,
  OutputVerdict,
  type RegisterRequest,
} from '@carrierarr/protocol/agent-control';
import {
  type sendUnaryData,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
} from '@grpc/grpc-js';
import { until } from '../../support/until.js';

type Stream = ServerDuplexStream<AgentMessage, ControlMessage>;
type Payload = NonNullable<AgentMessage['payload']>;

export interface TestControlPlaneOptions {
  /** Speaks only what control planes in use today speak. */
  isOld?: boolean;
  /** False: it goes on with the stream of an agent that has said all. */
  endsStreams?: boolean;
  port?: number;
  credentials?: ServerCredentials;
}

export class TestControlPlane {
  readonly registrations: RegisterRequest[] = [];
  readonly tokens: (string | undefined)[] = [];
  readonly heartbeats: HeartbeatRequest[] = [];
  readonly messages: Payload[] = [];
  /** Entries by command, in order, each once: what a log would hold. */
  readonly logs = new Map<string, CommandOutput[]>();
  readonly streams: Stream[] = [];
  /** Says what becomes of an entry; by default it is stored and answered. `silent`: stored, but the answer is lost. */
  onOutput: (output: CommandOutput) => 'store' | 'silent' | 'unavailable' | 'fenced' = () => 'store';
  /** Called when it comes, before anything else is done. */
  onGoodbye: () => void = () => undefined;
  acksResults = true;
  accepts = true;
  port = 0;
  readonly #server = new Server();
  readonly #o: TestControlPlaneOptions;

  private constructor(options: TestControlPlaneOptions) {
    this.#o = options;
  }

  static async start(options: TestControlPlaneOptions = {}): Promise<TestControlPlane> {
    const made = new TestControlPlane(options);
    await made.#listen();
    return made;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Breaks all connections at once. */
  stop(): void {
    this.#server.forceShutdown();
  }

  statuses(): NodeStatus[] {
    return this.messages.flatMap((message) => (message.$case === 'status' ? [message.value] : []));
  }

  results(id?: string): CommandResult[] {
    return this.messages.flatMap((message) =>
      message.$case === 'commandResult' && (id === undefined || message.value.commandId === id) ? [message.value] : [],
    );
  }

  accepted(id: string): number {
    return this.messages.filter((message) => message.$case === 'accepted' && message.value.commandId === id).length;
  }

  /** The text that the log of a command holds. */
  text(id: string): string {
    return (this.logs.get(id) ?? []).map(({ body }) => `${body.toString()}\n`).join('');
  }

  async connected(count = 1): Promise<Stream> {
    return until(`stream ${count} of the agent with a status`, () => {
      const stream = this.streams.at(count - 1);
      return stream !== undefined && this.#spoken.has(stream) && stream;
    });
  }

  result(id: string): Promise<CommandResult> {
    return until(`result of ${id}`, () => this.results(id)[0], 18_000);
  }

  send(payload: NonNullable<ControlMessage['payload']>): void {
    const stream = this.streams.at(-1);
    if (stream === undefined) throw new Error('No stream is open.');
    stream.write({ payload });
  }

  command(fields: Partial<Command> & { commandId: string }): void {
    this.send({
      $case: 'command',
      value: {
        ...{ type: CommandType.COMMAND_TYPE_EXEC, args: {}, timeoutSeconds: 0, argv: [], fence: 1, killGraceMs: 2000 },
        ...{ outageGraceMs: 60_000, outputBytesMax: 0, firstSending: false, ...fields },
      },
    });
  }

  readonly #spoken = new Set<Stream>();

  #take(stream: Stream, payload: Payload): void {
    this.messages.push(payload);
    if (payload.$case === 'status') this.#spoken.add(stream);
    if (payload.$case === 'goodbye') this.onGoodbye();
    if (payload.$case === 'commandResult' && this.acksResults) {
      stream.write({ payload: { $case: 'ack', value: { messageId: payload.value.commandId, received: true } } });
    }
    if (payload.$case === 'output') this.#store(stream, payload.value);
  }

  #store(stream: Stream, output: CommandOutput): void {
    const { commandId, fence, sequence } = output;
    const log = this.logs.get(commandId) ?? [];
    this.logs.set(commandId, log);
    const answer = (verdict: OutputVerdict, known = 0) =>
      stream.write({ payload: { $case: 'outputAck', value: { commandId, fence, sequence, verdict, known } } });
    const what = this.onOutput(output);
    if (what === 'unavailable') return void answer(OutputVerdict.OUTPUT_VERDICT_UNAVAILABLE);
    if (what === 'fenced') return void answer(OutputVerdict.OUTPUT_VERDICT_FENCED);
    if (sequence > log.length + 1) return void answer(OutputVerdict.OUTPUT_VERDICT_HOLE, log.length);
    if (sequence === log.length + 1) log.push(output);
    if (what === 'store') answer(OutputVerdict.OUTPUT_VERDICT_STORED);
  }

  async #listen(): Promise<void> {
    const features = this.#o.isOld ? [] : ['commands.v1'];
    this.#server.addService(AgentControlService, {
      connect: (stream: Stream) => {
        this.streams.push(stream);
        stream.on('data', ({ payload }: AgentMessage) => {
          if (payload !== undefined) this.#take(stream, payload);
        });
        stream.on('error', () => undefined);
        stream.on('end', () => this.#o.endsStreams !== false && stream.end());
      },
      register: (call: ServerUnaryCall<RegisterRequest, unknown>, answer: sendUnaryData<unknown>) => {
        this.registrations.push(call.request);
        this.tokens.push(call.metadata.get('authorization')[0]?.toString());
        answer(null, {
          ...{ accepted: this.accepts, message: 'test', assignedId: call.request.nodeId },
          ...{ heartbeatIntervalSec: 30, statusIntervalSec: 30, features },
        });
      },
      heartbeat: (call: ServerUnaryCall<HeartbeatRequest, unknown>, answer: sendUnaryData<unknown>) => {
        this.heartbeats.push(call.request);
        answer(null, { ok: true, serverTime: new Date() });
      },
      getFleetStatus: (_call: unknown, answer: sendUnaryData<unknown>) =>
        answer(null, { nodes: [], summary: undefined }),
    });
    const { port = 0, credentials = ServerCredentials.createInsecure() } = this.#o;
    this.port = await new Promise((resolve, reject) => {
      this.#server.bindAsync(`127.0.0.1:${port}`, credentials, (error, bound) =>
        error ? reject(error) : resolve(bound),
      );
    });
  }
}
