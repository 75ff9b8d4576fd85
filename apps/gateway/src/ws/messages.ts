/**
 * What a connection's messages do. They are handled one after the other, as a client that subscribes and then sends a
 * command expects to see that command's output.
 */
import { type Clock, type Logger, type Timer, TokenBucket } from '@carrierarr/platform';
import type { ClientMessage, CommandMessage } from '@carrierarr/protocol';
import { ClientError, clientMessageSchema } from '@carrierarr/protocol';

import type { Guard } from '../access/guard.js';
import type { Commands } from '../commands.js';
import type { Connection } from './connection.js';
import { describeProblem, shown } from '../problem.js';
import type { Subscriptions } from './subscriptions.js';

/** Messages of one connection that may wait while one is handled. */
const WAITING_MAX = 256;
/** Refused messages in a row after which the connection is closed. */
const REFUSED_MAX = 200;
/** Longest that a message waits for output to flow, ms. */
const WAIT_MS_MAX = 1_000;

/** Messages that may have to wait for something. */
type Handled = Exclude<ClientMessage, { type: 'ping' }>;

export interface MessagesOptions {
  commands: Commands;
  subscriptions: Subscriptions;
  guard: Guard;
  clock: Clock;
  logger: Logger;
  messageBytesMax: number;
  messagesPerSecond: number;
  commandsPerSecond: number;
  commandsBurst: number;
  /** Resolves when output for watchers of everything flows, or cannot flow now. */
  outputReady(): Promise<void> | null;
  onRefused: (code: string) => void;
  /** The connection has authenticated by a message. */
  onAuthenticated(connection: Connection): void;
}

export class Messages {
  readonly #o: MessagesOptions;

  constructor(options: MessagesOptions) {
    this.#o = options;
  }

  /** Takes a frame. `data` is only valid during the call. */
  receive(connection: Connection, data: ArrayBuffer, isBinary: boolean): void {
    const { messageBytesMax, clock, onRefused, messagesPerSecond } = this.#o;
    if (data.byteLength > messageBytesMax) {
      onRefused('message_too_large');
      connection.refuse(
        'message_too_large',
        `The message has ${data.byteLength} bytes; at most ${messageBytesMax} are accepted.`,
      );
      return;
    }
    const now = clock.monotonicMs();
    connection.messageRate ??= new TokenBucket({ perSecond: messagesPerSecond, burst: messagesPerSecond * 2 }, now);
    if (!connection.messageRate.take(now)) {
      this.#refuseRate(connection, `More than ${messagesPerSecond} messages a second came; this one was ignored.`);
      return;
    }
    if (connection.waiting >= WAITING_MAX) {
      this.#refuseRate(connection, `${WAITING_MAX} messages wait to be handled; this one was ignored.`);
      return;
    }
    connection.refused = 0;
    const message = this.#parse(connection, data, isBinary);
    if (message === undefined) return;
    // A sign of life does not wait behind what waits for Redis.
    if (message.type === 'ping') {
      connection.tell({ type: 'pong' }, clock.now());
      return;
    }
    if (connection.working === null) {
      this.#follow(connection, this.#handle(connection, message));
    } else {
      connection.waiting += 1;
      this.#follow(
        connection,
        connection.working.then(() => {
          connection.waiting -= 1;
          return connection.closed ? undefined : this.#handle(connection, message);
        }),
      );
    }
  }

  #follow(connection: Connection, work: Promise<void>): void {
    const settled = work.finally(() => {
      if (connection.working === settled) connection.working = null;
    });
    connection.working = settled;
  }

  #refuseRate(connection: Connection, text: string): void {
    this.#o.onRefused('rate_limited');
    connection.refused += 1;
    if (connection.refused > REFUSED_MAX) connection.refuse('rate_limited', `${text} The connection is closed.`);
    else connection.tellError('rate_limited', `${text} Send more slowly.`);
  }

  #parse(connection: Connection, data: ArrayBuffer, isBinary: boolean): ClientMessage | undefined {
    if (isBinary) {
      this.#refuse(connection, 'Expected a text frame with a JSON object, got a binary frame.');
      return undefined;
    }
    const text = Buffer.from(data).toString('utf8');
    let input: unknown;
    try {
      input = JSON.parse(text);
    } catch {
      this.#refuse(connection, `Expected a JSON object, got ${shown(text)}.`);
      return undefined;
    }
    const parsed = clientMessageSchema.safeParse(input);
    if (parsed.success) return parsed.data;
    const known = 'Known types are command, subscribe, unsubscribe, ping and authenticate.';
    const type = (input as { type?: unknown } | null)?.type;
    const isKnown = clientMessageSchema.options.some((option) => option.shape.type.value === type);
    const id = (input as { id?: unknown } | null)?.id;
    this.#refuse(
      connection,
      isKnown
        ? describeProblem(parsed.error, input)
        : `Expected a message with a known type, got ${shown(input)}. ${known}`,
      typeof id === 'string' ? { id: id.slice(0, 128) } : {},
    );
    return undefined;
  }

  #refuse(connection: Connection, text: string, more: { id?: string } = {}): void {
    this.#o.onRefused('bad_message');
    connection.tellError('bad_message', text, more);
  }

  /** Never rejects. */
  #handle(connection: Connection, message: Handled): Promise<void> {
    return this.#handleLater(connection, message).catch((error: unknown) => this.#failed(connection, message, error));
  }

  async #handleLater(connection: Connection, message: Handled): Promise<void> {
    if (message.type === 'authenticate') {
      // Else it would be greeted again, and an old-style connection watch everything again.
      if (connection.credential !== null) {
        throw new ClientError(
          'bad_message',
          `This connection is authenticated already, as ${shown(connection.credential.subject)}. To be somebody else, connect again.`,
        );
      }
      connection.credential = await this.#o.guard.identify({ accessToken: message.token });
      if (!connection.closed) this.#o.onAuthenticated(connection);
      return;
    }
    if (connection.credential === null) {
      throw new ClientError('unauthenticated', 'Expected `{"type":"authenticate","token":…}` as the first message.');
    }
    // The first command of a new client must not run before its output would reach it.
    await this.#briefly(connection, message, this.#o.outputReady());
    if (connection.closed) return;
    switch (message.type) {
      case 'command':
        return this.#command(connection, message, connection.credential.subject);
      case 'subscribe':
        return this.#briefly(connection, message, this.#o.subscriptions.subscribe(connection, message));
      case 'unsubscribe':
        return this.#o.subscriptions.unsubscribe(connection, message);
    }
  }

  /**
   * Waits for work, but not so long that later messages of the connection would wait for Redis to come back (P3). The work
   * goes on.
   */
  async #briefly(connection: Connection, message: ClientMessage, work: Promise<void> | null): Promise<void> {
    if (work === null) return;
    let timer: Timer | undefined;
    let isLate = false;
    const late = new Promise<void>((resolve) => {
      timer = this.#o.clock.setTimeout(() => {
        isLate = true;
        resolve();
      }, WAIT_MS_MAX);
    });
    work.catch((error: unknown) => {
      if (isLate && !connection.closed) this.#failed(connection, message, error);
    });
    try {
      await Promise.race([work, late]);
    } finally {
      timer?.cancel();
    }
  }

  async #command(connection: Connection, message: CommandMessage, subject: string): Promise<void> {
    const { clock, commands, commandsPerSecond, commandsBurst } = this.#o;
    const now = clock.monotonicMs();
    connection.commandRate ??= new TokenBucket({ perSecond: commandsPerSecond, burst: commandsBurst }, now);
    if (!connection.commandRate.take(now)) {
      const wait = connection.commandRate.waitMs(now);
      throw new ClientError(
        'rate_limited',
        `More than ${commandsPerSecond} commands a second came; this one was not accepted. Send it again in ${wait} ms.`,
      );
    }
    if (message.command === 'kill') {
      await commands.kill({ target: message.target, subject });
      return;
    }
    const accepted = await commands.submit({
      target: message.target,
      command: message.command,
      args: message.args ?? [],
      subject,
      address: connection.address,
      ...(message.id !== undefined && { clientId: message.id }),
      ...(message.timeout_seconds !== undefined && { timeoutSeconds: message.timeout_seconds }),
      ...(message.idempotent !== undefined && { idempotent: message.idempotent }),
    });
    if (message.id === undefined) return;
    connection.tell(
      {
        type: 'accepted',
        target: accepted.target,
        id: message.id,
        execution_id: accepted.execution,
        position: accepted.position,
        duplicate: accepted.duplicate,
      },
      clock.now(),
    );
  }

  #failed(connection: Connection, message: ClientMessage, error: unknown): void {
    const more = {
      ...('target' in message && message.target && { target: message.target }),
      ...('id' in message && message.id !== undefined && { id: message.id }),
    };
    if (!(error instanceof ClientError)) {
      this.#o.logger.error({ err: error, type: message.type }, 'a message could not be handled');
      this.#o.onRefused('internal');
      connection.tellError(
        'internal',
        'The message could not be handled, by a defect or because Redis failed. Send it again.',
        more,
      );
      return;
    }
    this.#o.onRefused(error.code);
    if (error.code === 'unauthenticated') connection.refuse(error.code, error.message);
    else connection.tellError(error.code, error.message, more);
  }
}
