import { describe, expect, it } from 'vitest';
import { checkHost, checkOrigin, normaliseOrigin, type OriginRules } from '../../apps/gateway/src/access/origin.js';

const open: OriginRules = { allowOrigins: [], isLoopbackAnonymous: false };
const loopback: OriginRules = { allowOrigins: [], isLoopbackAnonymous: true };

function verdict(rules: OriginRules, origin: string, host: string, isSecure?: boolean): string {
  return checkOrigin(rules, { origin, host, isSecure })?.code ?? 'allowed';
}

describe('the Host on loopback without authentication', () => {
  it.each([
    'localhost',
    'localhost:8090',
    'LOCALHOST:1',
    'app.localhost:8090',
    '127.0.0.1',
    '127.9.8.7:80',
    '[::1]:8090',
    '[::1]',
    'localhost.:80',
  ])('may be %s', (host) => expect(checkHost(loopback, host)).toBeUndefined());
  it.each([
    ...['evil.example', 'evil.example:8090', 'localhost.evil.example', '127.0.0.1.evil.example', '127.0.0.1.nip.io:80'],
    ...[
      '',
      '10.0.0.1',
      '0.0.0.0:8090',
      '[::]:80',
      '[fe80::1]:80',
      'localhost:8090:1',
      'localhost@evil.example',
      'a b',
      '127.1',
      '2130706433',
    ],
  ])('may not be %j', (host) => expect(checkHost(loopback, host)?.code).toBe('host_refused'));

  it('may be that of an origin somebody listed, which is how a proxy on this machine is named', () => {
    const rules = { ...loopback, allowOrigins: ['https://dash.example', 'null'] };
    expect(checkHost(rules, 'dash.example')).toBeUndefined();
    expect(checkHost(rules, 'evil.example')?.code).toBe('host_refused');
  });
  it('does not matter elsewhere', () => expect(checkHost(open, 'anything.example')).toBeUndefined());
});

describe('the Origin', () => {
  it('may be missing, for programs that are no browser', () => {
    expect(verdict(open, '', 'gw.example')).toBe('allowed');
    expect(verdict(loopback, '', 'localhost')).toBe('allowed');
  });

  it.each([
    ['http://gw.example:8090', 'gw.example:8090'],
    ['https://gw.example', 'gw.example'],
    ['https://gw.example', 'gw.example:443'],
    ['http://gw.example', 'gw.example:80'],
    ['http://GW.Example:8090', 'gw.example:8090'],
    ['http://[::1]:8090', '[::1]:8090'],
  ])('%s may use the gateway reached as %s: the same origin', (origin, host) => {
    expect(verdict(open, origin, host)).toBe('allowed');
  });

  it.each([
    ['http://evil.example', 'gw.example'],
    ['http://gw.example.evil.example', 'gw.example'],
    ['http://gw.example:8091', 'gw.example:8090'],
    ['http://gw.example', 'gw.example:8090'],
    ['http://evil.example', ''],
    ['http://gw.example@evil.example', 'gw.example'],
    ['http://gw.example/evil', 'gw.example'],
    ['ftp://gw.example', 'gw.example'],
    ['chrome-extension://abc', 'gw.example'],
    ['file://', 'gw.example'],
    ['gw.example', 'gw.example'],
    ['NULL', 'gw.example'],
    ['http://localhost:3000', 'gw.example'],
    ['http://', 'gw.example'],
    ['http://*', 'gw.example'],
  ])('%s may not use the gateway reached as %s', (origin, host) => {
    expect(verdict(open, origin, host)).toBe('origin_refused');
  });

  it('must be of the scheme that a trusted proxy saw', () => {
    expect(verdict(open, 'http://gw.example', 'gw.example', true)).toBe('origin_refused');
    expect(verdict(open, 'https://gw.example', 'gw.example', true)).toBe('allowed');
    expect(verdict(open, 'https://gw.example', 'gw.example', false)).toBe('origin_refused');
  });

  it('may be any of the list, exactly', () => {
    const rules = { ...open, allowOrigins: ['https://dash.example', 'http://dev.example:3000', 'app://desk'] };
    expect(verdict(rules, 'https://dash.example', 'gw.example')).toBe('allowed');
    expect(verdict(rules, 'https://dash.example:443', 'gw.example')).toBe('allowed');
    expect(verdict(rules, 'app://desk', 'gw.example')).toBe('allowed');
    for (const origin of [
      'http://dash.example',
      'https://dash.example:444',
      'https://x.dash.example',
      'https://dash.example.evil.example',
      'null',
    ]) {
      expect([origin, verdict(rules, origin, 'gw.example')]).toEqual([origin, 'origin_refused']);
    }
  });

  it('of any loopback port may use a gateway of this machine, other websites may not', () => {
    for (const origin of [
      'http://localhost:3000',
      'https://127.0.0.1:1',
      'http://[::1]:5173',
      'http://app.localhost',
    ]) {
      expect([origin, verdict(loopback, origin, 'localhost:8090')]).toEqual([origin, 'allowed']);
    }
    for (const origin of [
      'https://evil.example',
      'http://localhost.evil.example',
      'http://10.0.0.1',
      'chrome-extension://localhost',
    ]) {
      expect([origin, verdict(loopback, origin, 'localhost:8090')]).toEqual([origin, 'origin_refused']);
    }
  });

  it('null is refused in words for the author of the page, unless it was allowed by that word', () => {
    for (const rules of [open, loopback]) {
      const refusal = checkOrigin(rules, { origin: 'null', host: 'localhost:8090', isSecure: undefined });
      expect(refusal?.code).toBe('origin_refused');
      expect(refusal?.message).toMatch(/opened as a file.*sandboxed frame.*--allow-origin null/);
      expect(verdict({ ...rules, allowOrigins: ['null'] }, 'null', 'localhost:8090')).toBe('allowed');
    }
  });

  it('is written in one way', () => {
    expect(normaliseOrigin('HTTPS://Dash.Example:443')).toBe('https://dash.example');
    for (const text of [
      'https://dash.example/',
      'https://*.example',
      'dash.example',
      '*',
      '',
      'https://',
      'https://a b',
    ]) {
      expect([text, normaliseOrigin(text)]).toEqual([text, undefined]);
    }
  });
});
