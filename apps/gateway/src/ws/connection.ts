/** One WebSocket connection: the socket, who is behind it, and what it has been allowed so far. */
import type { TokenBucket } from '@carrierarr/platform';
import type { ErrorCode, ServerMessage, ServerMessageOf } from '@carrierarr/protocol';
import { closeCodeOf } from '@carrierarr/protocol';
import type uWS from 'uWebSockets.js';
import type { Credential } from '../access/authenticate.js';
import type { Client, ClientSocket } from '../delivery/client.js';
import { timestampOf } from '../delivery/encode.js';

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

/** What the socket carries. In an object of its own, since uWebSockets.js copies the fields and drops the class. */
export interface Holder {
  connection: Connection;
}

export class Connection implements ClientSocket {
  /** Set by the endpoint right after the upgrade. */
  socket: uWS.WebSocket<Holder> | null = null;
  client!: Client;
  /** Null while it has yet to authenticate. */
  credential: Credential | null;
  /** Asked for `degraded`, `restored` and `migrate`. */
  notices: boolean;
  /** Made at the first message: most connections only listen. */
  messageRate: TokenBucket | null = null;
  commandRate: TokenBucket | null = null;
  /** Messages refused in a row for coming too fast. */
  refused = 0;
  /** The message being handled, and those waiting behind it. */
  working: Promise<void> | null = null;
  waiting = 0;
  #release: () => void;

  constructor(options: {
    credential: Credential | null;
    address: string;
    /** Speaks the newer protocol (`carrierarr.v1`). */
    modern: boolean;
    release: () => void;
  }) {
    this.credential = options.credential;
    this.address = options.address;
    this.modern = options.modern;
    this.notices = options.modern;
    this.#release = options.release;
  }

  readonly address: string;
  readonly modern: boolean;

  get closed(): boolean {
    return this.socket === null;
  }

  /** Sends a text frame, in bytes: binaries for Node.js 24 send some strings as Latin-1 (http/exchange.ts). False once there is backpressure. */
  send(frame: Buffer): boolean {
    return this.socket === null || this.socket.send(frame, false, false) === 1;
  }

  bufferedBytes(): number {
    return this.socket?.getBufferedAmount() ?? 0;
  }

  /** One message that is not output. Sent even if the socket is full: there are few, each an answer to a message. */
  tell(message: DistributiveOmit<ServerMessage, 'timestamp'>, nowMs = Date.now()): void {
    const { type, ...rest } = message;
    this.send(Buffer.from(JSON.stringify({ type, timestamp: timestampOf(nowMs), ...rest })));
  }

  /** An error for this client alone. */
  tellError(code: ErrorCode, error: string, more: Partial<Pick<ServerMessageOf<'error'>, 'target' | 'id'>> = {}): void {
    this.tell({ type: 'error', error, code, ...more });
  }

  /** Tells why, and closes with the error's close code. */
  refuse(code: ErrorCode, error: string): void {
    this.tellError(code, error);
    this.close(closeCodeOf(code), code);
  }

  /** Ends the connection after what is queued. Nothing of the socket may be used afterwards. */
  close(code: number, reason: string): void {
    this.socket?.end(code, reason);
  }

  /** The socket is gone. */
  gone(): void {
    this.socket = null;
    this.#release();
  }
}
