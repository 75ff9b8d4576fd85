/** A gateway with an address for operators beside that for clients. */
import { createGateway, gatewaySchema } from '@carrierarr/gateway';
import { createLogger, createMetrics, loadConfig, Readiness, redisSettings, systemClock } from '@carrierarr/platform';
import { describe, expect, onTestFinished, test } from 'vitest';
import { validateGatewayConfig } from '../../apps/gateway/src/config.js';
import { freePort, startRedis } from '../support/redis.js';

const configOf = (...argv: string[]) => {
  const loaded = loadConfig({ program: 'carrierarr gateway', summary: '', schema: gatewaySchema, argv, env: {} });
  if (loaded.kind !== 'config') throw new Error(loaded.kind);
  return loaded.values;
};

/** Where it listens for clients. */
async function started(...argv: string[]): Promise<{ url: string; stop: () => Promise<void> }> {
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  const drain = ['--drain-delay', '0s', '--drain-spread', '0s'];
  const config = configOf('-addr', '127.0.0.1:0', '--redis-url', redis.url, ...drain, ...argv);
  const gateway = createGateway({
    ...{ config, redisSettings: redisSettings(config), readiness: new Readiness(), clock: systemClock },
    logger: createLogger({ program: 'test', level: 'silent', format: 'json' }),
    metrics: createMetrics({ program: 'test', version: '0', hasProcessMetrics: false }),
  });
  await gateway.start();
  let isStopped = false;
  const stop = async () => {
    if (!isStopped) await gateway.stop();
    isStopped = true;
  };
  onTestFinished(stop);
  return { url: `http://127.0.0.1:${gateway.address.port}`, stop };
}

const PATHS = ['/health', '/ready', '/metrics', '/version', '/api/v1/targets'];
const answers = (url: string) =>
  Promise.all(PATHS.map(async (path) => `${path} ${(await fetch(`${url}${path}`)).status}`));

describe('a gateway', () => {
  test('serves readiness and metrics to clients where it has one address', async () => {
    const { url } = await started();
    expect(await answers(url)).toEqual(PATHS.map((path) => `${path} 200`));
  });

  test('serves them at the address for operators alone where it has one, until it has stopped', async () => {
    const ops = `http://127.0.0.1:${await freePort()}`;
    const { url, stop } = await started('--ops-addr', ops.replace('http://', ''));
    const [health, ready, metrics, version, targets] = PATHS;
    expect(await answers(url)).toEqual([
      ...[`${health} 200`, `${ready} 404`, `${metrics} 404`, `${version} 200`, `${targets} 200`],
    ]);
    expect(await answers(ops)).toEqual([
      ...[`${health} 200`, `${ready} 200`, `${metrics} 200`, `${version} 200`, `${targets} 404`],
    ]);
    expect(await (await fetch(`${ops}/metrics`)).text()).toContain('carrierarr_gateway_connections 0');
    await stop();
    await expect(fetch(`${ops}/health`)).rejects.toThrow('fetch failed');
  });

  test('says by which flag the address for operators is chosen, where that is taken, and holds nothing back', async () => {
    const { url } = await started();
    const taken = url.replace('http://', '');
    await expect(started('--ops-addr', taken)).rejects.toThrow(
      `Cannot listen on ${taken} for health and metrics: another program listens there. Choose another address with --ops-addr.`,
    );
  });

  test.each([
    [':8090', ':8090', true],
    ['127.0.0.1:8090', ':8090', true],
    ['127.0.0.1:8090', '127.0.0.1:8090', true],
    ['127.0.0.1:8090', '127.0.0.2:8090', false],
    [':8090', ':9091', false],
    [':0', ':0', false],
  ])('with %s for clients and %s for operators is refused: %s', (addr, opsAddr, isRefused) => {
    const validate = () => validateGatewayConfig(configOf('-addr', addr, '--ops-addr', opsAddr, '--tokens-file', '/t'));
    if (isRefused) expect(validate).toThrow('`-addr` and `--ops-addr` both have port 8090');
    else expect(validate).not.toThrow();
  });

  test('takes it from no variable, as that is for other programs in the same image', () => {
    const env = { CARRIERARR_OPS_ADDR: ':9091' };
    const options = { program: 'carrierarr gateway', summary: '', schema: gatewaySchema, argv: [], env };
    const loaded = loadConfig({ ...options, knownEnv: Object.keys(env) });
    expect(loaded.kind === 'config' && loaded.values.opsAddr).toBe(null);
  });
});
