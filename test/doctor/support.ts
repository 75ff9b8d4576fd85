/** `carrierarr doctor` run in this process, with its findings read back. */
import { createGateway, gatewaySchema } from '@carrierarr/gateway';
import { createLogger, createMetrics, loadConfig, Readiness, redisSettings, systemClock } from '@carrierarr/platform';
import { expect, onTestFinished, vi } from 'vitest';
import { FakeHost } from '../cli/fake-host.js';
import type { TestRedis } from '../support/redis.js';

export interface Finding {
  check: string;
  level: 'ok' | 'warn' | 'fail' | 'skip';
  seen: string;
  advice?: string;
}

export interface Examination {
  exitCode: number;
  findings: Finding[];
  /** All that was printed. */
  text: string;
  /** Those of one check, as `level: seen`. */
  of: (check: string) => string[];
  /** What to do about the first finding of a check that is not ok. */
  advice: (check: string) => string | undefined;
}

export async function examine(flags: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Examination> {
  const host = new FakeHost(env);
  const exitCode = await host.run('doctor', '-o', 'json', '--idle-seconds', '0', ...flags);
  const lines = host.stdout.text.split('\n').filter((line) => line !== '');
  const findings = lines.map((line) => JSON.parse(line) as Finding);
  return {
    ...{ exitCode, findings, text: host.stdout.text + host.stderr.text },
    of: (name) => findings.flatMap(({ check, level, seen }) => (check === name ? [`${level}: ${seen}`] : [])),
    advice: (name) => findings.find(({ check, level }) => check === name && level !== 'ok')?.advice,
  };
}

/** A whole gateway on a free port, until the test has ended. Resolves to its URL. */
export async function startGateway(redis: TestRedis, ...flags: string[]): Promise<string> {
  const argv = [
    '--redis-url',
    redis.url,
    '-addr',
    '127.0.0.1:0',
    '--drain-delay',
    '0s',
    '--drain-spread',
    '0s',
    ...flags,
  ];
  const loaded = loadConfig({ program: 'test', summary: '', schema: gatewaySchema, argv, env: {} });
  if (loaded.kind !== 'config') throw new Error(loaded.kind);
  const readiness = new Readiness();
  const gateway = createGateway({
    config: loaded.values,
    redisSettings: redisSettings(loaded.values),
    logger: createLogger({ program: 'test', level: 'silent', format: 'json' }),
    metrics: createMetrics({ program: 'test', version: '0', hasProcessMetrics: false }),
    readiness,
    clock: systemClock,
  });
  await gateway.start();
  onTestFinished(() => gateway.stop());
  // Until Redis has answered for the first time it counts as away.
  await vi.waitFor(() => expect(readiness.ready()).toMatchObject({ ready: true }));
  return `http://127.0.0.1:${gateway.address.port}`;
}
