/**
 * The two ways to run a private Redis: a server binary on a unix socket, or a container on a loopback port. Each knows
 * how to spawn its server, how to end it, and how to end one that an earlier, killed carrierarr left behind.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes, createHash } from 'node:crypto';
import { accessSync, constants, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { ask, type RedisPlace } from './probe.js';
import { commandLine } from './process-info.js';

export interface ServerProcess {
  readonly url: string;
  readonly place: RedisPlace;
  /** How long it may take until it answers. */
  readonly startDeadlineMs: number;
  /** Ends a server left behind by an earlier owner of the folder. The folder's lock must be held. */
  endStale(): Promise<void>;
  spawn(): ChildProcess;
  /** Asks the spawned server to end (SIGTERM), or makes it (SIGKILL). */
  signal(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): void;
  /** Called when the server's process is gone. */
  afterExit(child: ChildProcess): void;
  /** Removes what would only confuse the next start. */
  cleanUp(): void;
}

/** Of macOS, with its final NUL; Linux has 108. */
const SOCKET_PATH_BYTES_MAX = 103;
const SOCKET_FILE = 'redis.sock';
const SERVER_FILE = 'server.json';
const STALE_GRACE_MS = 5_000;
const LOCAL_START_DEADLINE_MS = 15_000;
/** Docker may have to pull the image first. */
const DOCKER_START_DEADLINE_MS = 180_000;

/**
 * Settings of a Redis that may be killed at any moment and must then remember every command it accepted. With `always`
 * the append-only file is written before Redis answers; with `everysec` a slow disk can hold writes back for up to two
 * seconds, and a SIGKILL then loses them. Snapshots would add nothing.
 */
const SERVER_SETTINGS: readonly (readonly [name: string, value: string])[] = [
  ['appendonly', 'yes'],
  ['appendfsync', 'always'],
  ['save', ''],
  ['maxmemory-policy', 'noeviction'],
  ['daemonize', 'no'],
  ['logfile', ''],
];

/** Absolute path of the first of `names` found in `path` (as in $PATH), or null. */
export function findProgram(names: readonly string[], path: string): string | null {
  for (const name of names) {
    for (const folder of path.split(delimiter).filter((part) => part !== '')) {
      try {
        const candidate = join(folder, name);
        accessSync(candidate, constants.X_OK);
        return candidate;
      } catch {
        continue; // Not in this folder.
      }
    }
  }
  return null;
}

/**
 * Becomes the server (so that its process id is the child's), after leaving behind a watcher that ends it when our end
 * of standard input closes: that also happens when we are killed, and then nobody else would.
 */
const WATCHED = `exec 3<&0
(trap '' INT; cat <&3; kill -TERM $$) >/dev/null 2>&1 &
exec 3<&-
exec "$@" </dev/null`;

/** `binary` on a socket in `dir`, or in a private temporary folder when the path in `dir` is too long for a socket. */
export function localServer(binary: string, dir: string): ServerProcess {
  const dataDir = join(dir, 'data');
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const record = join(dir, SERVER_FILE);
  const stale = readRecord(record);
  const isShort = Buffer.byteLength(join(dir, SOCKET_FILE)) <= SOCKET_PATH_BYTES_MAX;
  const socketDir = isShort ? dir : mkdtempSync(join(tmpdir(), 'carrierarr-'));
  const socketPath = join(socketDir, SOCKET_FILE);
  const settings = [
    ['port', '0'],
    ['unixsocket', socketPath],
    ['unixsocketperm', '700'],
    ['dir', dataDir],
    ...SERVER_SETTINGS,
  ];
  const args = settings.flatMap(([name, value]) => [`--${name}`, value ?? '']);

  return {
    url: `unix://${encodeURI(socketPath).replace(/[?#]/g, encodeURIComponent)}`,
    place: { connect: { path: socketPath }, password: null },
    startDeadlineMs: LOCAL_START_DEADLINE_MS,
    async endStale() {
      if (!stale) return;
      await endLocal(stale);
      const staleDir = dirname(stale.socketPath);
      if (staleDir !== dir) rmSync(staleDir, { recursive: true, force: true });
      rmSync(record, { force: true });
    },
    spawn() {
      // A group of its own, or Ctrl-C in the terminal would end Redis before the programs that still need it.
      const child = spawn('/bin/sh', ['-c', WATCHED, 'carrierarr-redis', binary, ...args], {
        detached: true,
        stdio: ['pipe', 'pipe', 'pipe'],
        env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin' },
      });
      writeFileSync(record, JSON.stringify({ pid: child.pid ?? 0, socketPath } satisfies ServerRecord), {
        mode: 0o600,
      });
      return child;
    },
    signal: (child, signal) => void child.kill(signal),
    afterExit(child) {
      // The watcher is still in the group, so the group's id cannot be anybody else's yet.
      if (child.pid !== undefined) killGroup(child.pid);
      rmSync(socketPath, { force: true });
    },
    cleanUp() {
      rmSync(record, { force: true });
      if (socketDir !== dir) rmSync(socketDir, { recursive: true, force: true });
    },
  };
}

interface ServerRecord {
  readonly pid: number;
  readonly socketPath: string;
}

function readRecord(path: string): ServerRecord | null {
  try {
    const { pid, socketPath } = JSON.parse(readFileSync(path, 'utf8')) as Partial<ServerRecord>;
    return typeof pid === 'number' && typeof socketPath === 'string' ? { pid, socketPath } : null;
  } catch {
    return null; // The usual case: the last stop was a clean one.
  }
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Ends the server of a dead owner: politely over its socket, then by its id, if that still is a server on that socket. */
async function endLocal({ pid, socketPath }: ServerRecord): Promise<void> {
  const place: RedisPlace = { connect: { path: socketPath }, password: null };
  const isRunning = () => {
    const words = commandLine(pid);
    return words !== null && words.includes(socketPath);
  };
  await ask(place, 'SHUTDOWN');
  const deadlineMs = performance.now() + STALE_GRACE_MS;
  while (isRunning() || (await ask(place, 'PING')).kind === 'line') {
    if (performance.now() > deadlineMs) {
      if (isRunning()) process.kill(pid, 'SIGKILL');
      return;
    }
    await pause(50);
  }
}

/** A container outlives its client when that is killed, and would keep its name and port. */
const REPLACE_CONTAINER = '"$0" rm --force "$1" </dev/null >/dev/null 2>&1; shift; exec "$0" "$@"';

const run = promisify(execFile);

/** Whether `docker` reaches a daemon. */
export async function isDockerUsable(docker: string): Promise<boolean> {
  try {
    await run(docker, ['version', '--format', '{{.Server.Version}}'], { timeout: 10_000 });
    return true;
  } catch {
    return false;
  }
}

/** `image` on a loopback port, with a random password because every user of this machine can reach the port. */
export async function dockerServer(docker: string, image: string, dir: string): Promise<ServerProcess> {
  const dataDir = join(dir, 'data');
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const name = `carrierarr-redis-${createHash('sha256').update(dir).digest('hex').slice(0, 12)}`;
  const password = randomBytes(24).toString('hex');
  const port = await freePort();
  const user = process.getuid && process.getgid ? ['--user', `${process.getuid()}:${process.getgid()}`] : [];
  const settings = [['dir', '/data'], ['requirepass', password], ['protected-mode', 'no'], ...SERVER_SETTINGS];
  const publish = `127.0.0.1:${port}:6379`;

  return {
    url: `redis://:${password}@127.0.0.1:${port}`,
    place: { connect: { host: '127.0.0.1', port }, password },
    startDeadlineMs: DOCKER_START_DEADLINE_MS,
    async endStale() {
      await run(docker, ['rm', '--force', name]).catch(() => undefined); // There is none, usually.
    },
    spawn() {
      const child = spawn(
        '/bin/sh',
        [
          '-c',
          REPLACE_CONTAINER,
          docker,
          name,
          'run',
          '--rm',
          '--interactive',
          '--name',
          name,
          ...user,
          '--publish',
          publish,
          '--volume',
          `${dataDir}:/data`,
          image,
          'redis-server',
          '-',
        ],
        { detached: true, stdio: ['pipe', 'pipe', 'pipe'] },
      );
      // Over standard input the password shows neither in the list of processes nor in `docker inspect`.
      child.stdin.on('error', () => undefined); // It ended before reading: its exit is what is reported.
      child.stdin.end(settings.map(([key, value]) => `${key} ${value === '' ? '""' : value}\n`).join(''));
      return child;
    },
    signal(child, signal) {
      const args = signal === 'SIGTERM' ? ['stop', '-t', '10', name] : ['rm', '--force', name];
      run(docker, args).catch(() => void child.kill(signal)); // The daemon is gone: end at least its client.
    },
    afterExit: () => undefined,
    cleanUp: () => undefined,
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((resolve) => void server.close(() => resolve()));
  return port;
}
