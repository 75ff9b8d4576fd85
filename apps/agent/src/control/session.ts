/**
 * One life of the connection to a control plane: registration, then one stream with statuses and commands, and unary
 * heartbeats beside it. It ends once and is never used again; {@link ControlPlane} begins the next.
 *
 * To a control plane that does not name `commands.v1` in its answer only what agents have always said is said: a status
 * first, statuses, results, log entries.
 */
import { type Address, type Clock, type Logger, printAddress, version } from '@carrierarr/platform';
import {
  AgentControlClient,
  type AgentMessage,
  type ControlMessage,
  type NodeStatus,
  type RegisterRequest,
  type RegisterResponse,
  OutputVerdict,
} from '@carrierarr/protocol/agent-control';
import { streamsCommands } from '@carrierarr/protocol';
import type { ClientDuplexStream, Metadata } from '@grpc/grpc-js';
import type { AgentConfig } from '../config.js';
import { callMetadata, channelCredentials } from './credentials.js';

/** What a control plane set, ms. 0: nothing. */
export interface Intervals {
  heartbeatMs: number;
  statusMs: number;
}

export interface SessionOptions {
  address: Address;
  config: AgentConfig;
  registration: () => Promise<RegisterRequest>;
  status: () => Promise<NodeStatus>;
  running: () => string[];
  /** The agent stops: this session is for its last words alone. */
  isLeaving: () => boolean;
  /** The stream is open; called before the first message arrives. */
  onOpen: (session: Session) => void;
  onMessage: (message: ControlMessage) => void;
  onIntervals: (intervals: Intervals) => void;
  clock: Clock;
  logger: Logger;
}

const REGISTER_WAIT_MS = 10_000;
const HEARTBEAT_WAIT_MS = 10_000;
/** Messages that the connection has not taken yet; statuses above it are left out, as the next one says more. */
const KEEPALIVE_MS = 20_000;
const KEEPALIVE_WAIT_MS = 8_000;
const MESSAGE_BYTES_MAX = 4 * 1024 * 1024;
/** What this agent can do beyond what agents have always done. */
const FEATURES = ['commands.v1'];

type Stream = ClientDuplexStream<AgentMessage, ControlMessage>;

export class Session {
  /** How it ended, in words. */
  readonly ended: Promise<string>;
  readonly #o: SessionOptions;
  #end!: (reason: string) => void;
  #client: AgentControlClient | undefined;
  #stream: Stream | undefined;
  #features: readonly string[] = [];
  #isOver = false;
  /** All is said: what comes now is not answered. */
  #isClosing = false;
  #hasLeft = false;
  /** When the control plane was last known to have been there, monotonic. */
  #heardMs = Number.NEGATIVE_INFINITY;
  #isBeating = false;

  constructor(options: SessionOptions) {
    this.#o = options;
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  /** The stream is open. */
  get isOpen(): boolean {
    return this.#stream !== undefined && !this.#isOver;
  }

  /** It takes numbered output, and may send commands again. */
  get streamsCommands(): boolean {
    return streamsCommands(this.#features);
  }

  get heardMs(): number {
    return this.#heardMs;
  }

  /** The control plane has taken the word that the agent goes, or is one that knows no such word. */
  get hasLeft(): boolean {
    return this.#hasLeft;
  }

  /** Registers and opens the stream. Never rejects: what fails ends it. */
  async start(): Promise<void> {
    const { address, config, status, running, clock, isLeaving, onIntervals, onOpen, logger } = this.#o;
    try {
      const client = new AgentControlClient(printAddress(address), channelCredentials(config), {
        'grpc.keepalive_time_ms': KEEPALIVE_MS,
        'grpc.keepalive_timeout_ms': KEEPALIVE_WAIT_MS,
        'grpc.keepalive_permit_without_calls': 1,
        'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
        // Ours alone: with a shared connection a new attempt would wait for the pause that the old one is in.
        'grpc.use_local_subchannel_pool': 1,
        'grpc.enable_retries': 0,
        ...(config.tlsServername !== null && { 'grpc.ssl_target_name_override': config.tlsServername }),
      });
      this.#client = client;
      const request = await this.#registration();
      const sentMs = clock.monotonicMs();
      const answer = await this.#register(client, request);
      if (this.#isOver) return;
      if (!answer.accepted) return this.end(`not accepted: ${answer.message || 'no reason given'}`);
      this.#heardMs = sentMs;
      this.#features = answer.features;
      onIntervals({ heartbeatMs: answer.heartbeatIntervalSec * 1000, statusMs: answer.statusIntervalSec * 1000 });
      if (isLeaving() && !this.streamsCommands) {
        this.#hasLeft = true;
        return this.end('it knows no goodbye');
      }
      // Hello alone is enough for goodbye, and a look at the machine may take long.
      const first = isLeaving() ? undefined : await status();
      if (this.#isOver) return;
      this.#open(client.connect(this.#metadata()));
      if (this.streamsCommands) {
        const { nodeId, instanceId } = request;
        const about = { nodeId, instanceId, features: FEATURES, agentVersion: version() };
        this.send({ $case: 'hello', value: { ...about, running: running(), registration: request } });
      }
      if (first !== undefined) this.send({ $case: 'status', value: first });
      logger.info(
        { address: printAddress(address), assigned: answer.assignedId, features: answer.features },
        'connected',
      );
      onOpen(this);
    } catch (error) {
      this.end((error as Error).message);
    }
  }

  /** Over the same connection, with what is to be said now. Never rejects: what fails ends it, and the next one registers. */
  async registerAgain(): Promise<void> {
    const client = this.#client;
    // While it begins, what it says is being made, of which some may be old: the next one says all anew.
    if (client === undefined || !this.isOpen) return this.end('it must register anew');
    try {
      const { accepted, message } = await this.#register(client, await this.#registration());
      if (!accepted) this.end(`not accepted: ${message || 'no reason given'}`);
    } catch (error) {
      this.end((error as Error).message);
    }
  }

  /** False if it could not be sent. */
  send(payload: NonNullable<AgentMessage['payload']>): boolean {
    if (!this.isOpen || this.#isClosing) return false;
    this.#stream?.write({ payload });
    return true;
  }

  /** False while the connection does not take what was written before. */
  get isWritable(): boolean {
    return this.isOpen && !(this.#stream?.writableNeedDrain ?? true);
  }

  /** One at a time. Never rejects. */
  async beat(nodeId: string): Promise<void> {
    const { clock, logger } = this.#o;
    const client = this.#client;
    if (client === undefined || !this.isOpen || this.#isBeating) return;
    this.#isBeating = true;
    const sentMs = clock.monotonicMs();
    const options = { deadline: Date.now() + HEARTBEAT_WAIT_MS };
    const problem = await new Promise<string | undefined>((resolve) => {
      client.heartbeat({ nodeId, timestamp: new Date(clock.now()) }, this.#metadata(), options, (error, answer) => {
        if (error !== null) resolve(error.message);
        else resolve(answer.ok ? undefined : 'not ok');
      });
    });
    this.#isBeating = false;
    // From when it was sent: the control plane was there after that, and nobody knows until when.
    if (problem === undefined) this.#heardMs = Math.max(this.#heardMs, sentMs);
    else logger.debug({ problem }, 'heartbeat failed');
  }

  /** Says that the agent stops for good, if a stream is open. Ends when the control plane has that and all before it. */
  close(): void {
    if (!this.isOpen || this.#isClosing) return;
    if (this.streamsCommands) this.send({ $case: 'goodbye', value: {} });
    this.#isClosing = true;
    this.#stream?.end();
  }

  end(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#stream?.cancel();
    this.#client?.close();
    this.#end(reason);
  }

  async #registration(): Promise<RegisterRequest> {
    return { ...(await this.#o.registration()), features: FEATURES, agentVersion: version() };
  }

  #metadata(): Metadata {
    return callMetadata(this.#o.config.token);
  }

  #register(client: AgentControlClient, request: RegisterRequest): Promise<RegisterResponse> {
    return new Promise((resolve, reject) => {
      const options = { deadline: Date.now() + REGISTER_WAIT_MS };
      client.register(request, this.#metadata(), options, (error, answer) => {
        if (error === null) resolve(answer);
        else reject(error);
      });
    });
  }

  #open(stream: Stream): void {
    this.#stream = stream;
    stream.on('data', (message: ControlMessage) => {
      if (this.#isOver) return;
      if (!isBlind(message)) this.#heardMs = this.#o.clock.monotonicMs();
      this.#o.onMessage(message);
    });
    stream.on('error', (error) => this.end(error.message));
    stream.on('end', () => {
      // Once it has handled what came before; what breaks is an error.
      if (this.#isClosing && !this.#isOver) this.#hasLeft = true;
      this.end('the control plane ended the stream');
    });
  }
}

/**
 * A monitor that cannot reach Redis answers that it is unavailable. Nobody then notes that this agent is within reach, and whoever
 * waits for its command counts that time: so must the agent.
 */
function isBlind({ payload }: ControlMessage): boolean {
  return payload?.$case === 'outputAck' && payload.value.verdict === OutputVerdict.OUTPUT_VERDICT_UNAVAILABLE;
}
