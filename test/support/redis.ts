/**
 * A real Redis for tests: `redis-server` or `valkey-server` from PATH on a free loopback port, else a container
 * (testcontainers). It can be killed, frozen and restarted on the same port with its data.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';

export interface TestRedis {
  url: string;
  port: number;
  /** Pid of the server; undefined in a container or while it is down. */
  pid(): number | undefined;
  /** Ends the server with SIGKILL. Its append-only data stay. */
  kill(): Promise<void>;
  /** Starts it again on the same port with the same data. */
  start(): Promise<void>;
  /** SIGSTOP and SIGCONT. */
  freeze(): void;
  thaw(): void;
  /** A connection for the test's own looks; closed by {@link TestRedis.stop}. */
  client(): Redis;
  stop(): Promise<void>;
}

/** A port that was free a moment ago on loopback. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

function binary(): string | undefined {
  return ['redis-server', 'valkey-server'].find((name) => spawnSync(name, ['--version']).status === 0);
}

/** Why a test that needs servers of its own making, such as a Cluster, cannot run; undefined if it can. */
export function noRedisServer(): string | undefined {
  return binary() === undefined
    ? 'neither redis-server nor valkey-server on PATH: see scripts/setup.sh test'
    : undefined;
}

export interface TestRedisOptions {
  /** Keeps data over {@link TestRedis.kill}, each write before its reply. */
  appendOnly?: boolean;
  /** Read before `args`. */
  configFile?: string;
  args?: string[];
}

/** Starts a Redis. */
export async function startRedis(options: TestRedisOptions = {}): Promise<TestRedis> {
  const server = binary();
  if (server === undefined) return startContainer();
  const dir = await mkdtemp(join(tmpdir(), 'carrierarr-redis-'));
  let port = await freePort();
  const clients: Redis[] = [];
  let child: ChildProcess | undefined;

  const start = async () => {
    const file = options.configFile === undefined ? [] : [options.configFile];
    const args = [...file, '--port', `${port}`, '--bind', '127.0.0.1', '--dir', dir, '--save', '', '--daemonize', 'no'];
    if (options.appendOnly) args.push('--appendonly', 'yes', '--appendfsync', 'always');
    const started = spawn(server, [...args, ...(options.args ?? [])], { stdio: 'ignore' });
    child = started;
    const probe = new Redis(port, '127.0.0.1', { retryStrategy: () => 20, maxRetriesPerRequest: 1 });
    probe.on('error', () => undefined);
    for (;;) {
      // While it loads its data it answers LOADING.
      const answer = await probe.info('server').catch(() => 'loading');
      // The port may have been taken meanwhile, perhaps by another test's Redis, which would answer just as well.
      if (answer.includes(`process_id:${started.pid}\r`)) break;
      if (started.exitCode !== null) {
        probe.disconnect();
        throw new Error(`${server} exited with ${started.exitCode}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    probe.disconnect();
  };
  const kill = async (signal: NodeJS.Signals = 'SIGKILL') => {
    const running = child;
    child = undefined;
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    running.kill('SIGCONT');
    running.kill(signal);
    await once(running, 'exit');
  };
  for (let attempt = 1; ; attempt += 1) {
    try {
      await start();
      break;
    } catch (error) {
      if (attempt === 5) throw error;
      port = await freePort();
    }
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    pid: () => child?.pid,
    kill: () => kill(),
    start,
    freeze: () => void child?.kill('SIGSTOP'),
    thaw: () => void child?.kill('SIGCONT'),
    client() {
      const client = new Redis(port, '127.0.0.1');
      client.on('error', () => undefined);
      clients.push(client);
      return client;
    },
    async stop() {
      for (const client of clients) client.disconnect();
      await kill();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

async function startContainer(): Promise<TestRedis> {
  const { RedisContainer } = await import('@testcontainers/redis');
  const container = await new RedisContainer('redis:7').withCommand(['redis-server', '--appendonly', 'yes']).start();
  const port = container.getMappedPort(6379);
  const clients: Redis[] = [];
  const unsupported = () => {
    throw new Error('This test kills or freezes Redis: it needs redis-server or valkey-server on PATH.');
  };
  return {
    url: `redis://${container.getHost()}:${port}`,
    port,
    pid: () => undefined,
    kill: async () => unsupported(),
    start: async () => unsupported(),
    freeze: unsupported,
    thaw: unsupported,
    client() {
      const client = new Redis(port, container.getHost());
      clients.push(client);
      return client;
    },
    async stop() {
      for (const client of clients) client.disconnect();
      await container.stop();
    },
  };
}
