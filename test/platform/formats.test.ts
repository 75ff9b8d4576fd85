import {
  isLoopbackHost,
  parseAddress,
  parseByteSize,
  parseDuration,
  printAddress,
  printByteSize,
  printDuration,
} from '@carrierarr/platform';
import { assert, nat, property } from 'fast-check';
import { describe, expect, it } from 'vitest';

describe('durations', () => {
  it.each([
    ['30s', 30_000],
    ['2m', 120_000],
    ['1h30m', 5_400_000],
    ['500ms', 500],
    ['1.5h', 5_400_000],
    ['0.1s', 100],
    ['0', 0],
    ['0s', 0],
    ['1h0m0.5s', 3_600_500],
  ])('%s is %i ms', (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });

  it.each(['30', '', 's', '-1s', '1 s', '1d', '0.5ms', '1e3s', '5S', '1s2', '99999999999999h'])(
    '"%s" is none',
    (text) => {
      expect(parseDuration(text)).toBeUndefined();
    },
  );

  it('print as text that reads back', () => {
    assert(
      property(nat(2 ** 40), (ms) => {
        expect(parseDuration(printDuration(ms))).toBe(ms);
      }),
    );
  });
});

describe('sizes', () => {
  it.each([
    ['65536', 65_536],
    ['64KiB', 65_536],
    ['16MiB', 16_777_216],
    ['1.5KiB', 1_536],
    ['10B', 10],
  ])('%s is %i bytes', (text, bytes) => {
    expect(parseByteSize(text)).toBe(bytes);
  });

  it.each(['', '64KB', '64k', '-1', '0.3KiB', '1 KiB', '64kib', '1e3'])('"%s" is none', (text) => {
    expect(parseByteSize(text)).toBeUndefined();
  });

  it('print as text that reads back', () => {
    assert(
      property(nat(2 ** 45), (bytes) => {
        expect(parseByteSize(printByteSize(bytes))).toBe(bytes);
      }),
    );
  });
});

describe('addresses', () => {
  it.each([
    [':8090', { host: '', port: 8090 }],
    ['127.0.0.1:0', { host: '127.0.0.1', port: 0 }],
    ['[::1]:0', { host: '::1', port: 0 }],
    ['redis_1.example:6379', { host: 'redis_1.example', port: 6379 }],
  ])('%s is read and printed', (text, address) => {
    expect(parseAddress(text)).toEqual(address);
    expect(printAddress(address)).toBe(text);
  });

  it.each([
    '8090',
    'localhost',
    '::1:80',
    '[::1]',
    '[nope]:1',
    '127.0.0.300:1',
    'a b:1',
    ':65536',
    ':',
    '-x:1',
    'h:+1',
  ])('"%s" is none', (text) => {
    expect(parseAddress(text)).toBeUndefined();
  });

  it('are loopback only where no other machine gets in', () => {
    expect(['127.0.0.1', '127.9.9.9', '::1', 'localhost', 'a.localhost'].map(isLoopbackHost)).not.toContain(false);
    expect(
      ['', '0.0.0.0', '::', '10.0.0.1', 'localhost.example', '127.0.0.1.example'].map(isLoopbackHost),
    ).not.toContain(true);
  });
});
