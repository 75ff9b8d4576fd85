/** `/health`, `/ready`, `/metrics` and `/version` for programs that serve nothing else over HTTP. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Registry } from 'prom-client';
import { type Address, printAddress } from './config/address.js';
import type { Readiness } from './health.js';
import type { Logger } from './logger.js';

export interface OpsServerOptions {
  readonly addr: Address;
  readonly readiness: Readiness;
  readonly metrics: Registry;
  readonly version: string;
  readonly logger: Logger;
  /** What is wrong though the program lives, in words: `/health` says so beside that it is healthy. */
  readonly problems?: () => readonly string[];
  /** How the address is set, for advice. */
  readonly flags?: string;
}

const CONNECTIONS_MAX = 64;
const REQUEST_TIMEOUT_MS = 5_000;

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

function json(status: number, value: unknown): Answer {
  return { status, type: 'application/json', body: JSON.stringify(value) };
}

export class OpsServer {
  readonly name = 'ops server';
  readonly #options: OpsServerOptions;
  #server: Server | null = null;

  constructor(options: OpsServerOptions) {
    this.#options = options;
  }

  /** Where it listens; the port is the real one when 0 was asked for. Throws before `start`. */
  get address(): Address {
    const bound = this.#server?.address() as AddressInfo | null | undefined;
    if (!bound) throw new Error('The ops server is not listening: call start() first.');
    return { host: bound.address, port: bound.port };
  }

  async start(): Promise<void> {
    const { addr, logger, flags = '--ops-addr (CARRIERARR_OPS_ADDR)' } = this.#options;
    const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS });
    server.maxConnections = CONNECTIONS_MAX;
    server.on('request', (request, response) => void this.#respond(request, response));
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause) => reject(listenError(addr, flags, cause)));
      // Without a host Node listens on every interface, IPv6 too where there is any.
      server.listen(addr.host === '' ? { port: addr.port } : { host: addr.host, port: addr.port }, resolve);
    });
    this.#server = server;
    logger.info({ address: printAddress(this.address) }, 'health and metrics are served');
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (!server) return;
    const closed = new Promise<void>((resolve) => void server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  }

  async #respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { status, type, body } = await this.#answer(request).catch((error: unknown) =>
      json(500, { error: `Could not answer: ${String(error)}` }),
    );
    response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
    response.end(request.method === 'HEAD' ? undefined : body);
  }

  async #answer({ method, url = '/' }: IncomingMessage): Promise<Answer> {
    const { readiness, metrics, version, problems = () => [] } = this.#options;
    if (method !== 'GET' && method !== 'HEAD') return json(405, { error: `Use GET, not ${method}.` });
    const path = url.split('?')[0];
    if (path === '/health') {
      const found = problems();
      return json(200, { status: 'healthy', ...(found.length > 0 && { problems: found }) });
    }
    if (path === '/version') return json(200, { version });
    if (path === '/metrics') return { status: 200, type: metrics.contentType, body: await metrics.metrics() };
    if (path === '/ready') {
      const report = readiness.ready();
      return json(report.ready ? 200 : 503, report);
    }
    return json(404, { error: 'Only /health, /ready, /metrics and /version are served here.' });
  }
}

function listenError(addr: Address, flags: string, cause: NodeJS.ErrnoException): Error {
  const reason = cause.code === 'EADDRINUSE' ? 'another program listens there' : cause.message;
  return new Error(
    `Cannot listen on ${printAddress(addr)} for health and metrics: ${reason}. Choose another address with ${flags}.`,
    { cause },
  );
}
