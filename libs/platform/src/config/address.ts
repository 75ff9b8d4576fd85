/**
 * Where to listen, or which host to reach: `host:port`. As in Go, `:8090` means every interface, which is a decision
 * with consequences (see promise A1), so it stays visible as an empty host instead of becoming `0.0.0.0`.
 */
import { isIP, isIPv4, isIPv6 } from 'node:net';

/** `host` is '' for every interface; an IPv6 host carries no brackets. `port` 0 asks the system for a free one. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

const PATTERN = /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d{1,5})$/;
const HOST_NAME = /^[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?$/;

/** `127.0.0.1:8090`, `[::1]:0`, `localhost:80` or `:8090`; undefined for anything else. */
export function parseAddress(text: string): Address | undefined {
  const match = PATTERN.exec(text);
  if (!match) return undefined;
  const [, bracketed, bare, digits] = match;
  const port = Number(digits);
  if (port > 65_535) return undefined;
  if (bracketed !== undefined) return isIPv6(bracketed) ? { host: bracketed, port } : undefined;
  const host = bare ?? '';
  if (host === '') return { host, port };
  // 127.0.0.300 has the shape of a host name, but nobody means one.
  if (/^[\d.]+$/.test(host) ? !isIPv4(host) : !HOST_NAME.test(host)) return undefined;
  return { host, port };
}

/** The text that `parseAddress` reads back. */
export function printAddress({ host, port }: Address): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}

/** True when only this machine can reach `host`. Every interface ('') is not loopback. */
export function isLoopbackHost(host: string): boolean {
  const name = host.toLowerCase();
  if (isIPv4(name)) return name.startsWith('127.');
  if (isIPv6(name)) return name === '::1' || name.startsWith('::ffff:127.');
  return name === 'localhost' || name.endsWith('.localhost');
}
