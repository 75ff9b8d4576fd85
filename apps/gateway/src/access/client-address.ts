/**
 * Where a client is. The peer of the socket may be a proxy; what it says in X-Forwarded-For is believed only if the
 * proxy is trusted, and read from the right, because whatever a client itself put there stands on the left.
 */
import { BlockList, isIP, isIPv4 } from 'node:net';

/** Hops looked at, from the right. */
const HOPS_MAX = 32;
const MAPPED_PREFIX = Buffer.from('00000000000000000000ffff', 'hex');

/** The parts of `10.0.0.0/8`, or of an address alone; undefined for anything else. */
export function parseCidr(text: string): { address: string; prefix: number; family: 'ipv4' | 'ipv6' } | undefined {
  const match = /^([^/%]+)(?:\/(\d{1,3}))?$/.exec(text);
  const address = match?.[1] ?? '';
  const bits = isIP(address) === 4 ? 32 : 128;
  const prefix = match?.[2] === undefined ? bits : Number(match[2]);
  if (isIP(address) === 0 || prefix > bits) return undefined;
  return { address, prefix, family: bits === 32 ? 'ipv4' : 'ipv6' };
}

/** A predicate for addresses in one of the networks. Throws a TypeError for what {@link parseCidr} does not read. */
export function trustedProxies(networks: readonly string[]): (address: string) => boolean {
  const list = new BlockList();
  for (const network of networks) {
    const cidr = parseCidr(network);
    if (!cidr) throw new TypeError(`Expected a network such as 10.0.0.0/8, got ${JSON.stringify(network)}.`);
    list.addSubnet(cidr.address, cidr.prefix, cidr.family);
  }
  return (address) =>
    networks.length > 0 && isIP(address) !== 0 && list.check(address, isIPv4(address) ? 'ipv4' : 'ipv6');
}

/** The text of 4 or 16 bytes of an address; IPv4 within IPv6 as IPv4. Empty for anything else. */
export function addressOfBytes(bytes: ArrayBuffer): string {
  const octets = Buffer.from(bytes);
  if (octets.length === 4) return `${octets[0]}.${octets[1]}.${octets[2]}.${octets[3]}`;
  if (octets.length !== 16) return '';
  if (octets.subarray(0, 12).equals(MAPPED_PREFIX)) return octets.subarray(12).join('.');
  const groups = Array.from({ length: 8 }, (_, i) => octets.readUInt16BE(i * 2).toString(16));
  return canonicalAddress(groups.join(':')) ?? '';
}

/** One way of writing an address, without a port or brackets; undefined for what is none. */
export function canonicalAddress(text: string): string | undefined {
  const trimmed = text.trim();
  const bare = /^\[([^\]]+)\](?::\d+)?$/.exec(trimmed)?.[1] ?? /^([\d.]+):\d+$/.exec(trimmed)?.[1] ?? trimmed;
  if (isIPv4(bare)) return bare;
  if (isIP(bare) !== 6 || bare.includes('%')) return undefined;
  const compressed = new URL(`http://[${bare}]`).hostname.slice(1, -1);
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(compressed);
  if (!mapped) return compressed;
  const [high, low] = [Number.parseInt(mapped[1] ?? '', 16), Number.parseInt(mapped[2] ?? '', 16)];
  return [high >> 8, high & 255, low >> 8, low & 255].join('.');
}

/**
 * The client's address: the peer, unless it is a trusted proxy; then the nearest hop of X-Forwarded-For that is not one.
 * `forwardedFor` is every such header joined by commas, for proxies that add a line of their own.
 */
export function clientAddress(peer: string, forwardedFor: string, isTrusted: (address: string) => boolean): string {
  if (forwardedFor === '' || !isTrusted(peer)) return peer;
  let nearest = peer;
  for (const hop of forwardedFor.split(',').slice(-HOPS_MAX).toReversed()) {
    const address = canonicalAddress(hop);
    // What a trusted proxy wrote that is no address leaves unknown who came before it.
    if (address === undefined) return nearest;
    nearest = address;
    if (!isTrusted(address)) return nearest;
  }
  return nearest;
}
