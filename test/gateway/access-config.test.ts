import { loadConfig } from '@carrierarr/platform';
import { describe, expect, it } from 'vitest';
import {
  gatewayIdOf,
  type GatewayConfig,
  gatewaySchema,
  historyBoundsOf,
  validateGatewayConfig,
} from '../../apps/gateway/src/config.js';

function load(...argv: string[]): GatewayConfig {
  const loaded = loadConfig({ program: 'carrierarr gateway', summary: '', schema: gatewaySchema, argv, env: {} });
  if (loaded.kind === 'help') throw new Error('help');
  return loaded.values;
}

function problem(...argv: string[]): string {
  try {
    validateGatewayConfig(load(...argv));
    return '';
  } catch (error) {
    return (error as Error).message;
  }
}

const jwt = ['--jwt-jwks-url', 'https://id.example/jwks', '--jwt-issuer', 'i', '--jwt-audience', 'a'];

describe('listening without authentication', () => {
  it.each([
    [[]],
    [['-addr', '127.0.0.1:0']],
    [['-addr', '[::1]:8090']],
    [['--addr', 'localhost:8090']],
    [['--addr', '127.8.8.8:1']],
  ])('is fine on loopback: %j', (argv) => expect(problem(...argv)).toBe(''));

  it.each([':8090', '0.0.0.0:8090', '[::]:8090', '192.168.1.5:8090', 'gw.example:8090'])(
    'is refused on %s, naming the ways out',
    (addr) => {
      const message = problem('-addr', addr);
      expect(message).toContain(`-addr ${addr}`);
      for (const way of [
        '--tokens-file',
        '--jwt-jwks-url',
        '--jwt-issuer',
        '--jwt-audience',
        '--allow-anonymous',
        '-addr 127.0.0.1:8090',
      ]) {
        expect(message).toContain(way);
      }
      expect(message.includes('every address')).toBe(addr === ':8090');
    },
  );

  it('is possible in so many words, or with tokens of either kind', () => {
    expect(problem('-addr', ':8090', '--allow-anonymous')).toBe('');
    expect(problem('-addr', ':8090', '--tokens-file', '/t')).toBe('');
    expect(problem('-addr', ':8090', ...jwt)).toBe('');
    expect(problem('--tokens-file', '/t', '--allow-anonymous')).toMatch(/Keep one of them/);
  });
});

it('JSON Web Tokens need an issuer, an audience, and one trustworthy source of keys', () => {
  expect(problem('--jwt-jwks-file', '/k')).toMatch(/`--jwt-issuer` is missing.*\n.*`--jwt-audience` is missing/);
  expect(problem('--jwt-issuer', 'i')).toMatch(/no keys/);
  expect(problem(...jwt, '--jwt-jwks-file', '/k')).toMatch(/Keep one/);
  expect(problem('--jwt-jwks-url', 'http://id.example/', ...jwt.slice(2))).toMatch(/begin with https/);
  expect(problem('--jwt-jwks-url', 'http://127.0.0.1:1/', ...jwt.slice(2))).toBe('');
});

it('bounds that contradict each other are refused', () => {
  expect(problem('--shutdown-grace', '10s')).toMatch(/--shutdown-grace/);
  expect(problem('--unauthenticated-timeout', '2m')).toMatch(/--idle-timeout/);
});

it.each([
  ['--idle-timeout', '7s'],
  ['--idle-timeout', '17m'],
  ['--allow-origin', '*'],
  ['--allow-origin', 'https://dash.example/app'],
  ['--trusted-proxies', '10.0.0.0/33'],
  ['--trusted-proxies', 'proxy.example'],
  ['--commands-per-second', '0'],
])('%s %s is refused', (flag, value) => {
  expect(() => load(flag, value)).toThrow(flag);
});

it('origins and networks are lists', () => {
  const config = load(
    '--allow-origin',
    'HTTPS://Dash.example:443,null',
    '--trusted-proxies',
    '10.0.0.0/8',
    '--trusted-proxies',
    '::1',
  );
  expect(config.allowOrigin).toEqual(['https://dash.example', 'null']);
  expect(config.trustedProxies).toEqual(['10.0.0.0/8', '::1']);
});

it('a gateway has a name of its own, and the history bounds of the configuration', () => {
  expect(gatewayIdOf(load('--gateway-id', 'gw-1'))).toBe('gw-1');
  expect(gatewayIdOf(load())).not.toBe(gatewayIdOf(load()));
  expect(historyBoundsOf(load('--history-age', '1h'))).toMatchObject({ bytesMax: 64 * 1024 ** 2, ageMaxMs: 3_600_000 });
});
