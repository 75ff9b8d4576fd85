/** The gRPC server: its service and the standard ones for health and reflection, its socket, its end. */
import {
  type ConnectionInjector,
  experimental,
  type Metadata,
  type sendUnaryData,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  status as codes,
  type StatusObject,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';
import { type Address, type Clock, type Logger, Seldom, sleep, type Timer, type Tokens } from '@carrierarr/platform';
import {
  agentProto,
  AgentControlService,
  type AgentMessage,
  AgentMessage as AgentMessageCodec,
  type FleetStatusRequest,
  type FleetStatusResponse,
  type HeartbeatRequest,
  type HeartbeatResponse,
  type RegisterRequest,
  type RegisterResponse,
} from '@carrierarr/protocol/agent-control';
import { HealthImplementation } from 'grpc-health-check';
import { type Admission, admissionOf } from './access.js';
import { AgentListener } from './agent-listener.js';
import { type AgentCall, AgentStream, type Sized, type StreamLimits } from './agent-stream.js';
import { callGate } from './call-gate.js';
import type { CertificateFiles } from './certificates.js';
import type { AgentMetrics } from './metrics.js';
import type { Peers } from './peers.js';

const SERVICE_NAME = 'ec2agent.v1.AgentControl';
const { register, heartbeat, getFleetStatus } = AgentControlService;
const GUARDED_PATHS = new Set([register, heartbeat, getFleetStatus].map(({ path }) => path));
/** Calls of one connection at once: a stream, a heartbeat, and some room. */
const CALLS_PER_CONNECTION_MAX = 64;
/** Most time that streams are given to move when the monitor stops, ms: spread, so that they do not all come at once. */
const MOVE_SPREAD_MS = 2_000;
const SHUTDOWN_MS_MAX = 3_000;
/** Between two looks for streams whose token does not let anybody in any more, ms. */
export const ADMISSION_CHECK_MS = 30_000;
/** Between two words about connections that could not be accepted, ms. */
const NOT_ACCEPTED_TOLD_EVERY_MS = 60_000;

/** What the unary calls do. They may throw a {@link CallError}. */
export interface AgentCalls {
  register(request: RegisterRequest, peer: string): Promise<RegisterResponse>;
  heartbeat(request: HeartbeatRequest): Promise<HeartbeatResponse>;
  getFleetStatus(request: FleetStatusRequest): Promise<FleetStatusResponse>;
}

/** A call that is refused; the caller gets code and text. */
export class CallError extends Error {
  override name = 'CallError';
  constructor(
    readonly code: codes,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

export interface GrpcServerOptions {
  addr: Address;
  certificates: CertificateFiles | undefined;
  requiresClientCertificate: boolean;
  tokens: Tokens | undefined;
  peers: Peers;
  limits: StreamLimits & { messageBytesMax: number; keepaliveMs: number; keepaliveTimeoutMs: number };
  calls: AgentCalls;
  handle: (stream: AgentStream, message: AgentMessage) => Promise<void>;
  onOpened: (stream: AgentStream) => void;
  onClosed: (stream: AgentStream) => void;
  clock: Clock;
  logger: Logger;
  metrics: AgentMetrics;
}

export class GrpcServer {
  readonly #o: GrpcServerOptions;
  readonly #server: Server;
  readonly #health = new HealthImplementation({ '': 'NOT_SERVING', [SERVICE_NAME]: 'NOT_SERVING' });
  /** Those that are open, with what lets each in. */
  readonly #streams = new Map<AgentStream, Admission>();
  readonly #listener: AgentListener;
  /** Whatever keeps one from being accepted keeps many. */
  readonly #notAccepted: Seldom;
  #injector: ConnectionInjector | undefined;
  #checking: Timer | undefined;
  /** Told when no stream is open any more. */
  #onAllEnded: () => void = () => undefined;

  constructor(options: GrpcServerOptions) {
    this.#o = options;
    const { limits, clock } = options;
    this.#notAccepted = new Seldom(clock, NOT_ACCEPTED_TOLD_EVERY_MS);
    this.#server = new Server({
      'grpc.max_receive_message_length': limits.messageBytesMax,
      'grpc.max_concurrent_streams': CALLS_PER_CONNECTION_MAX,
      'grpc.keepalive_time_ms': limits.keepaliveMs,
      'grpc.keepalive_timeout_ms': limits.keepaliveTimeoutMs,
      // Pings of clients are answered however often they come, also without a stream; grpc-js counts none as abuse.
      'grpc.keepalive_permit_without_calls': 1,
      // Nobody can ask for what it counts of each connection and each call, which is a fortieth of all work.
      'grpc.enable_channelz': 0,
      interceptors: [
        callGate({
          guarded: GUARDED_PATHS,
          stream: AgentControlService.connect.path,
          refusalOf: (metadata, peer) => this.#refusalOf(metadata, peer),
        }),
      ],
    });
    this.#server.addService(sizedService(), this.#implementation());
    this.#health.addToServer(this.#server);
    const { root, file } = agentProto();
    new ReflectionService(loadSync(file, { includeDirs: [root], keepCase: true })).addToServer(this.#server);
    this.#listener = new AgentListener({
      addr: options.addr,
      admit: (peer) => options.peers.connection(peer),
      onConnection: (socket) => this.#injector?.injectConnection(socket),
      onRefused: () => options.metrics.refused.inc({ reason: 'connections' }),
      onError: (error) =>
        this.#notAccepted.say((unsaid) =>
          options.logger.warn({ err: error, unsaid }, 'a connection of an agent could not be accepted'),
        ),
    });
  }

  /** Where it listens; the port is the real one when 0 was asked for. Undefined while it does not. */
  get address(): Address | undefined {
    return this.#listener.address;
  }

  /** Rejects if the address cannot be had; it may be called again then. */
  async listen(): Promise<void> {
    // Not earlier: without certificates it would take nobody. And once, however often: each one listens for certificates.
    this.#injector ??= this.#server.createConnectionInjector(this.#credentials());
    await this.#listener.listen();
    this.#checking = this.#o.clock.setInterval(() => this.#endRevoked(), ADMISSION_CHECK_MS);
    this.#setServing('SERVING');
  }

  #credentials(): ServerCredentials {
    const { certificates, requiresClientCertificate } = this.#o;
    if (certificates === undefined) return ServerCredentials.createInsecure();
    // grpc-js 1.14 names these two the other way round than it uses them: the server's own come first. Null: agents need
    // no certificate.
    const authority = requiresClientCertificate ? certificates : null;
    return experimental.createCertificateProviderServerCredentials(certificates, authority, requiresClientCertificate);
  }

  /** Says NOT_SERVING, takes no new streams, has those that are open move to another monitor, and ends. */
  async stop(): Promise<void> {
    const { clock } = this.#o;
    this.#setServing('NOT_SERVING');
    this.#checking?.cancel();
    this.#listener.stop();
    // Says GOAWAY on every connection: what comes next, comes over new ones, and elsewhere.
    const shutDown = new Promise<void>((resolve) => this.#server.tryShutdown(() => resolve()));
    // By Node.js 24 that is through while streams are still open.
    const ended = new Promise<void>((resolve) => {
      this.#onAllEnded = resolve;
      if (this.#streams.size === 0) resolve();
    });
    const count = Math.max(1, this.#streams.size);
    const isLarge = this.#streams.size > 1;
    for (const [i, stream] of [...this.#streams.keys()].entries()) {
      const end = () => stream.close(codes.UNAVAILABLE, 'This monitor stops. Connect to another.');
      if (isLarge) clock.setTimeout(end, (i / count) * MOVE_SPREAD_MS);
      else end();
    }
    await Promise.race([
      Promise.all([shutDown, ended]),
      sleep(clock, (isLarge ? MOVE_SPREAD_MS : 0) + SHUTDOWN_MS_MAX),
    ]);
    this.#server.forceShutdown();
  }

  /** A stream may last for weeks; a token that was taken out of the file is to end it, as it ends those of clients. */
  #endRevoked(): void {
    let count = 0;
    for (const [stream, isStillIn] of [...this.#streams]) {
      if (isStillIn()) continue;
      stream.refuse(
        'token',
        codes.UNAUTHENTICATED,
        'The token of this stream is not one of those that are let in any more.',
      );
      count += 1;
    }
    if (count > 0)
      this.#o.logger.warn({ streams: count }, 'streams of agents were ended: their tokens are not let in any more');
  }

  #setServing(status: 'SERVING' | 'NOT_SERVING'): void {
    for (const name of ['', SERVICE_NAME]) this.#health.setStatus(name, status);
  }

  #implementation(): UntypedServiceImplementation {
    const { calls } = this.#o;
    return {
      connect: (call: AgentCall) => this.#connect(call),
      register: this.#unary((request: RegisterRequest, peer) => calls.register(request, peer)),
      heartbeat: this.#unary((request: HeartbeatRequest) => calls.heartbeat(request)),
      getFleetStatus: this.#unary((request: FleetStatusRequest) => calls.getFleetStatus(request)),
    };
  }

  #unary<Q, A>(answer: (request: Q, peer: string) => Promise<A>) {
    const { metrics, logger } = this.#o;
    const respond = async (request: Q, peer: string, path: string, done: sendUnaryData<A>) => {
      try {
        done(null, await answer(request, peer));
      } catch (error) {
        if (error instanceof CallError) return done({ code: error.code, details: error.message });
        metrics.refused.inc({ reason: 'unavailable' });
        logger.debug({ err: error, peer, path }, 'a call of an agent failed');
        done({ code: codes.UNAVAILABLE, details: 'This monitor cannot reach Redis now. Try again.' });
      }
    };
    return (call: ServerUnaryCall<Q, A>, done: sendUnaryData<A>) =>
      void respond(call.request, call.getPeer(), call.getPath(), done);
  }

  /** Of a call that is no stream. */
  #refusalOf(metadata: Metadata, peer: string): Pick<StatusObject, 'code' | 'details'> | undefined {
    const { tokens, peers, clock, metrics } = this.#o;
    const admission = admissionOf(tokens, metadata);
    if ('problem' in admission) {
      metrics.refused.inc({ reason: 'token' });
      return { code: codes.UNAUTHENTICATED, details: admission.problem };
    }
    if (peers.call(peer, clock.monotonicMs())) return undefined;
    metrics.refused.inc({ reason: 'calls' });
    const details = 'Too many calls from this address (--agent-calls-per-second). Wait, and try again.';
    return { code: codes.RESOURCE_EXHAUSTED, details };
  }

  #connect(call: AgentCall): void {
    const { tokens, peers, limits, clock, handle, onOpened, onClosed, metrics } = this.#o;
    const refuse = (reason: 'token' | 'streams', code: codes, details: string) => {
      metrics.refused.inc({ reason });
      call.emit('error', { code, details });
    };
    const admission = admissionOf(tokens, call.metadata);
    if ('problem' in admission) return refuse('token', codes.UNAUTHENTICATED, admission.problem);
    const release = peers.stream(call.getPeer());
    if (typeof release === 'string') return refuse('streams', codes.RESOURCE_EXHAUSTED, release);
    const stream = new AgentStream({
      ...{ call, limits, clock, handle },
      onRefused: (reason) => metrics.refused.inc({ reason }),
      onClosed: (closed) => {
        release();
        this.#streams.delete(closed);
        onClosed(closed);
        if (this.#streams.size === 0) this.#onAllEnded();
      },
    });
    this.#streams.set(stream, admission.isStillIn);
    onOpened(stream);
  }
}

/** The service, with the size of each message of a stream beside it. */
function sizedService() {
  return {
    ...AgentControlService,
    connect: {
      ...AgentControlService.connect,
      requestDeserialize: (bytes: Buffer): Sized<AgentMessage> => ({
        message: AgentMessageCodec.decode(bytes),
        bytes: bytes.length,
      }),
    },
  };
}
