/** What went wrong between us and the gateway, in words that say what to do; and whether a repeat can help. */
import { STATUS_CODES } from 'node:http';
import { errorBodySchema } from '@carrierarr/protocol';
import { Failure } from '../exit.js';
import { visible } from '../terminal/visible.js';
import type { GatewayAccess } from './settings.js';

/** The gateway answered with an error, or nothing usable answered. */
export class GatewayFailure extends Failure {
  override readonly name = 'GatewayFailure';
  constructor(
    message: string,
    /** Code of the error table, `closed` (the WebSocket was), or `unreachable`. */
    readonly code: string,
    /** True if the same request may succeed soon. */
    readonly retryable: boolean,
    options?: ErrorOptions,
  ) {
    super(message, undefined, options);
  }
}

/** Errors of a connection that was never made, for a reason that does not go away by waiting a moment. */
const LASTING = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EACCES', 'EHOSTUNREACH', 'ENETUNREACH']);
const TLS = /^(CERT_|ERR_TLS|ERR_SSL|UNABLE_TO_|DEPTH_ZERO|SELF_SIGNED|EPROTO)/;

/** For an error of a socket or of `fetch`. */
export function unreachable({ url }: GatewayAccess, error: unknown): GatewayFailure {
  const root = rootCause(error);
  const code = (root as NodeJS.ErrnoException).code ?? '';
  const why =
    code === 'ECONNREFUSED'
      ? 'nothing listens there'
      : code === 'ENOTFOUND'
        ? 'there is no such host'
        : root.message || code;
  const advice = TLS.test(code)
    ? 'If its certificate is of your own authority, name that in NODE_EXTRA_CA_CERTS.'
    : 'Start one with `carrierarr up`, or name another with --url (CARRIERARR_URL).';
  const retryable = !LASTING.has(code) && !TLS.test(code);
  return new GatewayFailure(`Cannot reach a gateway at ${url}: ${why}. ${advice}`, 'unreachable', retryable, {
    cause: error,
  });
}

function rootCause(error: unknown): Error {
  let root = error instanceof Error ? error : new Error(String(error));
  // An AggregateError (one address after the other failed) has its reasons inside.
  for (;;) {
    const next: unknown = root instanceof AggregateError ? root.errors[0] : root.cause;
    if (!(next instanceof Error)) return root;
    root = next;
  }
}

/** For an HTTP answer that is an error, also to the request that would have become a WebSocket. */
export function refused({ url, token }: GatewayAccess, status: number, body: string): GatewayFailure {
  const parsed = errorBodySchema.safeParse(jsonOf(body));
  if (!parsed.success) {
    const retryable = status === 429 || (status >= 502 && status <= 504);
    return new GatewayFailure(
      `${url} answered ${status} ${STATUS_CODES[status] ?? ''}, which is not a gateway's answer. Check --url (CARRIERARR_URL).`,
      'unreachable',
      retryable,
    );
  }
  const { error, code, retryable } = parsed.data;
  return gatewayError({ url, token }, code, error, retryable);
}

/** True for a failure that the next request would meet, too, whatever it is about. */
export function isOfAll(error: Failure): boolean {
  return error instanceof GatewayFailure && ['unreachable', 'unauthenticated', 'unavailable'].includes(error.code);
}

/** For an error of the table, however it came: with what to do about a token. */
export function gatewayError(
  { url, token }: GatewayAccess,
  code: string,
  message: string,
  retryable: boolean,
): GatewayFailure {
  // It may quote what others wrote, and ends up on a terminal.
  const text = message.split('\n').map(visible).join('\n');
  const ways = '--token-file, CARRIERARR_TOKEN_FILE, CARRIERARR_TOKEN or `tokenFile` in the configuration file';
  if (code !== 'unauthenticated') return new GatewayFailure(`${url}: ${text}`, code, retryable);
  const advice =
    token === null
      ? `The gateway at ${url} wants a token. Give one with ${ways}.`
      : `The gateway at ${url} refused the token: ${text} Replace it (${ways}).`;
  return new GatewayFailure(advice, code, retryable);
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // Some proxy's page; the caller says so.
  }
}
