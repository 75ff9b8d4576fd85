/** The listening socket. */
import { connect, isIP } from 'node:net';
import { type Clock, printAddress, sleep } from '@carrierarr/platform';
import type { TemplatedApp, us_listen_socket } from 'uWebSockets.js';
import uWS from './uws.js';

interface Address {
  host: string;
  port: number;
}

/** The address is taken, or is none of this machine's. */
export class ListenError extends Error {
  override name = 'ListenError';
}

/** Longest that Linux keeps a port after its last connection, ms. */
const PORT_KEPT_MS = 65_000;
const RETRY_MS = 500;

export class Listener {
  readonly #app: TemplatedApp;
  readonly #wanted: Address;
  readonly #clock: Clock;
  #socket: us_listen_socket | null = null;
  #port = 0;

  constructor(app: TemplatedApp, wanted: Address, clock: Clock) {
    this.#clock = clock;
    this.#app = app;
    this.#wanted = wanted;
  }

  get address(): Address {
    return { host: this.#wanted.host, port: this.#port || this.#wanted.port };
  }

  /**
   * Rejects with {@link ListenError}. Where nobody listens but the port cannot be had yet, it waits: after a crash the
   * system keeps the port for up to a minute, for the connections it had.
   */
  async listen(): Promise<void> {
    const endMs = this.#clock.monotonicMs() + PORT_KEPT_MS;
    for (;;) {
      try {
        return await this.#listenOnce();
      } catch (error) {
        if (this.#wanted.port === 0 || this.#clock.monotonicMs() >= endMs || !(await isRefused(this.#wanted)))
          throw error;
        await sleep(this.#clock, RETRY_MS);
      }
    }
  }

  #listenOnce(): Promise<void> {
    const { host, port } = this.#wanted;
    return new Promise((resolve, reject) => {
      const done = (socket: us_listen_socket | false) => {
        if (!socket) {
          const text = printAddress(this.#wanted);
          reject(
            new ListenError(
              `Cannot listen on \`-addr ${text}\`: another program has the port, or the address is not this machine's. ` +
                `Choose another, for example \`-addr ${isIP(host) ? printAddress({ host, port: port + 1 }) : `:${port + 1}`}\`.`,
            ),
          );
          return;
        }
        this.#socket = socket;
        this.#port = uWS.us_socket_local_port(socket);
        resolve();
      };
      listenAlone(this.#app, host, port, done);
    });
  }

  /** Takes no more connections; open ones stay. */
  close(): void {
    if (this.#socket) uWS.us_listen_socket_close(this.#socket);
    this.#socket = null;
  }
}

/**
 * Listens on a port that no other process can share: by default uWebSockets.js lets a second gateway on the same port
 * silently take half of the clients. Its types know neither the constant nor the option beside a host.
 */
function listenAlone(app: TemplatedApp, host: string, port: number, done: (socket: us_listen_socket | false) => void) {
  const { LIBUS_LISTEN_EXCLUSIVE_PORT: exclusive } = uWS as unknown as { LIBUS_LISTEN_EXCLUSIVE_PORT: number };
  const args = host === '' ? [port, exclusive, done] : [host, port, exclusive, done];
  (app.listen as (...args: unknown[]) => void).apply(app, args);
}

/** True if the address is this machine's and nobody listens there. */
function isRefused({ host, port }: Address): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: host === '' ? '127.0.0.1' : host, timeout: 1_000 });
    const settle = (refused: boolean) => {
      socket.destroy();
      resolve(refused);
    };
    socket.once('connect', () => settle(false));
    socket.once('timeout', () => settle(false));
    socket.once('error', (error: NodeJS.ErrnoException) => settle(error.code === 'ECONNREFUSED'));
  });
}
