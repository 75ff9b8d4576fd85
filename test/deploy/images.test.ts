/** The images do what their programs do, as somebody who is not root, may write nothing and has no capability. */
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildImage, docker, dockerEnv, dockerMissing, HARDENED, removeContainers } from '../support/docker.js';
import { LOGGED_PORT, type Program, startProgram } from '../support/programs.js';
import { type TestRedis, startRedis } from '../support/redis.js';
import { until } from '../support/until.js';
import { protocolsWith, Socket, wsUrl } from '../support/ws-clients.js';

const ROLES = ['gateway', 'runner', 'monitor', 'agent', 'all-in-one'] as const;
const LABEL = 'carrierarr-test=images';
const LABELS = [
  ...['title', 'description', 'version', 'revision', 'created', 'source', 'url', 'base.name', 'licenses', 'vendor'],
];
const BUILD_MS = 20 * 60_000;
/** Docker is slow to start containers on a busy machine. */
const START_MS = 180_000;
const RESULT_MS = 60_000;
/** Where a program says that it serves probes, and a monitor that it serves agents. */
const PROBES = /"address":"127\.0\.0\.1:(\d+)","msg":"health/;
const AGENTS = /"address":"(127\.0\.0\.1:\d+)",[^}]*"msg":"agents are served"/;
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
    const listen = role === 'agent' ? ['--health-port', '0'] : [loopback, '127.0.0.1:0'];
    const all = [...args, ...listen, '--log-format', 'json'];
    const listens = loopback === '--addr' ? LOGGED_PORT : PROBES;
    return startProgram({ name: role, launch: [...launch], args: all, listens, env: dockerEnv() });
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
    expect(Config.User).toBe('10001:10001');
    expect(Config.Entrypoint.slice(0, 2)).toEqual(['/usr/bin/tini', '--']);
    expect(Config.Entrypoint.at(-1)).toBe(role === 'agent' ? '/opt/carrierarr/carrierarr-agent.mjs' : 'carrierarr');
    for (const label of LABELS) expect(Config.Labels[`org.opencontainers.image.${label}`]).toMatch(/./);
  });

  test.each(ROLES)(
    '%s has no compiler and no installer of packages for Node.js, one binary of uWebSockets.js, no secrets',
    async (role) => {
      const found = await inside(
        role,
        'command -v gcc cc g++ make npm npx corepack yarn; ls /opt/carrierarr/node_modules/uWebSockets.js/*.node 2>/dev/null | wc -l; find / -xdev -name .npmrc -o -xdev -name "id_*" -path "*/.ssh/*" 2>/dev/null || true',
      );
      // An agent serves no WebSockets.
      expect(found).toBe(role === 'agent' ? '0' : '1');
    },
    START_MS,
  );

  test.each(ROLES)(
    '%s has nothing that only apt needed',
    async (role) => {
      expect(await inside(role, 'find /var/cache/apt /var/lib/apt/lists -type f ! -empty 2>/dev/null || true')).toBe(
        '',
      );
    },
    START_MS,
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
    START_MS,
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
    // Its usual port for agents may be taken: they share this machine's network.
    const monitor = start('monitor', ['monitor', ...withRedis(), '--grpc-addr', '127.0.0.1:0']);
    for (const program of [gateway, runner, monitor]) await program.ready(START_MS);

    const lines: string[] = [];
    const client = new Socket(wsUrl(gateway.url), {
      protocols: protocolsWith(TOKEN),
      onMessage: ({ type, data }) => type === 'stdout' && lines.push(String(data)),
    });
    await client.opened();
    client.send({ type: 'subscribe', target: '*' });
    client.send({ type: 'command', command: 'start', target: 'worker-1', id: 'one' });
    const result = await client.next('a result', ({ type }) => type === 'result', RESULT_MS);
    expect(result).toMatchObject({ target: 'worker-1', exit_code: 0 });
    expect(lines).toContain('[worker-1] running');

    // Their uWebSockets.js is that of another Node.js than the one that runs this.
    client.send({ type: 'command', command: 'kill', target: 'größe' });
    await client.next('an error', ({ type, target }) => type === 'error' && target === 'größe', RESULT_MS);

    // What runs comes to its end before its runner does.
    client.send({ type: 'command', command: 'stream', target: 'worker-2', id: 'two' });
    await client.next('a start', ({ type, target }) => type === 'started' && target === 'worker-2', RESULT_MS);
    expect(await runner.stop()).toEqual({ code: 0, signal: null });
    const last = await client.next('the last result', ({ type, target }) => type === 'result' && target === 'worker-2');
    expect(last).toMatchObject({ exit_code: 0, outcome: 'succeeded' });

    const stoppedAt = performance.now();
    expect(await gateway.stop()).toEqual({ code: 0, signal: null });
    expect(performance.now() - stoppedAt).toBeLessThan(20_000);
    expect(await client.closed).toMatchObject({ code: 1012 });
    expect(await monitor.stop()).toEqual({ code: 0, signal: null });
  }, 600_000);

  test('agent registers at a monitor, runs a program for a client, and stops in time under a stream', async () => {
    const loopback = ['--grpc-addr', '127.0.0.1:0'];
    const monitor = start('monitor', ['monitor', ...withRedis(), ...loopback]);
    const gateway = start('gateway', ['gateway', ...withRedis(), '--tokens-file', '/test/tokens']);
    const runner = start('runner', ['runner', ...withRedis(), '--without-script']);
    for (const program of [gateway, runner, monitor]) await program.ready(START_MS);
    const controlPlane = await until('where the monitor listens for agents', () => AGENTS.exec(monitor.output())?.[1]);
    const agent = start('agent', [
      ...['-control-plane', controlPlane, '--node-id', 'image-1', '--metadata', 'off', '--allow-exec', 'uname,bash'],
    ]);
    await agent.ready(START_MS);
    const headers = { authorization: `Bearer ${TOKEN}` };
    await until('the node', async () => {
      const nodes = (await (await fetch(`${gateway.url}/api/v1/nodes`, { headers })).json()) as Record<
        string,
        unknown
      >[];
      return nodes.some(({ id, stream_active: isConnected }) => id === 'image-1' && isConnected === true);
    });

    const lines: string[] = [];
    const client = new Socket(wsUrl(gateway.url), {
      protocols: protocolsWith(TOKEN),
      onMessage: ({ type, data }) => type === 'stdout' && lines.push(String(data)),
    });
    await client.opened();
    client.send({ type: 'subscribe', target: '*' });
    client.send({ type: 'command', command: 'exec', target: 'image-1', args: ['uname', '-s'], id: 'one' });
    const result = await client.next('a result', ({ type }) => type === 'result', RESULT_MS);
    expect(result).toMatchObject({ target: 'image-1', exit_code: 0, outcome: 'succeeded' });
    expect(lines).toEqual(['Linux']);

    // What runs is ended and told of.
    client.send({
      ...{ type: 'command', command: 'exec', target: 'image-1', id: 'two' },
      args: ['bash', '-c', 'echo begun; sleep 1000'],
    });
    await until('the program to run', () => lines.includes('begun'), RESULT_MS);
    const stoppedAt = performance.now();
    expect(await agent.stop()).toEqual({ code: 0, signal: null });
    expect(performance.now() - stoppedAt).toBeLessThan(45_000);
    const last = await client.next(
      'its result',
      ({ type, outcome }) => type === 'result' && outcome === 'lost',
      RESULT_MS,
    );
    expect(last).toMatchObject({ target: 'image-1' });
    await Promise.all([monitor, gateway, runner].map((program) => program.stop()));
  }, 600_000);

  test('all-in-one needs nothing else', async () => {
    const all = start(
      'all-in-one',
      ['up', '--script', SCRIPT, '--log-level', 'info', '--grpc-addr', 'off'],
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
