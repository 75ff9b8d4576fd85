/**
 * Small requests to services on this machine or next to it. By node:http and a connection for each: `fetch` costs several MB
 * of memory, and a connection that is kept would look like somebody who uses Ollama.
 */
import { type IncomingMessage, request as httpRequestOf } from 'node:http';
import { request as httpsRequestOf } from 'node:https';

const BODY_BYTES_MAX = 4 * 1024 * 1024;

export interface HttpAnswer {
  status: number;
  body: string;
}

export interface HttpRequest {
  method?: string;
  headers?: Record<string, string>;
  /** Sent as JSON. */
  json?: unknown;
  signal?: AbortSignal;
}

/** Resolves when the head of the answer is there. Rejects when there is none, and with the signal. */
export function openRequest(
  url: string,
  { method = 'GET', headers = {}, json, signal }: HttpRequest,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const isTls = url.startsWith('https:');
    const body = json === undefined ? undefined : JSON.stringify(json);
    const type = body === undefined ? {} : { 'content-type': 'application/json' };
    const options = { method, headers: { ...type, ...headers }, agent: false as const, ...(signal && { signal }) };
    const request = isTls ? httpsRequestOf(url, options, resolve) : httpRequestOf(url, options, resolve);
    request.once('error', reject);
    request.end(body);
  });
}

/** Rejects when there is no whole answer in time, or one that is far too large. */
export async function httpRequest(
  url: string,
  { timeoutMs, ...options }: Omit<HttpRequest, 'signal'> & { timeoutMs: number },
): Promise<HttpAnswer> {
  const response = await openRequest(url, { ...options, signal: AbortSignal.timeout(timeoutMs) });
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > BODY_BYTES_MAX) throw new Error(`Expected at most ${BODY_BYTES_MAX} bytes from ${url}, got more.`);
    chunks.push(chunk);
  }
  return { status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') };
}

/** The system's code of a failed request, such as ECONNREFUSED; `late` when its time was over. */
export function networkCode(error: unknown): string | undefined {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if (cause.name === 'TimeoutError') return 'late';
    if (cause instanceof AggregateError && cause.errors[0] !== undefined) return networkCode(cause.errors[0]);
    const { code } = cause as NodeJS.ErrnoException;
    if (typeof code === 'string' && code !== 'ABORT_ERR') return code;
  }
  return undefined;
}
