/** A runner in this process, and a client's view of what it does. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { createLogger, createMetrics, loadConfig, Readiness, redisSettings } from '@carrierarr/platform';
import { type Execution, Keys, type LogEvent } from '@carrierarr/protocol';
import { createRunner, runnerSchema, type RunnerOptions } from '@carrierarr/runner';
import {
  CommandStore,
  defineScripts,
  DrainQueue,
  ExecutionHistory,
  OutputLog,
  type Submission,
} from '@carrierarr/store';
import { expect, vi } from 'vitest';
import { metricValues } from '../support/metric.js';
import type { TestRedis } from '../support/redis.js';

/** Path of a fixture script. */
export const fixture = (name: string) => fileURLToPath(new URL(`./fixtures/${name}`, import.meta.url));

export const SCRIPT = fixture('script.sh');

/** What a gateway and a client would do. Each has a key prefix of its own. */
export function startClient(redis: TestRedis) {
  const prefix = `t${randomBytes(4).toString('hex')}`;
  const connection = redis.client();
  defineScripts(connection);
  const keys = new Keys(prefix);
  const history = { entriesMax: 100_000, bytesMax: 1 << 28, ageMaxMs: 3_600_000, executionsMs: 3_600_000 };
  const limits = { queueLengthMax: 1000, pendingTargetsMax: 64_000, idempotencyMs: 60_000 };
  const store = new CommandStore({ connection, keys, history, ...limits });
  const queue = new DrainQueue(connection, keys);
  const records = new ExecutionHistory(connection, keys);
  const log = new OutputLog(connection, keys);

  return {
    ...{ prefix, keys, connection, store, queue, records, log },

    async submit(target: string, command: string, args: string[] = [], overrides: Partial<Submission> = {}) {
      const base = { subject: 'tester', address: '127.0.0.1', gateway: 'test', idempotent: false };
      const answer = await store.submit({ ...base, target, command, args, ...overrides });
      if (answer.kind !== 'accepted') throw new Error(answer.kind);
      await queue.add(target);
      return answer.execution;
    },

    async ended(id: string, timeoutMs = 20_000): Promise<Execution> {
      return vi.waitFor(
        async () => {
          const execution = await records.get(id);
          expect(execution?.state).toBe('ended');
          return execution as Execution;
        },
        { timeout: timeoutMs, interval: 20 },
      );
    },

    async started(id: string): Promise<Execution> {
      return vi.waitFor(
        async () => {
          const execution = await records.get(id);
          expect(execution?.state).not.toBe('queued');
          return execution as Execution;
        },
        { timeout: 20_000, interval: 10 },
      );
    },

    /** Every line of a target as `<stream>:<text>`, and every event. */
    async output(target: string): Promise<{ lines: string[]; events: LogEvent[] }> {
      const lines: string[] = [];
      const events: LogEvent[] = [];
      for (let after = 0; ;) {
        const { entries, last } = await log.read(target, after, 1000);
        for (const { entry } of entries) {
          if (entry.kind === 'event') events.push(entry.event);
          else if (entry.kind === 'lines') {
            const texts = entry.body.toString('utf8').split('\n');
            for (const run of entry.runs)
              for (let i = 0; i < run.lines; i++) lines.push(`${run.stream}:${texts.shift()}`);
          }
        }
        after = entries.at(-1)?.last ?? last;
        if (after >= last) return { lines, events };
      }
    },

    /** Resolves when the target's output holds such a line. */
    async line(target: string, wanted: string | RegExp): Promise<string> {
      return vi.waitFor(
        async () => {
          const { lines } = await this.output(target);
          const found = lines.find((line) => (typeof wanted === 'string' ? line === wanted : wanted.test(line)));
          expect(found, `a line ${String(wanted)} in ${JSON.stringify(lines.slice(-20))}`).toBeDefined();
          return found as string;
        },
        { timeout: 20_000, interval: 20 },
      );
    },
  };
}

export type TestClient = ReturnType<typeof startClient>;

/** Starts a runner for a client's prefix. `flags` as on the command line. */
export async function startRunner(
  redis: TestRedis,
  client: TestClient,
  flags: string[] = [],
  more: Partial<RunnerOptions> = {},
) {
  const argv = [
    ...(flags.includes('--without-script') ? [] : ['--script', SCRIPT]),
    '--redis-url',
    redis.url,
    '--redis-key-prefix',
    client.prefix,
    '--shutdown-grace',
    '0',
    ...flags,
  ];
  const loaded = loadConfig({ program: 'runner', summary: '', schema: runnerSchema, argv, env: {} });
  if (loaded.kind !== 'config') throw new Error('help');
  const metrics = createMetrics({ program: 'runner', version: 'test', hasProcessMetrics: false });
  const readiness = new Readiness();
  const runner = createRunner({
    config: loaded.values,
    redisSettings: redisSettings(loaded.values),
    logger: createLogger({ program: 'runner', level: process.env['TEST_LOG'] ?? 'silent' }),
    ...{ metrics, readiness },
    ...more,
  });
  await runner.start();
  const metric = async (name: string, labels: Record<string, string> = {}) => {
    const [first] = await metricValues(metrics, `carrierarr_runner_${name}`, labels);
    return first?.value;
  };
  return { runner, readiness, metric, stop: () => runner.stop() };
}

/** True while a process with this id lives (a zombie does not). */
export async function isAlive(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  if (stat !== undefined) return !stat.slice(stat.lastIndexOf(')')).startsWith(') Z');
  try {
    process.kill(pid, 0);
    return process.platform !== 'linux';
  } catch {
    return false;
  }
}

const workspace = fileURLToPath(new URL('../..', import.meta.url));

/** Builds what a runner in a process of its own is made of. */
export function buildRunner(): void {
  execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', '-b', 'apps/runner'], { cwd: workspace });
}

/** A runner in a process of its own, to be killed and stopped. Call {@link buildRunner} first. */
export async function startRunnerProcess(
  redis: TestRedis,
  client: TestClient,
  flags: string[] = [],
): Promise<ChildProcess> {
  const argv = [
    ...(flags.includes('--without-script') ? [] : ['--script', SCRIPT]),
    '--redis-url',
    redis.url,
    '--redis-key-prefix',
    client.prefix,
    '--log-level',
    'warn',
    ...flags,
  ];
  const child = spawn(process.execPath, [fixture('runner-process.mjs'), ...argv], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (chunk) => String(chunk).includes('ready') && resolve());
    child.once('exit', (code) => reject(new Error(`the runner ended with ${code}`)));
  });
  return child;
}

/** Process ids in a line of the fixture script. */
export const pids = (line: string) => line.replace(/^\D+/, '').split(' ').map(Number);

/** Starts a script that forks, ignores SIGTERM and makes process groups; returns all of its processes. */
export async function stubborn(client: TestClient, target: string): Promise<{ id: string; all: number[] }> {
  const id = await client.submit(target, 'stubborn');
  const all = [...pids(await client.line(target, /pids/)), ...pids(await client.line(target, /grouped/))];
  expect(all).toHaveLength(3);
  for (const pid of all) expect(await isAlive(pid)).toBe(true);
  return { id, all };
}

/** Resolves when none of the processes lives. */
export async function allGone(all: readonly number[], withinMs: number): Promise<void> {
  await vi.waitFor(
    async () => {
      for (const pid of all) expect(await isAlive(pid), `process ${pid}`).toBe(false);
    },
    { timeout: withinMs, interval: 50 },
  );
}
