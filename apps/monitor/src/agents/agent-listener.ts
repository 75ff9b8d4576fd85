/**
 * The socket that agents connect to. gRPC bounds streams and calls, but takes any number of connections, also from who never
 * shows a token; here they are bounded, in all and for one address.
 */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import type { Address } from '@carrierarr/platform';

export interface AgentListenerOptions {
  addr: Address;
  /** Counts a connection of a peer (`ADDRESS:PORT`). Returns what ends it, or undefined if there cannot be one more. */
  admit: (peer: string) => (() => void) | undefined;
  /** Takes over a connection that was admitted. */
  onConnection: (socket: Socket) => void;
  onRefused: () => void;
  /** A connection could not be accepted, such as for want of file descriptors. It listens on. */
  onError: (error: Error) => void;
}

export class AgentListener {
  readonly #o: AgentListenerOptions;
  readonly #server: Server;

  constructor(options: AgentListenerOptions) {
    this.#o = options;
    // Small frames, such as a command or the answer to a ping, go at once.
    this.#server = createServer({ noDelay: true }, (socket) => this.#take(socket));
  }

  /** Where it listens; undefined while it does not. */
  get address(): Address | undefined {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') return undefined;
    return { host: this.#o.addr.host, port: address.port };
  }

  /** Rejects if the address cannot be had. */
  async listen(): Promise<void> {
    const { host, port } = this.#o.addr;
    try {
      await this.#bind(host === '' ? '::' : host, port);
    } catch (error) {
      // A machine without IPv6.
      if (host !== '' || (error as NodeJS.ErrnoException).code !== 'EAFNOSUPPORT') throw error;
      await this.#bind('0.0.0.0', port);
    }
  }

  /** Takes no more connections; those that are there stay. */
  stop(): void {
    this.#server.close();
  }

  async #bind(host: string, port: number): Promise<void> {
    this.#server.listen({ host, port });
    await once(this.#server, 'listening');
    // Without a listener such an event would end the process.
    this.#server.on('error', this.#o.onError);
  }

  #take(socket: Socket): void {
    const { admit, onConnection, onRefused } = this.#o;
    const release = admit(`${socket.remoteAddress}:${socket.remotePort}`);
    if (release === undefined) {
      onRefused();
      // Nothing can be said before TLS and HTTP/2: it tries again later, or at another monitor.
      socket.destroy();
      return;
    }
    socket.once('close', release);
    onConnection(socket);
  }
}
