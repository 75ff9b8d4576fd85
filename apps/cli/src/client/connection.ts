/**
 * One subscription, kept alive over as many WebSockets as it takes: lost connections, restarted gateways and requests
 * to move are answered by connecting again, after a jittered delay, from the point reached. Commands that were given
 * but not answered are sent again on each connection; their ids make that safe.
 *
 * It gives up when a repeat cannot help (wrong token, no gateway there at the start) or when it could not reach a
 * gateway for `giveUpAfterMs`. What is subscribed to, and from where to go on, a {@link Resumption} decides; here are the
 * socket and the timers.
 */
import { backoffMs, type Clock, systemClock, type Timer } from '@carrierarr/platform/light';
import {
  CLOSE_CODES,
  type CommandMessage,
  isErrorCode,
  ERRORS,
  SERVER_MESSAGES,
  type ServerMessage,
  SUBPROTOCOL,
  type SubscribeMessage,
} from '@carrierarr/protocol';
import type { IncomingMessage } from 'node:http';
import { WebSocket } from 'ws';
import { deferred } from '../deferred.js';
import { Failure } from '../exit.js';
import type { Admitted, Hole } from './resume.js';
import type { GatewayAccess } from './settings.js';
import { gatewayError, GatewayFailure, refused, unreachable } from './unreachable.js';

export interface ConnectionOptions {
  readonly access: GatewayAccess;
  readonly resume: Resumption;
  /** Messages in order and without doubles. */
  readonly onMessage: (message: ServerMessage) => void;
  /** Offsets are missing that the gateway did not announce: a defect, to be shown. */
  readonly onHole?: (hole: Hole) => void;
  /** For people: the connection was lost, is back. */
  readonly onNotice: (text: string) => void;
  readonly giveUpAfterMs?: number;
  readonly clock?: Clock;
  /** In [0, 1). */
  readonly random?: () => number;
}

const GIVE_UP_AFTER_MS = 10 * 60_000;
const HANDSHAKE_MS = 10_000;
/** A gateway's answer to a ping comes at once; proxies cut connections that are idle for 60 s. */
const PING_EVERY_MS = 20_000;
const SILENCE_MS_MAX = 50_000;
const BACKOFF = { baseMs: 250, capMs: 10_000 };
/** A frame holds at most some entries of 64 KiB. */
const FRAME_BYTES_MAX = 64 * 1024 * 1024;
const ERROR_BODY_BYTES_MAX = 16 * 1024;

/** A command with the id that makes it safe to repeat. */
export type IdentifiedCommand = CommandMessage & { readonly id: string };

/** What a connection subscribes to, and how far that has got. No I/O. */
export interface Resumption {
  /** True once a gateway has taken the subscription. */
  readonly isConfirmed: boolean;
  /** The message that subscribes, or resumes. */
  subscribe(): SubscribeMessage;
  /** Whether a message says that the subscription was taken; notes what else it says. */
  confirm(message: ServerMessage): boolean;
  /** Notes what a message brings, and takes away what was seen before, or was not asked for. */
  admit(message: ServerMessage): Admitted;
}

export class Connection {
  readonly #options: ConnectionOptions;
  readonly #clock: Clock;
  readonly #resume: Resumption;
  readonly #unanswered = new Map<string, IdentifiedCommand>();
  readonly #complainedOf = new Set<string>();
  readonly #subscribed = deferred<void>();
  readonly #failed = deferred<never>();
  #socket: WebSocket | null = null;
  #isSubscribed = false;
  #isClosed = false;
  #isPaused = false;
  #attempt = 0;
  #lostAtMs: number | null = null;
  #heardAtMs = 0;
  #retry: Timer | null = null;
  #heartbeat: Timer | null = null;
  #move: Timer | null = null;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#resume = options.resume;
    // Each is the business of whoever waits for it; nobody need wait for both.
    this.#subscribed.promise.catch(() => undefined);
    this.#failed.promise.catch(() => undefined);
  }

  /** Resolves when the subscription is taken for the first time. Rejects with a Failure. */
  start(): Promise<void> {
    this.#connect();
    return this.#subscribed.promise;
  }

  /** Never resolves; rejects with a Failure when it gives up. */
  get failed(): Promise<never> {
    return this.#failed.promise;
  }

  /** Sends a command now and on every further connection until `answered` is called with its id. */
  submit(command: IdentifiedCommand): void {
    this.#unanswered.set(command.id, command);
    if (this.#isSubscribed) this.#send(command);
  }

  answered(id: string): void {
    this.#unanswered.delete(id);
  }

  /** Leaves this connection for a new one, which goes on from where the subscription has got to, or was set back to. */
  reconnect(): void {
    if (this.#isClosed || this.#socket === null) return;
    this.#drop();
    this.#connect();
  }

  /** Takes no more from the network until `resume`: the reader of our output is slower. */
  pause(): void {
    this.#isPaused = true;
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.pause();
  }

  resume(): void {
    this.#isPaused = false;
    this.#heardAtMs = this.#clock.monotonicMs();
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.resume();
  }

  close(): void {
    this.#isClosed = true;
    this.#retry?.cancel();
    this.#drop();
  }

  #connect(): void {
    const { access } = this.#options;
    const socket = new WebSocket(`${access.url.replace(/^http/, 'ws')}/ws`, [SUBPROTOCOL], {
      headers: access.token === null ? {} : { authorization: `Bearer ${access.token}` },
      handshakeTimeout: HANDSHAKE_MS,
      maxPayload: FRAME_BYTES_MAX,
      perMessageDeflate: false,
    });
    this.#socket = socket;
    let error: Error | undefined;
    let isRefused = false;
    const isCurrent = () => this.#socket === socket;

    socket.on('open', () => {
      if (!isCurrent()) return;
      if (this.#isPaused) socket.pause();
      this.#heardAtMs = this.#clock.monotonicMs();
      this.#heartbeat = this.#clock.setInterval(() => this.#beat(socket), PING_EVERY_MS);
      this.#send(this.#resume.subscribe());
    });
    socket.on('message', (data, isBinary) => {
      if (isCurrent() && !isBinary) this.#receive((data as Buffer).toString());
    });
    socket.on('ping', () => {
      this.#heardAtMs = this.#clock.monotonicMs();
    });
    socket.on('unexpected-response', (_request, response) => {
      isRefused = true;
      void readBody(response).then((body) => {
        socket.terminate();
        if (isCurrent()) this.#lost(refused(access, response.statusCode ?? 0, body));
      });
    });
    socket.on('error', (cause) => {
      error = cause;
    });
    socket.on('close', (code, reason) => {
      if (isCurrent() && !isRefused) this.#lost(this.#closeFailure(code, String(reason), error));
    });
  }

  #beat(socket: WebSocket): void {
    if (this.#isPaused) return;
    // The close event of a socket that nobody answers comes by itself once it is terminated.
    if (this.#clock.monotonicMs() - this.#heardAtMs > SILENCE_MS_MAX) socket.terminate();
    else this.#send({ type: 'ping' });
  }

  #closeFailure(code: number, reason: string, error: Error | undefined): GatewayFailure {
    const { access } = this.#options;
    if (error !== undefined) {
      if (error.message.includes('subprotocol')) {
        const text = `${access.url} speaks an older protocol than this command line. Update it, or check --url.`;
        return new GatewayFailure(text, 'unreachable', false, { cause: error });
      }
      return unreachable(access, error);
    }
    const known = (CLOSE_CODES as Record<number, { name: string; meaning: string; reconnect: boolean }>)[code];
    if (code === ERRORS.unauthenticated.close)
      return gatewayError(access, 'unauthenticated', reason || 'It gave no reason.', false);
    const why = reason === '' ? (known?.name ?? 'no reason given') : reason;
    // Codes of a later version: to try again is the safer guess.
    return new GatewayFailure(
      `${access.url} closed the connection: ${why} (${code}).`,
      'closed',
      known?.reconnect ?? true,
    );
  }

  #lost(failure: GatewayFailure): void {
    this.#drop();
    if (this.#isClosed) return;
    const nowMs = this.#clock.monotonicMs();
    const wasEverSubscribed = this.#resume.isConfirmed;
    // Once it has worked, "nothing listens there" is a gateway that restarts.
    const canRetry = failure.retryable || (wasEverSubscribed && failure.code === 'unreachable');
    const limitMs = this.#options.giveUpAfterMs ?? GIVE_UP_AFTER_MS;
    if (!canRetry) return this.#fail(failure);
    if (this.#lostAtMs === null) {
      this.#lostAtMs = nowMs;
      this.#options.onNotice(`${failure.message} Connecting again...`);
    } else if (nowMs - this.#lostAtMs >= limitMs) {
      return this.#fail(failure);
    }
    const delayMs = backoffMs({
      attempt: this.#attempt++,
      ...BACKOFF,
      ...(this.#options.random !== undefined && { random: this.#options.random }),
    });
    this.#retry = this.#clock.setTimeout(() => this.#connect(), delayMs);
  }

  #fail(failure: Failure): void {
    this.close();
    this.#subscribed.reject(failure);
    this.#failed.reject(failure);
  }

  /** Forgets the socket: nothing that it still brings counts. */
  #drop(): void {
    const socket = this.#socket;
    this.#socket = null;
    this.#isSubscribed = false;
    this.#heartbeat?.cancel();
    this.#move?.cancel();
    if (socket === null) return;
    if (socket.readyState === WebSocket.OPEN) {
      // A paused socket would never read the close frame of the other side.
      socket.resume();
      socket.close(1000);
    } else if (socket.readyState === WebSocket.CONNECTING) {
      socket.terminate();
    }
  }

  #send(message: object): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #receive(frame: string): void {
    this.#heardAtMs = this.#clock.monotonicMs();
    const socket = this.#socket;
    for (const text of frame.split('\n')) {
      // A message may have made us leave this connection; what follows in the frame will come again.
      if (this.#socket !== socket) return;
      const message = parseMessage(text);
      if (message === 'unknown') continue;
      if ('unreadable' in message) this.#complain(message.unreadable);
      else this.#take(message);
    }
  }

  /** Once for each type: it may be important, and it may come a thousand times a second. */
  #complain(type: string): void {
    if (this.#complainedOf.has(type)) return;
    this.#complainedOf.add(type);
    this.#options.onNotice(
      `${this.#options.access.url} sent a \`${type}\` message that this version cannot read. Are both of about the same version?`,
    );
  }

  #take(message: ServerMessage): void {
    if (this.#resume.confirm(message) && !this.#isSubscribed) this.#onSubscribed();
    // Nothing that a watcher acts on.
    if (['subscribed', 'hello', 'pong', 'status'].includes(message.type)) return;
    if (!this.#isSubscribed && message.type === 'error' && message.offset === undefined) {
      return this.#subscriptionRefused(message.error, message.code);
    }
    if (message.type === 'migrate') {
      this.#move?.cancel();
      this.#move = this.#clock.setTimeout(() => this.reconnect(), message.delay_ms);
      return;
    }
    const { message: fresh, hole } = this.#resume.admit(message);
    if (hole !== undefined) this.#options.onHole?.(hole);
    if (fresh !== undefined) this.#options.onMessage(fresh);
  }

  #onSubscribed(): void {
    this.#isSubscribed = true;
    this.#attempt = 0;
    if (this.#lostAtMs !== null) this.#options.onNotice(`Connected to ${this.#options.access.url} again.`);
    this.#lostAtMs = null;
    for (const command of this.#unanswered.values()) this.#send(command);
    this.#subscribed.resolve();
  }

  #subscriptionRefused(text: string, code = 'internal'): void {
    const retryable = isErrorCode(code) && ERRORS[code].retryable;
    this.#lost(gatewayError(this.#options.access, code, text, retryable));
  }
}

/** `unknown` is what a newer gateway may say to newer clients, and what is no message at all. */
function parseMessage(text: string): ServerMessage | 'unknown' | { readonly unreadable: string } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return 'unknown'; // An empty line, or not ours to judge.
  }
  const type = (value as { type?: unknown } | null)?.type;
  if (typeof type !== 'string' || !Object.hasOwn(SERVER_MESSAGES, type)) return 'unknown';
  return SERVER_MESSAGES[type as keyof typeof SERVER_MESSAGES].schema.safeParse(value).data ?? { unreadable: type };
}

async function readBody(response: IncomingMessage): Promise<string> {
  let body = '';
  try {
    for await (const chunk of response) {
      body += String(chunk);
      if (body.length > ERROR_BODY_BYTES_MAX) break;
    }
  } catch {
    // The status alone says enough.
  }
  return body;
}
