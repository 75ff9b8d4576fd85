/**
 * Which web pages may talk to the gateway.
 *
 * A browser lets every page open a WebSocket to every address and says by `Origin` which page it was; a program that is
 * no browser sends none. So: no Origin is fine, a page the gateway itself served (same origin) is fine, all others must
 * be listed. On loopback without authentication nothing else protects the user from the pages he visits, hence two
 * rules more there. The `Host` must be a loopback name: a page of evil.example whose name was re-pointed at 127.0.0.1
 * (DNS rebinding) is same-origin by every other test. And pages of loopback origins, of any port, are let in: they come
 * from programs of this machine.
 *
 * Pure functions: facts in, refusal out.
 */
import { isLoopbackHost } from '@carrierarr/platform';
import { ClientError } from '@carrierarr/protocol';

export interface OriginRules {
  /** Exact origins as {@link normaliseOrigin} writes them, or `null`. */
  allowOrigins: readonly string[];
  /** The gateway asks for no token and only this machine can reach it. */
  isLoopbackAnonymous: boolean;
}

export interface OriginFacts {
  /** The header; empty if there is none. */
  origin: string;
  /** The header. */
  host: string;
  /** The client's side is TLS, as a trusted proxy says; undefined if none says anything. */
  isSecure: boolean | undefined;
}

const DEFAULT_PORTS: Readonly<Record<string, string>> = { 'http:': '80', 'https:': '443' };
const QUOTED_LENGTH_MAX = 200;

/** `HTTPS://Dash.Example:443` as `https://dash.example`; `null` as itself; undefined for what is no exact origin. */
export function normaliseOrigin(text: string): string | undefined {
  if (text === 'null') return text;
  const match = /^([a-z][a-z0-9+.-]*):\/\/([^/?#@*\s\\]+)$/i.exec(text);
  if (!match || !URL.canParse(text)) return undefined;
  const { protocol, hostname, port, host } = new URL(text);
  if (hostname === '') return undefined;
  return protocol in DEFAULT_PORTS ? `${protocol}//${hostname}${port && `:${port}`}` : `${protocol}//${host}`;
}

/** Host and port of a Host header, the port '' if it names none; undefined for what is none. */
function splitHost(header: string): { name: string; port: string } | undefined {
  const match = /^(\[[0-9a-f:.]+\]|[^[\]:/?#@\s\\]+)(?::(\d{1,5}))?$/i.exec(header);
  if (!match?.[1]) return undefined;
  return {
    name: match[1]
      .replace(/^\[|\]$/g, '')
      .toLowerCase()
      .replace(/\.$/, ''),
    port: match[2] ?? '',
  };
}

/** Why the Host is refused, or undefined. */
export function checkHost({ allowOrigins, isLoopbackAnonymous }: OriginRules, host: string): ClientError | undefined {
  if (!isLoopbackAnonymous) return undefined;
  const split = splitHost(host);
  if (split && isLoopbackHost(split.name)) return undefined;
  // Somebody who lists the origin https://dash.example has a proxy of that name in front.
  const isListed = (origin: string) => origin !== 'null' && hostnameOf(new URL(origin)) === split?.name;
  if (split && allowOrigins.some(isListed)) return undefined;
  return new ClientError(
    'host_refused',
    `Expected a Host such as localhost or 127.0.0.1, got ${quoted(host)}: without authentication this gateway answers ` +
      'this machine only. Use http://localhost and its port as the address. If a proxy on this machine passes that ' +
      'Host on, start the gateway with tokens (--tokens-file), or with --allow-origin and the origin of the page.',
  );
}

/** Why the Origin is refused, or undefined. */
export function checkOrigin(rules: OriginRules, facts: OriginFacts): ClientError | undefined {
  if (facts.origin === '') return undefined;
  const origin = normaliseOrigin(facts.origin);
  if (origin !== undefined && rules.allowOrigins.includes(origin)) return undefined;
  if (origin === 'null') {
    return new ClientError(
      'origin_refused',
      'This page has no origin of its own (the browser sends Origin: null), because it was opened as a file or runs in ' +
        'a sandboxed frame. Any website can make such a frame, so it is refused. Open the page over http:// instead, ' +
        'for example the one that `carrierarr up` serves at /, or start the gateway with --allow-origin null.',
    );
  }
  if (origin !== undefined && isSameOrigin(origin, facts)) return undefined;
  if (origin !== undefined && rules.isLoopbackAnonymous && isLoopbackOrigin(origin)) return undefined;
  return new ClientError(
    'origin_refused',
    `Pages of the origin ${quoted(facts.origin)} may not use this gateway, which was reached as ${quoted(facts.host)}. ` +
      `To allow them, start the gateway with --allow-origin ${origin ?? 'and the exact origin of the page'}.`,
  );
}

function isSameOrigin(origin: string, { host, isSecure }: OriginFacts): boolean {
  const url = new URL(origin);
  const defaultPort = DEFAULT_PORTS[url.protocol];
  const split = splitHost(host);
  if (defaultPort === undefined || !split) return false;
  // Where nobody says how the client came, TLS may have ended at a proxy, so a https page of the same host is the same.
  if (isSecure !== undefined && isSecure !== (url.protocol === 'https:')) return false;
  return hostnameOf(url) === split.name && (url.port || defaultPort) === (split.port || defaultPort);
}

function isLoopbackOrigin(origin: string): boolean {
  const url = new URL(origin);
  return url.protocol in DEFAULT_PORTS && isLoopbackHost(hostnameOf(url));
}

function hostnameOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, QUOTED_LENGTH_MAX));
}
