/**
 * Registers at RabbitMQ and sends heartbeats there, as long as it takes. Exchanges belong to the control plane: the agent
 * looks whether they are there and waits for them, it never declares any.
 */
import { AGENT_EXCHANGES } from '@carrierarr/protocol';
import { backoffMs, type Clock, type Logger, type Readiness, type Timer } from '@carrierarr/platform';
import { type ChannelModel, type ConfirmChannel, connect } from 'amqplib';
import type { AgentMetrics } from '../metrics.js';

export interface PublisherOptions {
  /** With user and password. */
  url: string;
  /** Used if the URL names none. */
  vhost: string;
  /** Bodies, made when they are sent. */
  registration: (action: 'register' | 'deregister') => Promise<Record<string, unknown>>;
  heartbeat: () => Promise<Record<string, unknown>>;
  readiness: Readiness;
  metrics: AgentMetrics;
  clock: Clock;
  logger: Logger;
}

export const HEARTBEAT_MS = 30_000;
const RETRY_BASE_MS = 1_000;
const RETRY_CAP_MS = 15_000;
const CONNECT_WAIT_MS = 10_000;
const CONFIRM_WAIT_MS = 10_000;
const CLOSE_WAIT_MS = 2_000;
/** Of AMQP itself, s: a broker that is gone without a word is noticed after two of them. */
const PROTOCOL_HEARTBEAT_S = 15;
export const RABBITMQ_CHECK = 'rabbitmq';

export class AmqpPublisher {
  readonly #o: PublisherOptions;
  readonly #url: string;
  #connection: ChannelModel | undefined;
  #channel: ConfirmChannel | undefined;
  #isStopping = false;
  #wake: () => void = () => undefined;
  #loop: Promise<void> = Promise.resolve();

  constructor(options: PublisherOptions) {
    this.#o = options;
    this.#url = amqpUrl(options.url, options.vhost);
  }

  start(): void {
    this.#o.readiness.set(RABBITMQ_CHECK, false, 'not connected yet');
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    if (this.#channel !== undefined) {
      const { registration } = this.#o;
      // The machine may be about to go: said so it is not waited for.
      await this.#within(
        CLOSE_WAIT_MS,
        registration('deregister').then((body) => this.#register('deregister', body)),
      ).catch(() => undefined);
    }
    this.#wake();
    await this.#within(CLOSE_WAIT_MS, this.#loop).catch(() => undefined);
  }

  async #run(): Promise<void> {
    const { logger, readiness, metrics } = this.#o;
    for (let attempt = 0; !this.#isStopping;) {
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
      if (this.#isStopping) return;
      const delayMs = backoffMs({ attempt: attempt++, baseMs: RETRY_BASE_MS, capMs: RETRY_CAP_MS });
      readiness.set(RABBITMQ_CHECK, false, problem);
      logger.warn({ problem, delayMs }, 'no heartbeats over RabbitMQ');
      await this.#pause(delayMs, new Promise(() => undefined));
    }
  }

  /** Resolves with the reason when it is over. */
  async #session(onGood: () => void): Promise<string> {
    const { registration, heartbeat, readiness, metrics, logger } = this.#o;
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
    for (const { name } of [AGENT_EXCHANGES.registration, AGENT_EXCHANGES.heartbeat]) await channel.checkExchange(name);
    this.#channel = channel;
    await this.#register('register', await registration('register'));
    onGood();
    metrics.rabbitmqConnected.set(1);
    readiness.set(RABBITMQ_CHECK, true, 'registered');
    logger.info('registered at RabbitMQ');
    const over = Promise.race([broken, channelBroken]);
    for (;;) {
      await this.#publish(AGENT_EXCHANGES.heartbeat.name, '', await heartbeat());
      const reason = await this.#pause(HEARTBEAT_MS, over);
      if (reason !== undefined || this.#isStopping) return reason ?? 'stopped';
    }
  }

  #register(action: 'register' | 'deregister', body: Record<string, unknown>): Promise<void> {
    return this.#publish(AGENT_EXCHANGES.registration.name, action, body);
  }

  /** Resolves once the broker has it. */
  async #publish(exchange: string, key: string, body: Record<string, unknown>): Promise<void> {
    const channel = this.#channel;
    if (channel === undefined) throw new Error('there is no channel');
    const confirmed = new Promise<void>((resolve, reject) => {
      const options = { persistent: true, contentType: 'application/json' };
      channel.publish(exchange, key, Buffer.from(JSON.stringify(body)), options, (error: unknown) => {
        if (error === null || error === undefined) resolve();
        else reject(error instanceof Error ? error : new Error('the broker refused a message'));
      });
    });
    await this.#within(CONFIRM_WAIT_MS, confirmed);
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
