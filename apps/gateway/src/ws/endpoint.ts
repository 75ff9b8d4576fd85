/**
 * `/ws`: lets connections in, gives their frames to `Messages` and their output from `Fanout`, tells them of the
 * gateway's own state, and asks them to move when it stops.
 */
import type { Clock, Logger, Timer } from '@carrierarr/platform';
import { ClientError, ERRORS, SUBPROTOCOL } from '@carrierarr/protocol';

import type uWS from 'uWebSockets.js';
import type { Credential } from '../access/authenticate.js';
import type { ConnectionLimits } from '../access/connection-limits.js';
import type { Guard, RequestFacts } from '../access/guard.js';
import type { Fanout } from '../delivery/fanout.js';
import { Connection, type Holder } from './connection.js';
import type { Messages } from './messages.js';
import type { StatusFeed } from '../status/status-feed.js';

/** uWebSockets.js cuts a connection above this without a word; below it our own limit answers with an error. */
const PAYLOAD_BYTES_MAX = 1024 * 1024;
/** Bytes queued in one socket at which it is given up: far above what the fan-out lets gather. */
const BACKPRESSURE_BYTES_MAX = 64 * 1024 * 1024;
/** How often credentials are looked at again: a token taken back closes its connections within a minute. */
const CREDENTIAL_CHECK_MS = 30_000;
/** How often it is looked whether clients are gone, or may go, while the gateway drains. */
const DRAIN_LOOK_MS = 50;

export interface EndpointOptions {
  fanout: Fanout;
  messages: Messages;
  guard: Guard;
  limits: ConnectionLimits;
  clock: Clock;
  logger: Logger;
  random: () => number;
  idleTimeoutMs: number;
  unauthenticatedTimeoutMs: number;
  /** Tells connections of the workers. */
  status: Pick<StatusFeed, 'add' | 'remove' | 'drained'>;
  hello: {
    gateway: string;
    version: string;
    limits: { message_bytes: number; subscriptions: number; commands_per_second: number };
  };
  onRefused(code: string): void;
}

export class Endpoint {
  readonly #o: EndpointOptions;
  readonly #connections = new Set<Connection>();
  #check: Timer | undefined;
  #draining = false;
  #degraded: string | null = null;

  constructor(options: EndpointOptions) {
    this.#o = options;
  }

  get connectionCount(): number {
    return this.#connections.size;
  }

  start(): void {
    this.#check = this.#o.clock.setInterval(() => this.#checkCredentials(), CREDENTIAL_CHECK_MS);
  }

  stop(): void {
    this.#check?.cancel();
  }

  /** Puts `/ws` on the server. */
  register(app: uWS.TemplatedApp): void {
    app.ws<Holder>('/ws', {
      maxPayloadLength: PAYLOAD_BYTES_MAX,
      maxBackpressure: BACKPRESSURE_BYTES_MAX,
      // uWebSockets.js takes whole seconds in steps of 4 and pings by itself.
      idleTimeout: Math.max(8, Math.floor(this.#o.idleTimeoutMs / 4000) * 4),
      sendPingsAutomatically: true,
      compression: 0,
      upgrade: (res, req, context) => this.#upgrade(res, req, context),
      open: (ws) => this.#open(ws),
      message: (ws, data, isBinary) => this.#receive(ws.getUserData().connection, data, isBinary),
      drain: (ws) => this.#drained(ws.getUserData().connection),
      close: (ws) => this.#closed(ws.getUserData().connection),
    });
  }

  // --- in --------------------------------------------------------------------------------------------------------

  #upgrade(res: uWS.HttpResponse, req: uWS.HttpRequest, context: uWS.us_socket_context_t): void {
    let aborted = false;
    res.onAborted(() => {
      aborted = true;
    });
    const key = req.getHeader('sec-websocket-key');
    const extensions = req.getHeader('sec-websocket-extensions');
    const protocols = req.getHeader('sec-websocket-protocol');
    const offered = protocols.split(',').map((protocol) => protocol.trim());
    const modern = offered.includes(SUBPROTOCOL);
    let facts: RequestFacts;
    try {
      facts = this.#o.guard.read(res, req);
      if (this.#draining)
        throw new ClientError('draining', 'This gateway is shutting down. Connect again to reach another.');
      this.#o.guard.checkPage(facts);
    } catch (error) {
      this.#deny(res, error);
      return;
    }
    const accept = (credential: Credential | null) => {
      if (aborted) return;
      let release: () => void;
      try {
        release = this.#o.limits.admit(facts.address);
      } catch (error) {
        this.#deny(res, error);
        return;
      }
      const connection = new Connection({ credential, address: facts.address, modern, release });
      // A browser fails the connection unless one of the protocols it offered is chosen.
      const chosen = modern ? SUBPROTOCOL : (offered[0] ?? '');
      res.cork(() => res.upgrade<Holder>({ connection }, key, chosen, extensions, context));
    };
    const known = this.#o.guard.identifyNow(facts);
    if (known !== undefined) {
      accept(known);
      return;
    }
    this.#identify(facts, modern).then(accept, (error: unknown) => {
      if (!aborted) this.#deny(res, error);
    });
  }

  /** Null: it may show its token by its first message. Only new clients can; others are refused here. */
  async #identify(facts: RequestFacts, modern: boolean): Promise<Credential | null> {
    const shown = facts.authorization || facts.subprotocolToken || facts.accessToken;
    if (modern && !shown && this.#o.guard.needsToken) return null;
    return this.#o.guard.identify(facts);
  }

  #deny(res: uWS.HttpResponse, error: unknown): void {
    const refusal =
      error instanceof ClientError
        ? error
        : new ClientError('internal', 'The connection could not be accepted.', { cause: error });
    if (refusal.code === 'internal') this.#o.logger.error({ err: error }, 'a connection could not be accepted');
    this.#o.onRefused(refusal.code);
    res.cork(() => {
      res.writeStatus(`${ERRORS[refusal.code].http} ${refusal.code}`);
      res.writeHeader('Content-Type', 'application/json');
      if (refusal.code === 'unauthenticated') res.writeHeader('WWW-Authenticate', 'Bearer');
      const { message, code, retryable } = refusal;
      // In bytes, as Exchange.answer.
      res.end(Buffer.from(JSON.stringify({ error: message, code, retryable })));
    });
  }

  #open(ws: uWS.WebSocket<Holder>): void {
    const { connection } = ws.getUserData();
    connection.socket = ws;
    connection.client = this.#o.fanout.add(connection);
    this.#connections.add(connection);
    if (connection.credential !== null) {
      this.welcome(connection);
      return;
    }
    this.#o.clock.setTimeout(() => {
      if (connection.credential === null && !connection.closed) {
        const seconds = this.#o.unauthenticatedTimeoutMs / 1000;
        connection.refuse('unauthenticated', `No token came within ${seconds} s.`);
      }
    }, this.#o.unauthenticatedTimeoutMs);
  }

  /** Greets a connection whose subject is known now. */
  welcome(connection: Connection): void {
    if (connection.modern) {
      this.#o.fanout.setEncoding(connection.client, 'offsets');
      connection.tell({ type: 'hello', ...this.#o.hello });
      if (this.#degraded !== null) connection.tell({ type: 'degraded', reason: this.#degraded });
    } else {
      this.#o.fanout.watchEverything(connection.client, 'implicit');
    }
    this.#o.status.add(connection, { mayOptIn: connection.modern });
  }

  /** Whatever is wrong with one message, or with us, it is no reason to end the process and all other connections. */
  #receive(connection: Connection, data: ArrayBuffer, isBinary: boolean): void {
    try {
      this.#o.messages.receive(connection, data, isBinary);
    } catch (error) {
      this.#o.logger.error({ err: error }, 'a message could not be handled');
      this.#o.onRefused('internal');
      connection.tellError(
        'internal',
        'The message could not be handled, by a defect of the gateway; its log has the details.',
      );
    }
  }

  #drained(connection: Connection): void {
    this.#o.fanout.drained(connection.client);
    this.#o.status.drained(connection);
  }

  #closed(connection: Connection): void {
    connection.gone();
    this.#o.status.remove(connection);
    this.#connections.delete(connection);
    this.#o.fanout.remove(connection.client);
  }

  #checkCredentials(): void {
    for (const connection of this.#connections) {
      if (connection.credential !== null && !this.#o.guard.stillValid(connection.credential)) {
        connection.refuse(
          'unauthenticated',
          'The token of this connection has expired or was taken back. Connect with a new one.',
        );
      }
    }
  }

  // --- state -----------------------------------------------------------------------------------------------------

  /** Tells who asked for it that Redis is away (with a reason), or back (null). */
  setDegraded(reason: string | null): void {
    if (reason === this.#degraded) return;
    this.#degraded = reason;
    for (const connection of this.#connections) {
      if (!connection.notices || connection.credential === null) continue;
      if (reason === null) connection.tell({ type: 'restored' });
      else connection.tell({ type: 'degraded', reason });
    }
  }

  // --- out -------------------------------------------------------------------------------------------------------

  /**
   * Has every client move to another gateway. Those that understand `migrate` get a moment within `spreadMs` and
   * connect elsewhere before they leave here; the others are closed (1012) at such a moment, spread likewise so that
   * they do not all arrive at the next gateway at once. These cannot ask there for what they missed, so each is first
   * sent all that this gateway has for it. Resolves when all are gone, or at `deadlineMs` from now, when who is left is
   * closed.
   */
  async drain(spreadMs: number, deadlineMs: number): Promise<void> {
    const { clock, fanout, random } = this.#o;
    this.#draining = true;
    fanout.flush();
    const timers = new Map<Connection, Timer>();
    const leaveIn = (connection: Connection, delayMs: number) =>
      timers.set(
        connection,
        clock.setTimeout(() => {
          if (connection.closed) return;
          if (fanout.finish(connection.client)) connection.close(1012, 'draining');
          else leaveIn(connection, DRAIN_LOOK_MS);
        }, delayMs),
      );
    for (const connection of this.#connections) {
      const delay = Math.floor(random() * spreadMs);
      if (connection.notices)
        connection.tell({ type: 'migrate', delay_ms: delay, deadline_ms: Math.round(deadlineMs) });
      else leaveIn(connection, delay);
    }
    await this.#untilEmpty(deadlineMs);
    for (const timer of timers.values()) timer.cancel();
    fanout.flush();
    for (const connection of this.#connections) connection.close(1012, 'draining');
  }

  #untilEmpty(deadlineMs: number): Promise<void> {
    const { clock } = this.#o;
    const end = clock.monotonicMs() + deadlineMs;
    return new Promise((resolve) => {
      const look = () => {
        if (this.#connections.size === 0 || clock.monotonicMs() >= end) resolve();
        else clock.setTimeout(look, DRAIN_LOOK_MS);
      };
      look();
    });
  }
}
