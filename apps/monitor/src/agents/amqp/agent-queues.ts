/**
 * Reads what agents say over RabbitMQ, beside all other monitors, and writes it into the registry. A message is
 * acknowledged once it is there: whatever ends first, the broker delivers it again, and each may come twice.
 *
 * amqplib connects again by itself. What belongs to one connection is a session; whatever makes one of no use (a channel
 * that the broker closed, a queue that somebody deleted) ends its connection, and the next one sets up everything anew.
 */
import { setMaxListeners } from 'node:events';
import {
  backoffMs,
  type Clock,
  type Logger,
  type Readiness,
  redactUrl,
  Seldom,
  type Timer,
} from '@carrierarr/platform';
import { AGENT_EXCHANGES } from '@carrierarr/protocol';
import type { NodeRegistry } from '@carrierarr/store';
import { type Channel, type ChannelModel, connect, type ConsumeMessage, type RecoveringChannelModel } from 'amqplib';
import { connectUrl } from './config.js';
import { type Decoded, decodeHeartbeat, decodeRegistration } from './decode.js';
import { type AmqpMetrics, type MessageOutcome, OUTCOMES } from './metrics.js';
import { writeToRegistry } from './registry-write.js';
import { declareTopology, openChannel, PREFETCH } from './topology.js';

/** Between two tries to connect: first and longest bound, and shortest delay, ms. */
const RECONNECT = { baseMs: 500, capMs: 5_000 };
const RECONNECT_MS_MIN = 100;
/** For the answers of a broker while it is connected to, ms. */
const CONNECT_TIMEOUT_MS = 10_000;
/** How often it is said that this monitor listens, ms: well within what counts as a pause. */
export const LISTEN_EVERY_MS = 3_000;
/** Between two warnings of one sort, ms; metrics count them all. */
const WARN_EVERY_MS = 10_000;
/** For what is in hand at a stop, and for the broker's last answers, ms each. */
const STOP_MS = 3_000;

type QueueName = 'registration' | 'heartbeat';

export interface AgentQueuesOptions {
  url: string;
  vhost: string;
  registry: Pick<NodeRegistry, 'register' | 'deregister' | 'amqpBeat' | 'listen'>;
  /** This monitor. */
  monitor: string;
  /** Its wall clock is Redis'. */
  clock: Clock;
  logger: Pick<Logger, 'debug' | 'info' | 'warn'>;
  metrics: AmqpMetrics;
  /** Gets a check named `rabbitmq`, which holds whether or not there is one: the rest works without. */
  readiness: Pick<Readiness, 'set'>;
}

/** What belongs to one connection. */
interface Session {
  model: ChannelModel;
  consumers: { channel: Channel; tag: string }[];
  /** Aborts when the connection is gone: nothing can be acknowledged any more. */
  over: AbortController;
  /** Messages that are being written. */
  inHand: Set<Promise<void>>;
  /** Registrations are taken one after the other: an agent that restarts says that it goes, then that it comes. */
  registrations: Promise<void>;
}

export class AgentQueues {
  readonly #o: AgentQueuesOptions;
  readonly #malformed: Seldom;
  readonly #refused: Seldom;
  readonly #retried: Seldom;
  #connection: RecoveringChannelModel | undefined;
  /** The one that is set up, or being so. */
  #session: Session | undefined;
  #isConsuming = false;
  #isStopping = false;
  #listening: Timer | undefined;
  #lastProblem: string | undefined;

  constructor(options: AgentQueuesOptions) {
    this.#o = options;
    const { clock, metrics } = options;
    this.#malformed = new Seldom(clock, WARN_EVERY_MS);
    this.#refused = new Seldom(clock, WARN_EVERY_MS);
    this.#retried = new Seldom(clock, WARN_EVERY_MS);
    metrics.consuming.set(0);
    for (const queue of ['registration', 'heartbeat'])
      for (const outcome of OUTCOMES) metrics.messages.inc({ queue, outcome }, 0);
  }

  /** True while messages come if there are any. */
  get isConsuming(): boolean {
    return this.#isConsuming;
  }

  /** Begins to connect, and goes on trying for as long as it takes. */
  async start(): Promise<void> {
    const { url, vhost, clock, readiness, metrics } = this.#o;
    readiness.set('rabbitmq', true, 'RabbitMQ is not connected yet');
    const connection = await connect(connectUrl(url, vhost), {
      timeout: CONNECT_TIMEOUT_MS,
      noDelay: true,
      keepAlive: true,
      clientProperties: { connection_name: `carrierarr monitor ${this.#o.monitor}` },
      recovery: {
        waitForConnect: false,
        setup: (model: ChannelModel) => this.#setUp(model),
        calculateDelay: (attempt) => Math.max(RECONNECT_MS_MIN, backoffMs({ ...RECONNECT, attempt: attempt - 1 })),
      },
    });
    this.#connection = connection;
    connection.on('connect', () => this.#connected());
    connection.on('disconnect', (error) => {
      if (!this.#isStopping) metrics.disconnects.inc();
      this.#disconnected(error);
    });
    connection.on('connect-failed', (error) => {
      if (!this.#isStopping) metrics.connectErrors.inc();
      this.#disconnected(error);
    });
    // It is told again with what comes of it.
    connection.on('error', () => undefined);
    this.#listening = clock.setInterval(() => this.#sayListening(), LISTEN_EVERY_MS);
  }

  /** Takes no more, finishes what is in hand, and closes. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#listening?.cancel();
    const session = this.#session;
    if (session !== undefined) {
      const cancelled = Promise.allSettled(session.consumers.map(({ channel, tag }) => channel.cancel(tag)));
      await this.#atMost(cancelled);
      await this.#atMost(Promise.allSettled(session.inHand));
    }
    this.#setConsuming(false);
    // What is not acknowledged by now is delivered again, here or elsewhere.
    session?.over.abort();
    await this.#atMost(this.#connection?.close());
  }

  // --- sessions --------------------------------------------------------------------------------------------------

  async #setUp(model: ChannelModel): Promise<void> {
    const session: Session = {
      ...{ model, consumers: [], over: new AbortController(), inHand: new Set<Promise<void>>() },
      registrations: Promise.resolve(),
    };
    this.#session?.over.abort();
    this.#session = session;
    // Each message in hand may wait for it; the prefetch bounds them.
    setMaxListeners(0, session.over.signal);
    // Nobody else listens before it is set up, and an error that nobody listens to ends the process.
    model.on('error', () => undefined);
    model.on('close', () => session.over.abort());
    await declareTopology(model);
    for (const name of ['registration', 'heartbeat'] as const) {
      const channel = await openChannel(model, PREFETCH[name]);
      // Later, since channels are told before their connection when that closes.
      channel.on('close', () => setImmediate(() => this.#discard(session)));
      const { consumerTag } = await channel.consume(AGENT_EXCHANGES[name].queue, (message) => {
        if (message === null) this.#discard(session);
        else this.#take(session, name, channel, message);
      });
      session.consumers.push({ channel, tag: consumerTag });
    }
    if (session.over.signal.aborted) throw new Error('The connection was closed while reading began.');
  }

  /** Ends a connection with which something is wrong. */
  #discard({ model, over }: Session): void {
    if (over.signal.aborted) return;
    over.abort();
    this.#setConsuming(false);
    if (this.#isStopping) return;
    this.#o.logger.warn('RabbitMQ ended the reading of a queue of agents; connecting anew');
    model.close().catch(() => undefined);
  }

  #connected(): void {
    const { logger, readiness } = this.#o;
    if (this.#isStopping || this.#session === undefined || this.#session.over.signal.aborted) return;
    this.#lastProblem = undefined;
    this.#setConsuming(true);
    readiness.set('rabbitmq', true, 'messages of agents are read');
    logger.info({ server: redactUrl(this.#o.url) }, 'messages of agents are read from RabbitMQ');
    this.#sayListening();
  }

  #disconnected(error: Error): void {
    const { logger, readiness, url } = this.#o;
    this.#session?.over.abort();
    this.#session = undefined;
    this.#setConsuming(false);
    if (this.#isStopping) return;
    // The library's words may hold the address with its password.
    const problem = redactUrl(error.message || ((error as NodeJS.ErrnoException).code ?? error.name));
    readiness.set('rabbitmq', true, `RabbitMQ is away, trying again; agents are heard by gRPC only: ${problem}`);
    if (problem === this.#lastProblem) return;
    this.#lastProblem = problem;
    logger.warn({ server: redactUrl(url), problem }, 'RabbitMQ cannot be read; trying again');
  }

  #setConsuming(isConsuming: boolean): void {
    this.#isConsuming = isConsuming;
    this.#o.metrics.consuming.set(isConsuming ? 1 : 0);
  }

  #sayListening(): void {
    const { registry, monitor, logger } = this.#o;
    // Also while the broker is away: this monitor would listen.
    registry
      .listen(monitor, this.#isConsuming ? ['amqp'] : [])
      .catch((error: unknown) => logger.debug({ err: error }, 'that this monitor listens could not be said'));
  }

  // --- messages --------------------------------------------------------------------------------------------------

  /** Must not throw: the library would take that for a broken connection. */
  #take(session: Session, queue: QueueName, channel: Channel, message: ConsumeMessage): void {
    const { clock, metrics } = this.#o;
    metrics.inHand.inc();
    const nowMs = clock.now();
    const decoded = (queue === 'registration' ? decodeRegistration : decodeHeartbeat)(message.content, nowMs);
    const act = () => this.#write(session, queue, decoded);
    const written = queue === 'heartbeat' ? act() : session.registrations.then(act);
    const settled: Promise<void> = written.then((outcome) => {
      session.inHand.delete(settled);
      metrics.inHand.dec();
      metrics.messages.inc({ queue, outcome });
      settle(session, channel, message, outcome);
    });
    session.inHand.add(settled);
    if (queue === 'registration') session.registrations = settled;
  }

  async #write({ over }: Session, queue: QueueName, decoded: Decoded): Promise<MessageOutcome> {
    const { registry, clock, metrics, logger } = this.#o;
    if (decoded.kind === 'malformed') {
      const { problem } = decoded;
      this.#malformed.say((unsaid) =>
        logger.warn({ queue, problem, unsaid }, 'a message of an agent cannot be read; it is dropped'),
      );
      return 'malformed';
    }
    const onRetry = (error: Error) => {
      metrics.retries.inc();
      this.#retried.say((unsaid) =>
        logger.warn({ err: error, unsaid }, 'what an agent said could not be written; trying again'),
      );
    };
    const answer = await writeToRegistry(decoded, { registry, clock, onRetry }, over.signal);
    if (answer.kind === 'refused') {
      this.#refused.say((unsaid) =>
        logger.warn({ node: decoded.node, unsaid }, 'there are as many nodes as are allowed; a new one is refused'),
      );
    } else if (answer.kind === 'failed') {
      logger.warn({ err: answer.error, node: decoded.node }, 'what an agent said cannot be written; it is dropped');
    }
    return answer.kind;
  }

  async #atMost(promise: Promise<unknown> | undefined): Promise<void> {
    if (promise === undefined) return;
    await new Promise<void>((resolve) => {
      const timer = this.#o.clock.setTimeout(resolve, STOP_MS);
      const finish = () => {
        timer.cancel();
        resolve();
      };
      promise.then(finish, finish);
    });
  }
}

/** Tells the broker what became of a message, if it is still there to hear it. */
function settle({ over }: Session, channel: Channel, message: ConsumeMessage, outcome: MessageOutcome): void {
  if (over.signal.aborted || outcome === 'given-back') return;
  try {
    if (outcome === 'taken' || outcome === 'outdated') channel.ack(message);
    else channel.reject(message, false);
  } catch {
    // The channel has just closed: it is delivered again, and what it says is the same then.
  }
}
