/**
 * One request and its response, safe to use over time. uWebSockets.js ends the process when a response is touched after
 * its client has gone, and a request object is dead as soon as its callback returns: so everything of the request is
 * read at once, and every write first asks whether anybody is still there.
 */
import { STATUS_CODES } from 'node:http';
import type { Clock } from '@carrierarr/platform';
import { ClientError } from '@carrierarr/protocol';
import type uWS from 'uWebSockets.js';
import type { RequestFacts } from '../access/guard.js';

/** What is kept of a piece for a client that has stopped to read, and how often it gets a byte of it. */
const KEPT_BYTES_MAX = 1024;
const DRIP_EVERY_MS = 3_000;

export type Headers = Readonly<Record<string, string>>;

export interface Answer {
  status: number;
  headers?: Headers;
  body?: string | Buffer;
  /** After this answer the connection is of no use (the rest of the request was not read). */
  closeConnection?: boolean;
}

/** The client has gone: there is nobody to answer. */
export class ClientGoneError extends Error {
  override name = 'ClientGoneError';
}

export class Exchange {
  readonly method: string;
  /** As it came: percent-encoded, without the query. */
  readonly path: string;
  /** As it came, without the question mark; may hold an access token. */
  readonly query: string;
  readonly contentType: string;
  /** Types that the client would like, as it wrote them. */
  readonly accept: string;
  readonly ifMatch: string;
  readonly ifNoneMatch: string;
  readonly facts: RequestFacts;
  /** On every answer, errors too. */
  readonly headers = new Map<string, string>();
  status = 0;
  readonly #res: uWS.HttpResponse;
  readonly #clock: Clock;
  readonly #body: Promise<Buffer>;
  readonly #onGone = new Set<() => void>();
  #state: 'open' | 'streaming' | 'ended' | 'gone' = 'open';
  #hasUnreadBody = false;
  #resume: (() => void) | undefined;

  /** In the callback of the request, before anything is awaited. */
  constructor(
    { res, req }: { res: uWS.HttpResponse; req: uWS.HttpRequest },
    { facts, bodyBytesMax, clock }: { facts: RequestFacts; bodyBytesMax: number; clock: Clock },
  ) {
    this.#res = res;
    this.#clock = clock;
    this.method = req.getCaseSensitiveMethod();
    this.path = req.getUrl();
    const query: string | undefined = req.getQuery();
    // Undefined when there is none, whatever the types say.
    this.query = query ?? '';
    this.contentType = req.getHeader('content-type');
    this.accept = req.getHeader('accept');
    this.ifMatch = req.getHeader('if-match');
    this.ifNoneMatch = req.getHeader('if-none-match');
    this.facts = facts;
    res.onAborted(() => this.#gone());
    this.#body = this.#collect(bodyBytesMax, req.getHeader('content-length'));
    // Most routes never ask for it.
    this.#body.catch(() => undefined);
  }

  get isGone(): boolean {
    return this.#state === 'gone';
  }

  /** Calls `listener` when the client goes away; at once if it has. */
  onGone(listener: () => void): void {
    if (this.#state === 'gone') listener();
    else this.#onGone.add(listener);
  }

  /** The whole body. Throws ClientError `message_too_large` and ClientGoneError. */
  body(): Promise<Buffer> {
    return this.#body;
  }

  /**
   * Answers as a whole, in bytes: of strings without characters beyond Latin-1 the binaries of uWebSockets.js for Node.js 24 and later
   * send just these, not UTF-8. Nothing happens if the client has gone or was answered.
   */
  answer({ status, headers = {}, body = '', closeConnection = false }: Answer): void {
    if (this.#state !== 'open') return;
    this.#state = 'ended';
    this.status = status;
    const isClosing = closeConnection || this.#hasUnreadBody;
    this.#res.cork(() => {
      this.#head(status, headers);
      if (this.method === 'HEAD') this.#res.endWithoutBody(Buffer.byteLength(body), isClosing);
      else this.#res.end(typeof body === 'string' ? Buffer.from(body) : body, isClosing);
    });
  }

  /** Begins an answer whose body follows in pieces. The client sees the head complete with the first of them. */
  begin(status: number, headers: Headers): void {
    if (this.#state !== 'open') return;
    this.#state = 'streaming';
    this.status = status;
    this.#res.onWritable(() => {
      this.#continue();
      return true;
    });
    this.#res.cork(() => this.#head(status, headers));
  }

  /**
   * Sends a piece. Resolves when the next one may follow, at once unless the client is slow. Throws ClientGoneError.
   *
   * uWebSockets.js gives a client up 10 s after a write that found no room, which is too soon for somebody who reads the
   * output in a pager. Each such write begins that time anew, so the end of a piece is sent only once there is room, and
   * until then byte by byte: enough for the better part of an hour.
   */
  async write(piece: string | Buffer): Promise<void> {
    let rest: Buffer = typeof piece === 'string' ? Buffer.from(piece) : piece;
    while (rest.length > 0) {
      const kept = Math.min(KEPT_BYTES_MAX, rest.length >> 1);
      const isTaken = this.#send(rest.subarray(0, rest.length - kept));
      rest = rest.subarray(rest.length - kept);
      if (isTaken) {
        // If there is no room for this, nothing is left to be sent slowly: that is up to the next piece.
        if (rest.length > 0) this.#send(rest);
        return;
      }
      rest = await this.#drip(rest);
    }
  }

  /** Waits for room while it sends byte by byte; resolves to what is left. */
  async #drip(bytes: Buffer): Promise<Buffer> {
    let rest = bytes;
    await new Promise<void>((resolve) => {
      const timer = this.#clock.setInterval(() => {
        if (rest.length === 0 || this.#state !== 'streaming') return;
        const isTaken = this.#send(rest.subarray(0, 1));
        rest = rest.subarray(1);
        // Only a write that finds no room begins the time anew. This one found some, so go on until one does not.
        if (isTaken) this.#continue();
      }, DRIP_EVERY_MS);
      this.#resume = () => {
        timer.cancel();
        resolve();
      };
    });
    return rest;
  }

  /** False: there was no room, and uWebSockets.js holds the bytes. Throws ClientGoneError. */
  #send(bytes: Buffer): boolean {
    if (this.#state !== 'streaming') throw new ClientGoneError();
    let isTaken = false;
    this.#res.cork(() => {
      isTaken = this.#res.write(bytes);
    });
    return isTaken;
  }

  /** Ends an answer that was begun; the client sees that it is complete. */
  end(): void {
    if (this.#state !== 'streaming') return;
    this.#state = 'ended';
    this.#res.cork(() => this.#res.end());
  }

  /** Breaks an answer that was begun off, so that the client sees that something is missing. */
  cut(): void {
    if (this.#state === 'streaming') this.#res.close();
  }

  #head(status: number, headers: Headers): void {
    this.#res.writeStatus(`${status} ${STATUS_CODES[status] ?? ''}`);
    for (const [name, value] of [...this.headers, ...Object.entries(headers)]) this.#res.writeHeader(name, value);
  }

  #collect(bytesMax: number, contentLength: string): Promise<Buffer> {
    const tooLarge = (bytes: string) =>
      new ClientError(
        'message_too_large',
        `The body has ${bytes} bytes; at most ${bytesMax} are accepted (--message-bytes-max).`,
      );
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      this.#onGone.add(() => reject(new ClientGoneError()));
      this.#hasUnreadBody = contentLength !== '' && contentLength !== '0';
      if (Number(contentLength) > bytesMax) {
        reject(tooLarge(contentLength));
        return;
      }
      this.#res.onData((chunk, isLast) => {
        bytes += chunk.byteLength;
        if (bytes > bytesMax) {
          this.#hasUnreadBody = !isLast;
          chunks.length = 0;
          reject(tooLarge(`more than ${bytesMax}`));
          return;
        }
        // A copy: the chunk's memory is gone after this callback.
        chunks.push(Buffer.from(new Uint8Array(chunk)));
        if (!isLast) return;
        this.#hasUnreadBody = false;
        resolve(Buffer.concat(chunks));
      });
    });
  }

  #gone(): void {
    this.#state = 'gone';
    for (const listener of this.#onGone) listener();
    this.#onGone.clear();
    this.#continue();
  }

  #continue(): void {
    const resume = this.#resume;
    this.#resume = undefined;
    resume?.();
  }
}
