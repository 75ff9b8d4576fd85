import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  checkRedisServer,
  ConfigError,
  createLogger,
  createRedis,
  describeRedis,
  FakeClock,
  loadConfig,
  type RedisConnection,
  redisSchema,
  redisSettings,
  type RedisRole,
  waitForRedis,
} from '@carrierarr/platform';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { freePort, startRedis, type TestServer, until } from './redis-server.js';

function settingsOf(...argv: string[]) {
  const loaded = loadConfig({ program: 'test', summary: '', schema: redisSchema, argv, env: {} });
  if (loaded.kind !== 'config') throw new Error('expected a configuration');
  return redisSettings(loaded.values, 'carrierarr test');
}

const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

function connection(argv: string[], role: RedisRole = 'commands', lines?: string[]): RedisConnection {
  const logger =
    lines && createLogger({ program: 'test', format: 'json', destination: { write: (line) => void lines.push(line) } });
  const redis = createRedis(settingsOf(...argv), { name: `test-${role}`, role, ...(logger ? { logger } : {}) });
  closers.push(() => redis.disconnect());
  return redis;
}

async function connected(argv: string[], role: RedisRole = 'commands', lines?: string[]): Promise<RedisConnection> {
  const redis = connection(argv, role, lines);
  await waitForRedis(redis, { settings: settingsOf(...argv), deadlineMs: 10_000 });
  return redis;
}

/** An ACL user as redis-server arguments. */
function userArgs(rule: string): string[] {
  return ['--user', ...rule.split(' ')];
}

async function server(...args: string[]): Promise<TestServer> {
  const started = await startRedis(args);
  closers.push(() => started.stop());
  return started;
}

describe('redisSettings', () => {
  it('reads host, user, password and database from the URL', () => {
    expect(settingsOf('--redis-url=rediss://me:p%40ss@cache.example:6380/3')).toMatchObject({
      mode: 'single',
      nodes: [{ host: 'cache.example', port: 6380 }],
      username: 'me',
      password: 'p@ss',
      database: 3,
      tls: {},
      keyPrefix: 'carrierarr',
    });
  });

  it('prefers user and password of their own to those in the URL', () => {
    const settings = settingsOf('--redis-url=redis://me:old@h', '--redis-password=new', '--redis-username=you');
    expect(settings).toMatchObject({ username: 'you', password: 'new', nodes: [{ host: 'h', port: 6379 }] });
  });

  it('reads the path of a unix socket', () => {
    expect(settingsOf('--redis-url=unix:///run/my%20redis.sock?db=2')).toMatchObject({
      socketPath: '/run/my redis.sock',
      database: 2,
      nodes: [],
    });
  });

  it('takes Sentinels and Cluster nodes from their list, or the host of the URL', () => {
    expect(settingsOf('--redis-mode=sentinel', '--redis-nodes=a:1,b:2', '--redis-nodes', '[::1]:3').nodes).toEqual([
      { host: 'a', port: 1 },
      { host: 'b', port: 2 },
      { host: '::1', port: 3 },
    ]);
    expect(settingsOf('--redis-mode=sentinel', '--redis-url=redis://s').nodes).toEqual([{ host: 's', port: 26_379 }]);
    expect(settingsOf('--redis-mode=cluster', '--redis-url=redis://[::1]').nodes).toEqual([
      { host: '::1', port: 6379 },
    ]);
  });

  it.each([
    [['--redis-mode=cluster', '--redis-url=unix:///s'], '`--redis-mode cluster` cannot be used with a unix socket'],
    [['--redis-nodes=a:1'], '`--redis-nodes` is only for Sentinel and Cluster'],
    [
      ['--redis-mode=cluster', '--redis-url=redis://u:hunter2@h/1'],
      'only database 0, got `--redis-url redis://u:***@h/1`. Remove `/1`.',
    ],
    [['--redis-url=redis://h/x'], 'to end in a database number such as /1 or in nothing, got `redis://h/x`'],
    [['--redis-url=unix://run/s'], 'three slashes'],
    [['--redis-tls', '--redis-url=unix:///s'], '`--redis-tls` cannot be used with a unix socket'],
    [
      ['--redis-tls-ca=/nowhere/ca.pem', '--redis-tls'],
      'The file /nowhere/ca.pem that `--redis-tls-ca` names cannot be read',
    ],
    [['--redis-tls-cert=/dev/null', '--redis-tls'], 'belong together'],
    [['--redis-tls-ca=/dev/null'], '`--redis-tls-ca` is set, but TLS is off'],
  ])('refuses %j', (argv, message) => {
    expect(() => settingsOf(...argv)).toThrow(ConfigError);
    expect(() => settingsOf(...argv)).toThrow(message);
  });

  it.each(['http://h', 'h:6379', ''])('refuses the URL "%s" before that', (url) => {
    expect(() => settingsOf(`--redis-url=${url}`)).toThrow('a URL that starts with redis:// or rediss:// or unix://');
  });

  it('refuses a password with a % that is none of its escapes, says how it is written, and does not show it', () => {
    const read = () => settingsOf('--redis-url=redis://me:hunter%2@h');
    expect(read).toThrow(ConfigError);
    expect(read).toThrow('% itself is written %25');
    expect(read).not.toThrow('hunter');
    expect(settingsOf('--redis-url=redis://me:hunter%252@h')).toMatchObject({ password: 'hunter%2' });
  });
});

describe('a connection', () => {
  it('does not connect before it is asked to', () => {
    expect(connection([]).status).toBe('wait');
    expect(connection(['--redis-mode=cluster']).status).toBe('wait');
    expect(connection(['--redis-mode=sentinel']).status).toBe('wait');
  });

  it('logs in with user and password, shows its name, and uses its database', async () => {
    const { port } = await server(...userArgs('me on >hunter2 ~* &* +@all'), ...userArgs('default off'));
    const redis = await connected([`--redis-url=redis://me:hunter2@127.0.0.1:${port}/2`]);
    await redis.set('key', 'value');
    expect(await redis.client('LIST')).toMatch(/name=test-commands.* db=2/);
  });

  it('fails calls at once while Redis is away, and works again when it is back', async () => {
    const first = await server();
    const { port } = first;
    const lines: string[] = [];
    const redis = await connected([`--redis-url=redis://127.0.0.1:${port}`], 'commands', lines);
    await first.stop();
    await until(() => redis.status === 'reconnecting');
    const beganMs = performance.now();
    await expect(redis.get('key')).rejects.toThrow("Stream isn't writeable");
    expect(performance.now() - beganMs).toBeLessThan(100);
    const again = await startRedis([], port);
    closers.push(() => again.stop());
    await until(() => redis.status === 'ready');
    expect(await redis.get('key')).toBeNull();
    const messages = lines.map((line) => (JSON.parse(line) as { msg: string }).msg);
    expect(messages).toEqual([
      expect.stringMatching(/^Redis connection (lost|failed); trying again until it works$/) as unknown,
      'Redis connection works again',
    ]);
  });

  it('does not send a call again that was on its way when the connection broke', async () => {
    const { port } = await server();
    const argv = [`--redis-url=redis://127.0.0.1:${port}`];
    const redis = (await connected(argv)) as Redis;
    const other = await connected(argv);
    const id = await redis.client('ID');
    // The server answers nothing while it is paused, so the call stays on its way.
    await other.client('PAUSE', 60_000, 'WRITE');
    const call = redis.incr('count');
    const failed = call.catch((error: unknown) => error);
    await until(
      async () =>
        String(await other.client('LIST')).includes(`id=${id}`) && /cmd=incr/.test(String(await other.client('LIST'))),
    );
    const killedMs = performance.now();
    await other.client('KILL', 'ID', id);
    expect(await failed).toBeInstanceOf(Error);
    expect(performance.now() - killedMs).toBeLessThan(1_000);
    await until(() => redis.status === 'ready');
    await other.client('UNPAUSE');
    expect(await redis.get('count')).toBeNull();
    expect(await redis.incr('count')).toBe(1);
  });

  it('of a subscriber forgets its channels when it breaks, without an unhandled rejection', async () => {
    const { port } = await server();
    const argv = [`--redis-url=redis://127.0.0.1:${port}`];
    const subscriber = (await connected(argv, 'subscriber')) as Redis;
    const other = (await connected(argv)) as Redis;
    const received: string[] = [];
    subscriber.on('smessage', (_channel: string, message: string) => received.push(message));
    await subscriber.ssubscribe('out:{a}');
    expect(await other.spublish('out:{a}', 'one')).toBe(1);
    await until(() => received.length === 1);
    await other.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await until(() => subscriber.status !== 'ready');
    await until(() => subscriber.status === 'ready');
    expect(await other.spublish('out:{a}', 'two')).toBe(0);
    await subscriber.ssubscribe('out:{a}');
    expect(await other.spublish('out:{a}', 'three')).toBe(1);
    await until(() => received.length === 2);
    expect(received).toEqual(['one', 'three']);
  });

  it('for BullMQ waits for Redis instead', async () => {
    const port = await freePort();
    const redis = connection([`--redis-url=redis://127.0.0.1:${port}`], 'bullmq');
    const call = redis.set('key', 'value');
    await until(() => redis.status === 'reconnecting');
    const started = await startRedis([], port);
    closers.push(() => started.stop());
    expect(await call).toBe('OK');
  });

  it('follows the primary that Sentinels name, and logs in to them', async () => {
    const primary = await server('--requirepass', 'hunter2');
    const dir = mkdtempSync(join(tmpdir(), 'sentinel-test-'));
    closers.push(() => rmSync(dir, { recursive: true, force: true }));
    const file = join(dir, 'sentinel.conf');
    writeFileSync(
      file,
      `sentinel monitor fleet 127.0.0.1 ${primary.port} 1\nsentinel auth-pass fleet hunter2\nrequirepass watch\n`,
    );
    const sentinel = await server(file, '--sentinel');
    const redis = await connected([
      '--redis-mode=sentinel',
      '--redis-sentinel-name=fleet',
      `--redis-nodes=127.0.0.1:${sentinel.port}`,
      '--redis-password=hunter2',
      '--redis-sentinel-password=watch',
    ]);
    await redis.set('key', 'value');
    expect(await redis.info('server')).toContain(`tcp_port:${primary.port}`);
  });
});

describe('on a Cluster', () => {
  const nodes: TestServer[] = [];
  const argv = () => [
    '--redis-mode=cluster',
    `--redis-nodes=${nodes.map(({ port }) => `127.0.0.1:${port}`).join(',')}`,
  ];

  beforeAll(async () => {
    for (let index = 0; index < 2; index++) {
      // The bus takes a port of its own; by default that is 10,000 higher, which may not exist.
      const busPort = String(await freePort());
      nodes.push(await startRedis(['--cluster-enabled', 'yes', '--cluster-port', busPort]));
    }
    const [first, second] = await Promise.all(
      nodes.map(async ({ port }) => {
        const url = `--redis-url=redis://127.0.0.1:${port}`;
        const redis = createRedis(settingsOf(url), { name: 'setup', role: 'commands' }) as Redis;
        await waitForRedis(redis, { settings: settingsOf(url) });
        return redis;
      }),
    );
    if (!first || !second) throw new Error('expected two nodes');
    await first.call('CLUSTER', 'ADDSLOTSRANGE', 0, 8191);
    await second.call('CLUSTER', 'ADDSLOTSRANGE', 8192, 16383);
    const busPort = /@(\d+)/.exec(String(await second.call('CLUSTER', 'NODES')))?.[1] ?? '';
    await first.call('CLUSTER', 'MEET', '127.0.0.1', nodes[1]?.port ?? 0, busPort);
    for (const node of [first, second]) {
      await until(async () => {
        const info = String(await node.call('CLUSTER', 'INFO'));
        return info.includes('cluster_state:ok') && info.includes('cluster_slots_ok:16384');
      });
      node.disconnect();
    }
  });
  afterAll(async () => {
    for (const node of nodes) await node.stop();
  });

  it('commands reach the node of their key', async () => {
    const redis = await connected(argv());
    for (let index = 0; index < 20; index++) await redis.set(`key-${index}`, index);
    expect(await redis.get('key-7')).toBe('7');
  });

  it('no call is refused once it is there, however many come at once and wherever they go', async () => {
    const redis = await connected(argv());
    const calls = Array.from({ length: 64 }, (_, index) => redis.set(`first-${index}`, index));
    expect(new Set(await Promise.all(calls))).toEqual(new Set(['OK']));
  });

  it('sharded channels work on every node', async () => {
    const subscriber = await connected(argv(), 'subscriber');
    const publisher = await connected(argv());
    const received = new Set<string>();
    subscriber.on('smessage', (channel: string) => received.add(channel));
    const channels = Array.from({ length: 8 }, (_, index) => `out:{worker-${index}}`);
    for (const channel of channels) await subscriber.ssubscribe(channel);
    for (const channel of channels) expect(await publisher.spublish(channel, 'x')).toBe(1);
    await until(() => received.size === channels.length);
  });

  it('the server check asks one of them', async () => {
    expect(await checkRedisServer(await connected(argv()))).toMatchObject({ errors: [], warnings: [] });
  });
});

describe('waitForRedis', () => {
  it('gives up at its deadline with where, why and what to check, but no password', async () => {
    const argv = [`--redis-url=redis://me:hunter2@127.0.0.1:${await freePort()}`];
    const clock = new FakeClock();
    const redis = connection(argv);
    let isRefused = false;
    redis.on('error', () => (isRefused = true));
    const waiting = waitForRedis(redis, { settings: settingsOf(...argv), deadlineMs: 5_000, clock });
    const failed = waiting.catch((error: unknown) => error);
    await until(() => isRefused);
    clock.advance(5_000);
    const error = (await failed) as Error & { code: string };
    expect(error.code).toBe('redis_unavailable');
    expect(error.message).toMatch(
      /^Redis \(redis:\/\/127\.0\.0\.1:\d+\) did not answer within 5 s: connect ECONNREFUSED .*\. Check that it runs, and check --redis-url \(CARRIERARR_REDIS_URL\)/,
    );
    expect(error.message).not.toContain('hunter2');
  });

  it('gives up at once when Redis refuses the login, and nothing logs the password', async () => {
    const { port } = await server('--requirepass', 'right');
    const argv = [`--redis-url=redis://:hunter2@127.0.0.1:${port}`];
    const lines: string[] = [];
    const redis = connection(argv, 'commands', lines);
    const waiting = waitForRedis(redis, { settings: settingsOf(...argv), clock: new FakeClock() });
    await expect(waiting).rejects.toThrow(/refused the login: WRONGPASS.*the password given is not shown/);
    expect(lines.length).toBeGreaterThan(0);
    expect(lines.join('')).not.toContain('hunter2');
  });

  it('waits for a server that starts later', async () => {
    const port = await freePort();
    const argv = [`--redis-url=redis://127.0.0.1:${port}`];
    const redis = connection(argv);
    const waiting = waitForRedis(redis, { settings: settingsOf(...argv) });
    await until(() => redis.status === 'reconnecting');
    const started = await startRedis([], port);
    closers.push(() => started.stop());
    await waiting;
    expect(await redis.ping()).toBe('PONG');
  });

  it('names a Cluster or Sentinel by its nodes', () => {
    expect(describeRedis(settingsOf('--redis-mode=cluster', '--redis-nodes=a:1,b:2'))).toBe('the Cluster at a:1,b:2');
    expect(describeRedis(settingsOf('--redis-mode=sentinel', '--redis-nodes=a:1'))).toBe(
      'the primary "mymaster" of the Sentinels at a:1',
    );
    expect(describeRedis(settingsOf('--redis-url=rediss://u:p@h:1'))).toBe('rediss://h:1');
  });

  it('ends when the last node of a Cluster cannot be reached, with the reason of that node', async () => {
    const argv = ['--redis-mode=cluster', `--redis-nodes=127.0.0.1:${await freePort()}`];
    const clock = new FakeClock();
    const redis = connection(argv);
    let hasFailed = false;
    redis.on('error', () => (hasFailed = true));
    const waiting = waitForRedis(redis, { settings: settingsOf(...argv), deadlineMs: 5_000, clock });
    const failed = waiting.catch((error: unknown) => error);
    await until(() => hasFailed);
    clock.advance(5_000);
    expect(String(await failed)).toMatch(/did not answer within 5 s: .+/);
  });
});

describe('checkRedisServer', () => {
  it('is content with Redis 7 that never evicts', async () => {
    const { port } = await server();
    const check = await checkRedisServer(await connected([`--redis-url=redis://127.0.0.1:${port}`]));
    expect(check).toEqual({
      version: expect.stringMatching(/^\d+\.\d+\.\d+$/) as unknown,
      maxmemoryPolicy: 'noeviction',
      errors: [],
      warnings: [],
    });
  });

  it('refuses a policy that deletes keys, and says what to set', async () => {
    const { port } = await server('--maxmemory-policy', 'allkeys-lru');
    const { errors } = await checkRedisServer(await connected([`--redis-url=redis://127.0.0.1:${port}`]));
    expect(errors).toEqual([expect.stringContaining('maxmemory-policy allkeys-lru') as unknown]);
    expect(errors[0]).toContain('Set it to noeviction');
  });

  it('needs no CONFIG, and without INFO it only warns', async () => {
    const { port } = await server(
      ...userArgs('noconfig on nopass ~* &* +@all -config'),
      ...userArgs('noinfo on nopass ~* &* +@all -info'),
    );
    const url = (user: string) => [`--redis-url=redis://${user}:x@127.0.0.1:${port}`];
    expect(await checkRedisServer(await connected(url('noconfig')))).toMatchObject({ errors: [], warnings: [] });
    const blind = await checkRedisServer(await connected(url('noinfo')));
    expect(blind).toMatchObject({ version: null, errors: [] });
    expect(blind.warnings[0]).toContain('does not permit INFO');
  });
});
