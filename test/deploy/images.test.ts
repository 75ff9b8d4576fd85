/** The images do what their programs do, as somebody who is not root, may write nothing and has no capability. */
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildImage, docker, dockerEnv, dockerMissing, HARDENED, removeContainers } from '../support/docker.js';
import { LOGGED_PORT, type Program, startProgram } from '../support/programs.js';
import { type TestRedis, startRedis } from '../support/redis.js';
import { protocolsWith, Socket, wsUrl } from '../support/ws-clients.js';

const ROLES = ['gateway', 'runner', 'monitor', 'all-in-one'] as const;
const LABEL = 'carrierarr-test=images';
const BUILD_MS = 20 * 60_000;
/** Docker is slow to start containers on a busy machine. */
const START_MS = 180_000;
const TOKEN = 'a-token-for-tests-only';
const SCRIPT = '/opt/carrierarr/scripts/mock-worker.sh';

describe.skipIf(dockerMissing !== undefined)('an image', () => {
  let redis: TestRedis;
  let folder: string;
  const images = new Map<string, string>();

  beforeAll(async () => {
    for (const role of ROLES) images.set(role, await buildImage(role));
    redis = await startRedis();
    folder = await mkdtemp(join(tmpdir(), 'images-'));
    await chmod(folder, 0o755);
    await writeFile(join(folder, 'tokens'), `tester ${TOKEN}\n`);
  }, BUILD_MS);

  afterAll(async () => {
    await removeContainers(LABEL);
    await redis?.stop();
    if (folder) await rm(folder, { recursive: true, force: true });
  }, 300_000);

  /** `docker run` of a role in the foreground, in the network of the test; signals reach it, and its exit code comes back. */
  function start(role: string, args: readonly string[], options: readonly string[] = []): Program {
    const run = ['run', '--rm', '--label', LABEL, '--network', 'host', '--volume', `${folder}:/test:ro`, ...HARDENED];
    const launch = ['docker', ...run, ...options, images.get(role) ?? role] as const;
    const loopback = role === 'gateway' || role === 'all-in-one' ? '--addr' : '--ops-addr';
    const all = [...args, loopback, '127.0.0.1:0', '--log-format', 'json'];
    return startProgram({ name: role, launch: [...launch], args: all, listens: LOGGED_PORT, env: dockerEnv() });
  }
  const withRedis = () => ['--redis-url', redis.url];
  const inside = (role: string, script: string) =>
    docker(
      'run',
      '--rm',
      '--label',
      LABEL,
      ...HARDENED,
      '--entrypoint',
      'bash',
      images.get(role) ?? role,
      '-c',
      script,
    );

  test.each(ROLES)('%s says what it is, and that it is nobody special', async (role) => {
    const text = await docker('image', 'inspect', images.get(role) ?? role);
    const [{ Config }] = JSON.parse(text) as [
      { Config: { User: string; Entrypoint: string[]; Labels: Record<string, string> } },
    ];
    expect(Config).toMatchObject({ User: '10001:10001', Entrypoint: ['/usr/bin/tini', '--', 'carrierarr'] });
    for (const label of ['title', 'description', 'version', 'revision', 'licenses']) {
      expect(Config.Labels[`org.opencontainers.image.${label}`]).toMatch(/./);
    }
  });

  test.each(ROLES)(
    '%s has no compiler and no installer of packages for Node.js, one binary of uWebSockets.js, no secrets',
    async (role) => {
      const found = await inside(
        role,
        'command -v gcc cc g++ make npm npx corepack yarn; ls /opt/carrierarr/node_modules/uWebSockets.js/*.node | wc -l; find / -xdev -name .npmrc -o -xdev -name "id_*" -path "*/.ssh/*" 2>/dev/null || true',
      );
      expect(found).toBe('1');
    },
    60_000,
  );

  test.each(ROLES)(
    '%s may write to /tmp alone, as 10001 and without any capability',
    async (role) => {
      const said = await inside(
        role,
        'id -u; grep CapEff /proc/self/status | cut -f2; touch /opt/carrierarr/x /home/carrierarr/x 2>&1 | grep -c "Read-only"; touch /tmp/x && echo written',
      );
      expect(said.split('\n')).toEqual(['10001', '0000000000000000', '2', 'written']);
    },
    60_000,
  );

  test('runner has what control scripts need', async () => {
    const said = await inside(
      'runner',
      'for it in bash jq curl ssh aws; do command -v $it || echo "no $it"; done; aws --version',
    );
    expect(said).not.toMatch(/^no /m);
    expect(said).toContain('aws-cli/2');
  }, 300_000);

  test('gateway, runner and monitor pass a command and its output through a WebSocket, and stop in time under a client', async () => {
    const gateway = start('gateway', [
      ...['gateway', ...withRedis(), '--tokens-file', '/test/tokens', '--drain-delay', '1s', '--drain-spread', '1s'],
      ...['--shutdown-grace', '10s'],
    ]);
    const runner = start(
      'runner',
      ['runner', ...withRedis(), '--script', SCRIPT, '--shutdown-grace', '30s'],
      [...['--tmpfs', '/home/carrierarr:uid=10001,gid=10001', '--env', 'MOCK_WORKER_SPEED=5']],
    );
    const monitor = start('monitor', ['monitor', ...withRedis()]);
    for (const program of [gateway, runner, monitor]) await program.ready(START_MS);

    const lines: string[] = [];
    const client = new Socket(wsUrl(gateway.url), {
      protocols: protocolsWith(TOKEN),
      onMessage: ({ type, data }) => type === 'stdout' && lines.push(String(data)),
    });
    await client.opened();
    client.send({ type: 'command', command: 'start', target: 'worker-1', id: 'one' });
    const result = await client.next('a result', ({ type }) => type === 'result', 30_000);
    expect(result).toMatchObject({ target: 'worker-1', exit_code: 0 });
    expect(lines).toContain('[worker-1] running');

    // What runs comes to its end before its runner does.
    client.send({ type: 'command', command: 'stream', target: 'worker-2', id: 'two' });
    await client.next('a start', ({ type, target }) => type === 'started' && target === 'worker-2', 30_000);
    expect(await runner.stop()).toEqual({ code: 0, signal: null });
    const last = await client.next('the last result', ({ type, target }) => type === 'result' && target === 'worker-2');
    expect(last).toMatchObject({ exit_code: 0, outcome: 'succeeded' });

    const stoppedAt = performance.now();
    expect(await gateway.stop()).toEqual({ code: 0, signal: null });
    expect(performance.now() - stoppedAt).toBeLessThan(20_000);
    expect(await client.closed).toMatchObject({ code: 1012 });
    expect(await monitor.stop()).toEqual({ code: 0, signal: null });
  }, 600_000);

  test('all-in-one needs nothing else', async () => {
    const all = start(
      'all-in-one',
      ['up', '--script', SCRIPT, '--log-level', 'info'],
      [
        ...['--tmpfs', '/var/lib/carrierarr:uid=10001,gid=10001', '--tmpfs', '/home/carrierarr:uid=10001,gid=10001'],
        ...['--env', 'MOCK_WORKER_SPEED=0'],
      ],
    );
    await all.ready(START_MS);
    const client = new Socket(wsUrl(all.url));
    await client.opened();
    client.send({ type: 'command', command: 'start', target: 'worker-1' });
    expect(await client.next('a result', ({ type }) => type === 'result', 30_000)).toMatchObject({ exit_code: 0 });
    expect(await all.stop()).toEqual({ code: 0, signal: null });
  }, 600_000);
});
