import { limitKeyOf, TokenBucket, TokenBuckets } from '@carrierarr/platform';
import { describe, expect, it } from 'vitest';
import {
  addressOfBytes,
  canonicalAddress,
  clientAddress,
  parseCidr,
  trustedProxies,
} from '../../apps/gateway/src/access/client-address.js';
import { ConnectionLimits } from '../../apps/gateway/src/access/connection-limits.js';

describe('the address of a client', () => {
  const isTrusted = trustedProxies(['10.0.0.0/8', '192.0.2.7', 'fd00::/8']);

  it.each([
    ['peer that is no proxy', '203.0.113.9', '1.2.3.4', '203.0.113.9'],
    ['proxy that says nothing', '10.1.1.1', '', '10.1.1.1'],
    ['proxy', '10.1.1.1', '203.0.113.9', '203.0.113.9'],
    ['chain of proxies', '10.1.1.1', '203.0.113.9, 192.0.2.7, 10.2.2.2', '203.0.113.9'],
    ['lie of the client before the proxy', '10.1.1.1', '127.0.0.1, 6.6.6.6, 203.0.113.9', '203.0.113.9'],
    ['garbage in the chain', '10.1.1.1', '203.0.113.9, unknown, 10.2.2.2', '10.2.2.2'],
    ['only proxies', '10.1.1.1', '10.3.3.3,10.2.2.2', '10.3.3.3'],
    ['port and brackets', 'fd00::1', '[2001:DB8::1]:4711', '2001:db8::1'],
    ['IPv4 with a port', '10.1.1.1', '203.0.113.9:1234', '203.0.113.9'],
  ])('is told of a %s', (_, peer, forwarded, expected) => {
    expect(clientAddress(peer, forwarded, isTrusted)).toBe(expected);
  });

  it('is the peer if no proxy is trusted, whatever a header says', () => {
    expect(clientAddress('127.0.0.1', '6.6.6.6', trustedProxies([]))).toBe('127.0.0.1');
  });

  it('is read from bytes, IPv4 within IPv6 as IPv4', () => {
    const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, 'hex')).buffer;
    expect(addressOfBytes(bytes('7f000001'))).toBe('127.0.0.1');
    expect(addressOfBytes(bytes('00000000000000000000ffff0a000001'))).toBe('10.0.0.1');
    expect(addressOfBytes(bytes('20010db8000000000000000000000001'))).toBe('2001:db8::1');
    expect(addressOfBytes(bytes(''))).toBe('');
    expect(canonicalAddress('::ffff:10.0.0.1')).toBe('10.0.0.1');
    expect(canonicalAddress('fe80::1%eth0')).toBeUndefined();
  });

  it('is counted per IPv4 address, and per /64 of IPv6', () => {
    expect(limitKeyOf('203.0.113.9')).toBe('203.0.113.9');
    expect(limitKeyOf('2001:db8:1:2:3:4:5:6')).toBe('2001:db8:1:2::/64');
    expect(limitKeyOf('2001:db8::6')).toBe('2001:db8:0:0::/64');
    expect(limitKeyOf('::1')).toBe('0:0:0:0::/64');
  });

  it.each(['10.0.0.0/33', '::/129', 'a/8', '10.0.0.0/', '10.0.0/8', '', '::1%lo'])('%j is no network', (text) => {
    expect(parseCidr(text)).toBeUndefined();
  });
});

describe('a rate', () => {
  it('lets a burst through and then so many per second', () => {
    const bucket = new TokenBucket({ perSecond: 10, burst: 3 }, 0);
    expect([bucket.take(0), bucket.take(0), bucket.take(0), bucket.take(0)]).toEqual([true, true, true, false]);
    expect(bucket.waitMs(0)).toBe(100);
    expect(bucket.take(99)).toBe(false);
    expect(bucket.take(100)).toBe(true);
    expect(bucket.take(100)).toBe(false);
    expect([1, 2, 3, 4].map(() => bucket.take(60_000))).toEqual([true, true, true, false]);
    expect([3, 2, 1].map((count) => bucket.take(60_200, count))).toEqual([false, true, false]);
  });

  it('is not gained by a clock that goes back', () => {
    const bucket = new TokenBucket({ perSecond: 1, burst: 1 }, 1000);
    expect(bucket.take(1000)).toBe(true);
    expect(bucket.take(0)).toBe(false);
    expect(bucket.take(1500)).toBe(false);
    expect(bucket.take(2000)).toBe(true);
  });

  it('is kept for each client apart, for a bounded number of them', () => {
    const buckets = new TokenBuckets({ perSecond: 1, burst: 1 });
    expect(buckets.take('a', 0)).toBe(0);
    expect(buckets.take('a', 0)).toBe(1000);
    expect(buckets.take('b', 0)).toBe(0);
    for (let i = 0; i < 30_000; i += 1) buckets.take(`k${i}`, 0);
    expect(buckets.take('k29999', 0)).toBe(1000);
    expect(buckets.take('a', 0)).toBe(0);
  });
});

describe('connection limits', () => {
  it('count in all and per address, and give back once', () => {
    const limits = new ConnectionLimits({ connectionsMax: 3, connectionsPerAddressMax: 2 });
    const release = limits.admit('10.0.0.1');
    limits.admit('10.0.0.1');
    expect(() => limits.admit('10.0.0.1')).toThrow(/2 connections from 10\.0\.0\.1.*--trusted-proxies/);
    limits.admit('10.0.0.2');
    expect(() => limits.admit('10.0.0.3')).toThrow(/3 connections.*--connections-max/);
    release();
    release();
    expect(limits.total).toBe(2);
    limits.admit('10.0.0.1');
    expect(() => limits.admit('10.0.0.4')).toThrow(/--connections-max/);
  });
});
