/**
 * Registers at RabbitMQ and sends heartbeats there, as long as it takes. Exchanges belong to the control plane: the agent
 * looks whether they are there and waits for them, it never declares any.
 *
 * A registration that no queue takes comes back from the broker, and is tried again while heartbeats go on. One that was
 * taken may still be lost (a queue that is purged or made anew), and nothing else says what kind of node this is: so it
 * is said again every few minutes.
 */
import { AGENT_EXCHANGES } from '@carrierarr/protocol';
import { backoffMs, type Clock, type Logger, type Readiness, type Timer } from '@carrierarr/platform';
import { type ChannelModel, type ConfirmChannel, connect, type Message } from 'amqplib';
import type { AgentMetrics } from '../metrics.js';

type Body = Record<string, unknown>;

export interface PublisherOptions {
  /** With user and password. */
  url: string;
  /** Used if the URL names none. */
  vhost: string;
  /** Bodies, made when they are sent. */
  registration: (action: 'register' | 'deregister') => Promise<Body>;
  heartbeat: () => Promise<Body>;
  readiness: Readiness;
  metrics: AgentMetrics;
  clock: Clock;
  logger: Logger;
  random?: () => number;
}

export const HEARTBEAT_MS = 30_000;
const RETRY_BASE_MS = 1_000;
const RETRY_CAP_MS = 15_000;
/** While it stops. */
const LAST_RETRY_CAP_MS = 500;
const CONNECT_WAIT_MS = 10_000;
const CONFIRM_WAIT_MS = 10_000;
const CLOSE_WAIT_MS = 2_000;
/** To say that the node goes: also for the connection, if there is none. */
const GOODBYE_WAIT_MS = 3_000;
/** Between two registrations over one connection, half of it at random: agents that began together do not stay together. */
export const REGISTER_EVERY_MS = 5 * 60_000;
/** Of a registration, or the end of one, that no queue took. */
const UNROUTABLE_RETRY = { baseMs: 2_000, capMs: 60_000 };
const UNROUTABLE_RETRY_MS_MIN = 500;
/** Of AMQP itself, s: a broker that is gone without a word is noticed after two of them. */
const PROTOCOL_HEARTBEAT_S = 15;
export const RABBITMQ_CHECK = 'rabbitmq';
const REGISTRATION = AGENT_EXCHANGES.registration.name;
const HEARTBEAT = AGENT_EXCHANGES.heartbeat.name;

export class AmqpPublisher {
  readonly #o: PublisherOptions;
  readonly #url: string;
  #connection: ChannelModel | undefined;
  #channel: ConfirmChannel | undefined;
  #isStopping = false;
  /** It was said that the node goes, or there is no more time for that. */
  #isOver = false;
  #wake: () => void = () => undefined;
  /** When to register next, monotonic. */
  #registerMs = 0;
  #isRegistered = false;
  /** Makes the deregistration of a former name, as long as that is not known to have been taken. */
  #former: (() => Promise<Body>) | undefined;
  #unrouted = 0;
  /** By number: published so that it comes back if no queue takes it, and came back. */
  #numbered = 0;
  readonly #returned = new Set<string>();
  #loop: Promise<void> = Promise.resolve();

  constructor(options: PublisherOptions) {
    this.#o = options;
    this.#url = amqpUrl(options.url, options.vhost);
  }

  start(): void {
    this.#o.readiness.set(RABBITMQ_CHECK, false, 'not connected yet');
    this.#loop = this.#run();
  }

  /** For good: says that the node goes. Without a connection it makes one for that, if that is possible soon. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    // Not left to the session, which may wait for a look at the machine.
    if (this.#channel !== undefined) {
      const said = this.#within(CLOSE_WAIT_MS, this.#goodbye());
      this.#isOver = await said.then(
        () => true,
        () => false,
      );
    }
    this.#wake();
    await this.#within(this.#isOver ? CLOSE_WAIT_MS : GOODBYE_WAIT_MS, this.#loop).catch(() => undefined);
    if (this.#isOver) return;
    this.#o.logger.warn('RabbitMQ has not taken the word that this node goes: it will count as stale, then as dead');
    this.#isOver = true;
    this.#wake();
  }

  /** Resolves once the broker has the word that the node goes. */
  async #goodbye(): Promise<void> {
    const said = this.#o.registration('deregister').then((body) => this.#publish(REGISTRATION, 'deregister', body));
    await Promise.all([said, this.#leave()]);
  }

  /**
   * The node goes by another name from now on. The former one, which would be held for dead, is deregistered before it
   * registers by that, and again until a queue has taken it. Happens once in the life of an agent.
   */
  rename(deregistration: () => Promise<Body>): void {
    this.#former = deregistration;
    this.registerAgain();
  }

  /** What is said of the node when it registers has changed. Without a connection the next one says it. */
  registerAgain(): void {
    this.#registerMs = Number.NEGATIVE_INFINITY;
    this.#wake();
  }

  async #run(): Promise<void> {
    const { logger, readiness, metrics } = this.#o;
    for (let attempt = 0; !this.#isOver;) {
      let problem: string;
      try {
        problem = await this.#session(() => (attempt = 0));
      } catch (error) {
        problem = describe(error);
      }
      metrics.rabbitmqConnected.set(0);
      this.#channel = undefined;
      const connection = this.#connection;
      this.#connection = undefined;
      await connection?.close().catch(() => undefined);
      if (this.#isOver) return;
      const capMs = this.#isStopping ? LAST_RETRY_CAP_MS : RETRY_CAP_MS;
      const delayMs = backoffMs({ attempt: attempt++, baseMs: RETRY_BASE_MS, capMs });
      readiness.set(RABBITMQ_CHECK, false, problem);
      logger.warn({ problem, delayMs }, 'no heartbeats over RabbitMQ');
      await this.#pause(delayMs, new Promise(() => undefined));
    }
  }

  /** Resolves with the reason when it is over. */
  async #session(onGood: () => void): Promise<string> {
    const { heartbeat, clock } = this.#o;
    const connection = await connect(this.#url, { timeout: CONNECT_WAIT_MS });
    this.#connection = connection;
    const broken = new Promise<string>((resolve) => {
      connection.on('error', (error) => resolve(describe(error)));
      connection.on('close', (error?: Error) =>
        resolve(error === undefined ? 'the connection was closed' : describe(error)),
      );
    });
    const channel = await connection.createConfirmChannel();
    const channelBroken = new Promise<string>((resolve) => {
      channel.on('error', (error) => resolve(describe(error)));
      channel.on('close', () => resolve('the channel was closed'));
    });
    // A missing one breaks the channel, and so this attempt.
    for (const name of [REGISTRATION, HEARTBEAT]) await channel.checkExchange(name);
    channel.on('return', (message: Message) => this.#returned.add(String(message.properties.messageId)));
    this.#channel = channel;
    this.#returned.clear();
    if (this.#isStopping) {
      await this.#goodbye();
      this.#isOver = true;
      return 'stopped';
    }
    this.#isRegistered = false;
    this.#unrouted = 0;
    this.#registerMs = Number.NEGATIVE_INFINITY;
    let beatMs = Number.NEGATIVE_INFINITY;
    const over = Promise.race([broken, channelBroken]);
    for (;;) {
      if (clock.monotonicMs() >= this.#registerMs && (await this.#register())) onGood();
      // Also of what nobody has registered: it is a sign of life.
      if (clock.monotonicMs() >= beatMs) {
        const body = await heartbeat();
        // Or it would come after the word that this node goes.
        if (this.#isStopping) return 'stopped';
        await this.#publish(HEARTBEAT, '', body);
        beatMs = clock.monotonicMs() + HEARTBEAT_MS;
      }
      if (this.#isStopping) return 'stopped';
      const reason = await this.#pause(Math.max(0, Math.min(beatMs, this.#registerMs) - clock.monotonicMs()), over);
      if (reason !== undefined || this.#isStopping) return reason ?? 'stopped';
    }
  }

  /** False: no queue took it, so it is tried again soon. Rejects when the connection is of no use. */
  async #register(): Promise<boolean> {
    const { registration, readiness, metrics, clock, logger, random = Math.random } = this.#o;
    // Before the body is made, of which some may change meanwhile.
    this.#registerMs = clock.monotonicMs() + REGISTER_EVERY_MS * (1 - random() / 2);
    const isLeft = await this.#leave();
    const body = await registration('register');
    // Or it would come after the word that this node goes.
    if (this.#isStopping) return false;
    const isTaken = await this.#publish(REGISTRATION, 'register', body);
    const isNews = this.#unrouted === 0;
    const delayMs = UNROUTABLE_RETRY_MS_MIN + backoffMs({ ...UNROUTABLE_RETRY, attempt: this.#unrouted, random });
    if (isLeft && isTaken) this.#unrouted = 0;
    else {
      this.#unrouted += 1;
      this.#registerMs = clock.monotonicMs() + delayMs;
    }
    if (isTaken) {
      if (!this.#isRegistered) logger.info('registered at RabbitMQ');
      this.#isRegistered = true;
      metrics.rabbitmqConnected.set(1);
      readiness.set(RABBITMQ_CHECK, true, 'registered');
      return true;
    }
    this.#isRegistered = false;
    metrics.rabbitmqConnected.set(0);
    metrics.unroutableRegistrations.inc();
    const problem = `no queue takes registrations from the exchange ${REGISTRATION}`;
    readiness.set(RABBITMQ_CHECK, false, problem);
    // Once, not for as long as it lasts.
    if (isNews) logger.warn({ delayMs }, `not registered at RabbitMQ: ${problem}; trying again`);
    return false;
  }

  /** Deregisters a former name, if there is one. False: no queue took that. */
  async #leave(): Promise<boolean> {
    const former = this.#former;
    if (former === undefined) return true;
    if (!(await this.#publish(REGISTRATION, 'deregister', await former()))) return false;
    this.#former = undefined;
    return true;
  }

  /** Resolves once the broker has it; false if it is a registration that no queue took. */
  async #publish(exchange: string, key: string, body: Body): Promise<boolean> {
    const channel = this.#channel;
    if (channel === undefined) throw new Error('there is no channel');
    const messageId = String(++this.#numbered);
    const confirmed = new Promise<void>((resolve, reject) => {
      const mandatory = exchange === REGISTRATION;
      const options = { persistent: true, contentType: 'application/json', mandatory, messageId };
      channel.publish(exchange, key, Buffer.from(JSON.stringify(body)), options, (error: unknown) => {
        if (error === null || error === undefined) resolve();
        else reject(error instanceof Error ? error : new Error('the broker refused a message'));
      });
    });
    await this.#within(CONFIRM_WAIT_MS, confirmed);
    // What comes back does so before it is confirmed.
    return !this.#returned.delete(messageId);
  }

  /** Waits; resolves with the reason if it was over before. */
  async #pause(ms: number, over: Promise<string>): Promise<string | undefined> {
    let timer: Timer | undefined;
    const waited = new Promise<undefined>((resolve) => {
      const wake = () => resolve(undefined);
      this.#wake = wake;
      timer = this.#o.clock.setTimeout(wake, ms);
    });
    try {
      return await Promise.race([over, waited]);
    } finally {
      timer?.cancel();
    }
  }

  async #within<T>(ms: number, work: Promise<T>): Promise<T> {
    let timer: Timer | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = this.#o.clock.setTimeout(() => reject(new Error(`no answer within ${ms / 1000} s`)), ms);
    });
    try {
      return await Promise.race([work, late]);
    } finally {
      timer?.cancel();
    }
  }
}

/** The URL with a virtual host, and with heartbeats of the protocol unless it says something else of them. */
export function amqpUrl(text: string, vhost: string): string {
  const url = new URL(text);
  if (url.pathname === '' || url.pathname === '/') url.pathname = `/${encodeURIComponent(vhost)}`;
  if (!url.searchParams.has('heartbeat')) url.searchParams.set('heartbeat', String(PROTOCOL_HEARTBEAT_S));
  return url.href;
}

function describe(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return message || (typeof code === 'string' ? code : 'unknown');
}
