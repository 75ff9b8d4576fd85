/** compose.yaml: what it starts is what the images and the programs know, and all of it can be replaced under load. */
import { execFile } from 'node:child_process';
import { chmod, copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { agentSchema } from '@carrierarr/agent';
import { configEnvNames } from '@carrierarr/platform';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { gatewaySchema } from '../../apps/gateway/src/config.js';
import { monitorSchema } from '../../apps/monitor/src/monitor-config.js';
import { runnerSchema } from '../../apps/runner/src/config.js';
import { readRepository } from '../support/deploy-tools.js';
import { baseImages, buildImage, composeCommand, docker, dockerMissing, TEST_TAG } from '../support/docker.js';
import { parseJournal } from '../support/history.js';
import { checkHistory, summarise } from '../support/history-checker.js';
import { WORKSPACE } from '../support/programs.js';
import { Recorder } from '../support/recorder.js';
import { freePort } from '../support/redis.js';
import { until } from '../support/until.js';
import { COMMAND_ID, NewClient } from '../support/ws-clients.js';
import { compose, services } from './compose.js';

describe('compose.yaml', () => {
  test('has two of each component, behind one proxy, and a worker with an agent', () => {
    expect(services.map(([name, { scale }]) => [name, scale ?? 1])).toEqual([
      ['redis', 1],
      ['rabbitmq', 1],
      ['token', 1],
      ['gateway', 2],
      ['proxy', 1],
      ['runner', 2],
      ['monitor', 2],
      ['agent', 1],
    ]);
  });

  test.each(services)('%s may do no more than it must', (_, service) => {
    expect(service).toMatchObject({ read_only: true, cap_drop: ['ALL'], security_opt: ['no-new-privileges:true'] });
  });

  test.each(services)('%s has a version', (_, { image }) => {
    expect(image.replaceAll(/\$\{\w+:-([^}]+)\}/g, '$1')).toMatch(/^[\w/-]+:\d[\w.-]*$/);
  });

  test('builds targets that the Dockerfile has', () => {
    const targets = new Set(
      [...readRepository('Dockerfile').matchAll(/^FROM .+ AS ([\w-]+)$/gm)].map((match) => match[1]),
    );
    const built = services.flatMap(([, { build }]) => (build?.target === undefined ? [] : [build.target]));
    expect(built).toEqual(['gateway', 'gateway', 'runner', 'monitor', 'agent']);
    expect(built.filter((target) => !targets.has(target))).toEqual([]);
  });

  test('sets variables that the programs know', () => {
    const known = {
      gateway: configEnvNames(gatewaySchema),
      runner: configEnvNames(runnerSchema),
      monitor: configEnvNames(monitorSchema),
      agent: configEnvNames(agentSchema),
    };
    for (const [name, names] of Object.entries(known)) {
      const set = Object.keys(compose.services[name]?.environment ?? {}).filter((key) => key.startsWith('CARRIERARR_'));
      expect([name, set.filter((key) => !names.includes(key))]).toEqual([name, []]);
    }
  });

  test('lets in this machine alone, and nobody but its containers to Redis', () => {
    const ports = services.flatMap(([, service]) => service.ports ?? []);
    expect(ports.filter((port) => !port.startsWith('127.0.0.1:'))).toEqual([]);
    expect(compose.services['redis']?.networks).toEqual(['backend']);
    expect(compose.networks['backend']).toEqual({ internal: true });
    expect(compose.services['proxy']?.networks).toEqual(['frontend']);
    // Whoever runs programs on a worker reaches neither Redis nor the world.
    expect(compose.services['agent']?.networks).toEqual(['workers']);
    expect(compose.networks['workers']).toEqual({ internal: true });
    const peers = services.filter(([, { networks = [] }]) => networks.includes('workers')).map(([name]) => name);
    expect(peers).toEqual(['rabbitmq', 'monitor', 'agent']);
  });

  test('waits longer for a program to stop than that needs', () => {
    const seconds = (text = '') =>
      [...text.matchAll(/(\d+)([hms])/g)].reduce(
        (sum, [, n, unit]) => sum + Number(n) * { h: 3600, m: 60, s: 1 }[unit as 'h' | 'm' | 's'],
        0,
      );
    const grace = (name: string) => seconds(compose.services[name]?.stop_grace_period);
    expect(grace('gateway')).toBeGreaterThanOrEqual(30 + 5);
    expect(grace('runner')).toBeGreaterThanOrEqual(
      seconds(compose.services['runner']?.environment?.['CARRIERARR_SHUTDOWN_GRACE']) + 60,
    );
    expect(grace('monitor')).toBeGreaterThanOrEqual(25);
    expect(grace('agent')).toBeGreaterThanOrEqual(10 + 10);
  });
});

/** How long a container may take to be replaced on a busy machine: until its agent is back, commands for that are refused. */
const REPLACED_MS = 300_000;
/** The target that is a machine with an agent. */
const AGENT = 'agent-1';
const command = dockerMissing === undefined ? composeCommand() : undefined;
if (dockerMissing === undefined && command === undefined)
  console.warn('Skipped: a test of compose.yaml needs Docker Compose.');

describe.skipIf(command === undefined)('started by Docker Compose', () => {
  const TARGETS = ['worker-1', 'worker-2', 'worker-3', AGENT];
  const project = `carrierarr-test-${process.pid}`;
  let folder: string;
  let port: number;
  let token: string;
  let run: (...args: string[]) => Promise<string>;

  beforeAll(async () => {
    for (const role of ['gateway', 'runner', 'monitor', 'agent']) await buildImage(role);
    folder = await mkdtemp(join(tmpdir(), 'compose-'));
    // Scripts testify as whoever the image makes them.
    await chmod(folder, 0o777);
    await copyFile(join(WORKSPACE, 'test/fixtures/witness.sh'), join(folder, 'witness.sh'));
    await chmod(join(folder, 'witness.sh'), 0o755);
    await writeFile(join(folder, 'journal'), '');
    await chmod(join(folder, 'journal'), 0o666);
    port = await freePort();
    const [file, ...first] = command ?? ['docker'];
    const files = ['-f', 'compose.yaml', '-f', 'test/deploy/compose.override.yaml', '-p', project];
    const own = { ...baseImages(), CARRIERARR_TAG: TEST_TAG, CARRIERARR_PORT: String(port), WITNESS_DIR: folder };
    run = async (...args) => {
      const options = { cwd: WORKSPACE, env: { ...process.env, ...own }, maxBuffer: 16 * 1024 * 1024 };
      return (await promisify(execFile)(file, [...first, ...files, ...args], options)).stdout.trim();
    };
    await run('up', '--detach', '--no-build');
    token = (await run('run', '--rm', 'token')).split(/\s/).at(-1) ?? '';
  }, 20 * 60_000);

  afterAll(async () => {
    if (run !== undefined)
      await run('down', '--volumes', '--timeout', '5').catch((error: unknown) => console.error(error));
    if (folder) await rm(folder, { recursive: true, force: true });
  }, 120_000);

  const containers = async (service: string) =>
    (
      await docker(
        'ps',
        '--quiet',
        '--filter',
        `label=com.docker.compose.project=${project}`,
        '--filter',
        `label=com.docker.compose.service=${service}`,
      )
    ).split('\n');
  const isHealthy = async (id: string) => {
    const state = await docker(
      'inspect',
      '--format',
      '{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}',
      id,
    );
    return state === 'healthy' || state === 'running';
  };

  test(
    'every container can be replaced under load, and no client misses anything',
    async () => {
      const recorder = new Recorder();
      const url = `http://127.0.0.1:${port}`;
      await until('a gateway behind the proxy', async () => (await fetch(`${url}/health`)).ok, 60_000);
      const clients = await Promise.all(
        TARGETS.map((target, index) =>
          NewClient.connect({
            name: `client ${index + 1}`,
            urls: () => [url],
            token,
            recorder,
            targets: index === 0 ? '*' : [target, 'worker-1'],
            acceptedMs: REPLACED_MS,
          }),
        ),
      );
      let isStopped = false;
      const load = TARGETS.map(async (target, index) => {
        // One at a time: else a busy machine ends with a hundred of each target waiting, and the verdict waits for them.
        while (!isStopped) {
          const client = clients[index];
          const accepted =
            target === AGENT
              ? await client?.submitUntilAccepted(
                  target,
                  'exec',
                  '/witness/witness.sh',
                  'write',
                  COMMAND_ID,
                  100,
                  10,
                  0.02,
                )
              : await client?.submitUntilAccepted(target, 'write', 100, 10, 0.02);
          const execution = accepted?.execution ?? '';
          await until(`the outcome of ${execution}`, () => client?.session.outcomeOf(execution) !== undefined, 120_000);
        }
      });

      const replaced: string[] = [];
      for (const service of ['runner', 'gateway', 'monitor', 'rabbitmq', 'agent', 'proxy', 'redis']) {
        for (const id of await containers(service)) {
          await docker('restart', '--time', '60', id);
          await until(`${service} to be well again`, () => isHealthy(id), REPLACED_MS);
          const before = clients.map((client) => client.session.lineCount('worker-1'));
          const ofAgent = clients.at(-1)?.session.lineCount(AGENT) ?? 0;
          await until(
            `output of scripts and of the agent after ${service} was replaced`,
            () =>
              clients.every((client, index) => client.session.lineCount('worker-1') > (before[index] ?? 0) + 50) &&
              (clients.at(-1)?.session.lineCount(AGENT) ?? 0) > ofAgent + 50,
            120_000,
          );
          replaced.push(service);
        }
      }
      expect(replaced).toEqual([
        ...['runner', 'runner', 'gateway', 'gateway', 'monitor', 'monitor', 'rabbitmq', 'agent', 'proxy', 'redis'],
      ]);
      isStopped = true;
      await Promise.all(load);

      const journal = async () => parseJournal(await readFile(join(folder, 'journal'), 'utf8'));
      let pending: string | undefined;
      await until(
        () => `the history to come to rest: ${pending}`,
        async () => (pending = recorder.pending(await journal())) === undefined,
        60_000,
      );
      const report = checkHistory(recorder.history(await journal()));
      process.stdout.write(`${summarise('every container of compose.yaml replaced', report)}\n`);
      for (const client of clients) client.stop();
      expect(report.violations.slice(0, 20)).toEqual([]);
      expect(report).toMatchObject({ lost: 0, doubled: 0, reordered: 0, doubleExecutions: 0 });
      expect(report.executions).toBeGreaterThan(10);
      expect(
        (await journal()).filter((event) => event.kind === 'start' && event.target === AGENT).length,
      ).toBeGreaterThan(2);
    },
    20 * 60_000,
  );
});
