/** A WebSocket to the gateway for checks: it tells what came, and how it ended. */
import { WebSocket } from 'ws';
import type { Clock } from '@carrierarr/platform';
import type { GatewayAccess } from '../../client/settings.js';
import { deferred } from '../../deferred.js';

/** A status may be that of a large fleet. */
const FRAME_BYTES_MAX = 64 * 1024 * 1024;
/** Messages that are kept; of more only the time counts. */
const KEPT_MAX = 100;

export type SocketEnd =
  | { readonly kind: 'refused'; readonly status: number }
  | { readonly kind: 'error'; readonly error: Error }
  | { readonly kind: 'closed'; readonly code: number; readonly reason: string };

export class ProbeSocket {
  readonly #socket: WebSocket;
  readonly #clock: Clock;
  readonly #opened = deferred<void>();
  readonly #ended = deferred<SocketEnd>();
  readonly #waiters = new Set<() => void>();
  readonly #messages: string[] = [];
  #heardMs: number;
  #silenceMs = 0;

  constructor({ url, token }: GatewayAccess, clock: Clock) {
    this.#clock = clock;
    this.#heardMs = clock.monotonicMs();
    this.#socket = new WebSocket(`${url.replace(/^http/, 'ws')}/ws`, {
      headers: token === null ? {} : { authorization: `Bearer ${token}` },
      maxPayload: FRAME_BYTES_MAX,
      perMessageDeflate: false,
    });
    this.#socket.on('open', () => {
      this.#heard();
      this.#silenceMs = 0;
      this.#opened.resolve();
    });
    this.#socket.on('unexpected-response', (_request, response) => {
      response.resume();
      this.#ended.resolve({ kind: 'refused', status: response.statusCode ?? 0 });
      this.#socket.terminate();
    });
    this.#socket.on('error', (error) => this.#ended.resolve({ kind: 'error', error }));
    this.#socket.on('close', (code, reason) => this.#ended.resolve({ kind: 'closed', code, reason: String(reason) }));
    // Answered by itself; for a proxy it is traffic like any other.
    this.#socket.on('ping', () => this.#heard());
    this.#socket.on('message', (data) => {
      this.#heard();
      if (this.#messages.length < KEPT_MAX) this.#messages.push(...(data as Buffer).toString().split('\n'));
      for (const waiter of this.#waiters) waiter();
    });
  }

  /** Undefined once it is open, else how it ended. */
  async open(): Promise<SocketEnd | undefined> {
    return Promise.race([this.#opened.promise.then(() => undefined), this.#ended.promise]);
  }

  get ended(): Promise<SocketEnd> {
    return this.#ended.promise;
  }

  send(message: unknown): void {
    this.#socket.send(JSON.stringify(message));
  }

  /** Resolves with true when a message of that type has come, or with how the connection ended before. */
  async receive(type: string): Promise<true | SocketEnd> {
    const came = deferred<true>();
    const look = () => {
      if (this.#messages.some((text) => typeOf(text) === type)) came.resolve(true);
    };
    this.#waiters.add(look);
    look();
    try {
      return await Promise.race([came.promise, this.#ended.promise]);
    } finally {
      this.#waiters.delete(look);
    }
  }

  /** The longest time since it opened in which nothing came, ms. */
  longestSilenceMs(): number {
    return Math.max(this.#silenceMs, this.#clock.monotonicMs() - this.#heardMs);
  }

  close(): void {
    this.#socket.terminate();
  }

  #heard(): void {
    const nowMs = this.#clock.monotonicMs();
    this.#silenceMs = Math.max(this.#silenceMs, nowMs - this.#heardMs);
    this.#heardMs = nowMs;
  }
}

function typeOf(text: string): unknown {
  try {
    return (JSON.parse(text) as { type?: unknown } | null)?.type;
  } catch {
    return undefined; // A frame that is none of ours.
  }
}
