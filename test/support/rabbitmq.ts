/**
 * A real RabbitMQ for tests: `rabbitmq-server` on free loopback ports, else a container (testcontainers). Its node name,
 * its home and its name service (epmd) are its own, so several test runs do not know of each other. It can be stopped,
 * killed, frozen and started again on the same port with its data. Starting takes seconds: share one in a test file.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ChannelModel, connect } from 'amqplib';
import { freePort } from './redis.js';

/** The virtual host that agents use; there is no other in a test's broker. */
export const VHOST = 'agents';
/** Where Debian and Fedora keep the program that needs no other user; elsewhere PATH leads to it. */
const PROGRAMS = ['/usr/lib/rabbitmq/bin/rabbitmq-server', 'rabbitmq-server'];
/** Starting takes 3 to 5 s on a machine with nothing else to do. */
export const BROKER_START_MS = 120_000;
const STOP_MS = 30_000;

export interface TestRabbitMq {
  /** Without a virtual host. */
  url: string;
  /** Ends it as a service manager does; its durable queues and their messages stay. Unlike `kill`, also on disk. */
  halt(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** Starts it again on the same port with the same data. */
  start(): Promise<void>;
  /** SIGSTOP and SIGCONT. */
  freeze(): void;
  thaw(): void;
  /** A connection for the test's own doings, closed by {@link TestRabbitMq.stop}. */
  client(): Promise<ChannelModel>;
  stop(): Promise<void>;
}

function program(): string | undefined {
  return PROGRAMS.find((path) =>
    path.startsWith('/') ? existsSync(path) : spawnSync('sh', ['-c', `command -v ${path}`]).status === 0,
  );
}

function hasDocker(): boolean {
  return spawnSync('docker', ['info'], { stdio: 'ignore' }).status === 0;
}

/** Why there is no RabbitMQ for tests; undefined if there is. */
export function noRabbitMq(): string | undefined {
  if (program() !== undefined || hasDocker()) return undefined;
  return 'neither rabbitmq-server nor Docker found: see scripts/setup.sh test';
}

/** Tries again where another took a port that was free a moment before. */
export async function startRabbitMq(): Promise<TestRabbitMq> {
  const server = program();
  if (server === undefined) return startContainer();
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await startServer(server);
    } catch (error) {
      if (attempt === 3) throw error;
    }
  }
}

async function startServer(server: string): Promise<TestRabbitMq> {
  const dir = await mkdtemp(join(tmpdir(), 'carrierarr-rabbitmq-'));
  const node = `t${randomBytes(4).toString('hex')}@localhost`;
  // All at once: one that is closed may be the next one's.
  const [port, distPort, epmdPort] = await Promise.all([freePort(), freePort(), freePort()]);
  await writeFile(
    join(dir, 'rabbitmq.conf'),
    [
      `listeners.tcp.1 = 127.0.0.1:${port}`,
      `cluster_name = ${node}`,
      `default_vhost = ${VHOST}`,
      'disk_free_limit.absolute = 1MB',
      // Of its own, whatever else runs on this machine.
      'total_memory_available_override_value = 512MB',
      'log.console.level = error',
      '',
    ].join('\n'),
  );
  await writeFile(join(dir, 'enabled_plugins'), '[].\n');
  await writeFile(join(dir, 'env.conf'), '');
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: dir,
    LANG: 'C.UTF-8',
    ERL_EPMD_PORT: `${epmdPort}`,
    ERL_EPMD_ADDRESS: '127.0.0.1',
    RABBITMQ_NODENAME: node,
    RABBITMQ_DIST_PORT: `${distPort}`,
    RABBITMQ_CONF_ENV_FILE: join(dir, 'env.conf'),
    RABBITMQ_CONFIG_FILE: join(dir, 'rabbitmq.conf'),
    RABBITMQ_ADVANCED_CONFIG_FILE: join(dir, 'none.config'),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(dir, 'enabled_plugins'),
    RABBITMQ_MNESIA_BASE: join(dir, 'mnesia'),
    RABBITMQ_LOG_BASE: join(dir, 'log'),
    RABBITMQ_LOGS: '-',
    // So that the process we start is the broker itself. It has no use for input all the same.
    RABBITMQ_ALLOW_INPUT: '1',
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS:
      '-noinput -start_epmd false +S 2:2 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}',
  };
  const clients: ChannelModel[] = [];
  let output = '';
  let child: ChildProcess | undefined;
  // Ours, since one that Erlang starts would outlive the broker.
  const epmd = spawn('epmd', ['-port', `${epmdPort}`, '-address', '127.0.0.1'], { env, stdio: 'ignore' });
  await until(() => reachable(epmdPort), 'epmd to listen');

  const start = async () => {
    output = '';
    const started = spawn(server, [], { env, cwd: dir, stdio: ['ignore', 'pipe', 'pipe'] });
    child = started;
    for (const stream of [started.stdout, started.stderr]) {
      stream.on('data', (text: Buffer) => {
        output = (output + text.toString()).slice(-8_000);
      });
    }
    await until(async () => {
      if (started.exitCode !== null || started.signalCode !== null)
        throw new Error(`${server} ended with ${started.exitCode ?? started.signalCode}: ${output}`);
      const client = await open(port).catch(() => undefined);
      if (client === undefined) return false;
      // Somebody else's, if another has taken the port meanwhile.
      const name: unknown = client.connection.serverProperties['cluster_name'];
      await client.close();
      return name === node;
    }, 'RabbitMQ to start');
  };
  const end = async (signal: NodeJS.Signals) => {
    const running = child;
    child = undefined;
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    const exited = once(running, 'exit');
    running.kill('SIGCONT');
    running.kill(signal);
    const timer = setTimeout(() => running.kill('SIGKILL'), STOP_MS);
    await exited;
    clearTimeout(timer);
  };
  const stop = async () => {
    for (const client of clients) await client.close().catch(() => undefined);
    await end('SIGKILL');
    const exited = once(epmd, 'exit');
    if (epmd.exitCode === null && epmd.signalCode === null) {
      epmd.kill('SIGKILL');
      await exited;
    }
    await rm(dir, { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    await start();
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url: `amqp://guest:guest@127.0.0.1:${port}`,
    halt: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    start,
    freeze: () => void child?.kill('SIGSTOP'),
    thaw: () => void child?.kill('SIGCONT'),
    async client() {
      const client = await open(port);
      client.on('error', () => undefined);
      clients.push(client);
      return client;
    },
    stop,
  };
}

async function open(port: number): Promise<ChannelModel> {
  return connect({ hostname: '127.0.0.1', port, vhost: VHOST }, { timeout: 5_000 });
}

function reachable(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(port, '127.0.0.1');
    const finish = (isThere: boolean) => {
      socket.destroy();
      resolve(isThere);
    };
    socket.once('connect', () => finish(true));
    socket.once('error', () => finish(false));
  });
}

async function until(look: () => Promise<boolean>, what: string): Promise<void> {
  const deadline = Date.now() + BROKER_START_MS;
  while (!(await look())) {
    if (Date.now() >= deadline) throw new Error(`Waited ${BROKER_START_MS / 1000} s in vain for ${what}.`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function startContainer(): Promise<TestRabbitMq> {
  const { GenericContainer, Wait } = await import('testcontainers');
  const container = await new GenericContainer('rabbitmq:3')
    .withEnvironment({ RABBITMQ_DEFAULT_VHOST: VHOST })
    .withExposedPorts(5672)
    .withWaitStrategy(Wait.forLogMessage(/Server startup complete/))
    .start();
  const port = container.getMappedPort(5672);
  const clients: ChannelModel[] = [];
  const unsupported = () => {
    throw new Error('This test ends or freezes RabbitMQ: it needs rabbitmq-server on this machine.');
  };
  return {
    url: `amqp://guest:guest@${container.getHost()}:${port}`,
    halt: async () => unsupported(),
    kill: async () => unsupported(),
    start: async () => unsupported(),
    freeze: unsupported,
    thaw: unsupported,
    async client() {
      const client = await connect({ hostname: container.getHost(), port, vhost: VHOST });
      client.on('error', () => undefined);
      clients.push(client);
      return client;
    },
    async stop() {
      for (const client of clients) await client.close().catch(() => undefined);
      await container.stop();
    },
  };
}
