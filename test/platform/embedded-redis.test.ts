import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import {
  createLogger,
  createRedis,
  type EmbeddedRedis,
  loadConfig,
  redisSchema,
  redisSettings,
  startEmbeddedRedis,
  waitForRedis,
} from '@carrierarr/platform';
import type { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runBuilt } from './built-process.js';
import { until } from './redis-server.js';

let root: string;
const closers: (() => Promise<void> | void)[] = [];
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'emb-'));
});
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
  rmSync(root, { recursive: true, force: true });
});

async function started(dir: string, lines: string[] = [], path?: string): Promise<EmbeddedRedis> {
  const logger = createLogger({
    program: 'test',
    format: 'json',
    destination: { write: (line) => void lines.push(line) },
  });
  const embedded = await startEmbeddedRedis({ dir, logger, ...(path === undefined ? {} : { path }) });
  closers.push(() => embedded.stop());
  return embedded;
}

async function client({ url }: { url: string }): Promise<Redis> {
  const loaded = loadConfig({ program: 'test', summary: '', schema: redisSchema, argv: ['--redis-url', url], env: {} });
  if (loaded.kind !== 'config') throw new Error('expected a configuration');
  const settings = redisSettings(loaded.values);
  const redis = createRedis(settings, { name: 'test', role: 'commands' }) as Redis;
  closers.push(() => redis.disconnect());
  await waitForRedis(redis, { settings });
  return redis;
}

function isAlive(pid: number): boolean {
  try {
    // A zombie whose new parent does not collect it still has an id, but runs nothing.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return spawnSync('ps', ['-p', String(pid)]).status === 0 && process.platform !== 'linux';
  }
}

/** A process that is not us and owns a folder's lock and server record, as a killed carrierarr leaves them. */
function abandonedServer(dir: string): ChildProcess {
  const socketPath = join(dir, 'redis.sock');
  mkdirSync(join(dir, 'data'), { recursive: true });
  const child = spawn(
    'redis-server',
    ['--port', '0', '--unixsocket', socketPath, '--dir', join(dir, 'data'), '--appendonly', 'yes'],
    {
      stdio: 'ignore',
    },
  );
  writeFileSync(join(dir, 'server.json'), JSON.stringify({ pid: child.pid, socketPath }));
  writeFileSync(join(dir, 'owner.lock'), JSON.stringify({ pid: process.pid, start: 'another process with our id' }));
  closers.push(() => void child.kill('SIGKILL'));
  return child;
}

describe('the embedded Redis', () => {
  it('answers on a private socket with settings that survive being killed', async () => {
    const embedded = await started(join(root, 'state'));
    const redis = await client(embedded);
    expect(embedded.url).toMatch(/^unix:\/\/\/.*redis\.sock$/);
    expect(statSync(new URL(embedded.url.replace('unix:', 'file:'))).mode & 0o777).toBe(0o700);
    expect(statSync(join(root, 'state')).mode & 0o777).toBe(0o700);
    for (const [name, value] of Object.entries({
      port: '0',
      appendonly: 'yes',
      appendfsync: 'always',
      save: '',
      'maxmemory-policy': 'noeviction',
    })) {
      expect(await redis.config('GET', name)).toEqual([name, value]);
    }
  });

  it('keeps its data over a stop and a start, and leaves nothing running', async () => {
    const first = await started(root);
    await (await client(first)).set('key', 'value');
    const pid = first.pid ?? 0;
    await first.stop();
    await first.stop();
    expect(isAlive(pid)).toBe(false);
    expect(existsSync(join(root, 'owner.lock'))).toBe(false);
    expect(await (await client(await started(root))).get('key')).toBe('value');
  });

  it('comes back on the same URL, with every answered write, when it is killed', async () => {
    const lines: string[] = [];
    const embedded = await started(root, lines);
    const redis = await client(embedded);
    for (let count = 1; count <= 20; count++) await redis.incr('count');
    const pid = embedded.pid ?? 0;
    process.kill(pid, 'SIGKILL');
    await until(() => embedded.pid !== null && embedded.pid !== pid && redis.status === 'ready');
    expect(await redis.get('count')).toBe('20');
    await until(() => lines.some((line) => line.includes('private Redis runs again')));
    expect(lines.join('')).toContain('private Redis ended unexpectedly; restarting it');
  });

  it('stops while it is being restarted', async () => {
    const embedded = await started(root);
    const { pid } = embedded;
    process.kill(pid ?? 0, 'SIGKILL');
    // There is none until the next one has been started, which may be before a busy machine looks.
    await until(() => embedded.pid !== pid);
    await embedded.stop();
    expect(embedded.pid).toBeNull();
    expect(existsSync(join(root, 'owner.lock'))).toBe(false);
  });

  it('stays with its first owner', async () => {
    await started(root);
    await expect(started(root)).rejects.toThrow(
      `The folder ${root} is in use by another carrierarr (process ${process.pid}). Stop that one first, or choose another state folder.`,
    );
  });

  it('uses a short private folder for its socket when its own path is too long', async () => {
    const deep = join(root, 'x'.repeat(60), 'y'.repeat(60));
    const embedded = await started(deep);
    const socketDir = dirname(decodeURIComponent(new URL(embedded.url).pathname));
    expect(socketDir.startsWith(deep)).toBe(false);
    expect(statSync(socketDir).mode & 0o777).toBe(0o700);
    expect(await (await client(embedded)).ping()).toBe('PONG');
    await embedded.stop();
    expect(existsSync(socketDir)).toBe(false);
  });

  it('works in a folder with spaces and signs that mean something in URLs', async () => {
    expect(await (await client(await started(join(root, "a b'c#d?e%20")))).ping()).toBe('PONG');
  });

  it('ends when the process that owns it is killed', async () => {
    const owner = runBuilt(`
      const logger = platform.createLogger({ program: 'owner', level: 'silent' });
      const { pid } = await platform.startEmbeddedRedis({ dir: ${JSON.stringify(root)}, logger });
      console.log('pid=' + pid + ';');
    `);
    closers.push(() => void owner.process.kill('SIGKILL'));
    await until(() => owner.output().includes(';'));
    const pid = Number(/pid=(\d+);/.exec(owner.output())?.[1]);
    expect(isAlive(pid)).toBe(true);
    owner.process.kill('SIGKILL');
    expect(await owner.ended).toBe('SIGKILL');
    await until(() => !isAlive(pid));
    expect(existsSync(join(root, 'owner.lock'))).toBe(true);
    await started(root);
  });

  it.each(['as it is', 'while it is frozen'])('ends a server that a killed owner left behind, %s', async (how) => {
    const stale = abandonedServer(root);
    await until(() => existsSync(join(root, 'redis.sock')));
    const other = await client({ url: `unix://${join(root, 'redis.sock')}` });
    await other.set('key', 'value');
    other.disconnect();
    const ended = new Promise((resolve) => void stale.once('exit', resolve));
    if (how === 'while it is frozen') stale.kill('SIGSTOP');
    const embedded = await started(root);
    await ended;
    expect(await (await client(embedded)).get('key')).toBe('value');
  });

  it('leaves a process alone that got the id of a dead server', async () => {
    const bystander = spawn('sleep', ['60'], { stdio: 'ignore' });
    closers.push(() => void bystander.kill('SIGKILL'));
    writeFileSync(
      join(root, 'server.json'),
      JSON.stringify({ pid: bystander.pid, socketPath: join(root, 'redis.sock') }),
    );
    await started(root);
    expect(isAlive(bystander.pid ?? 0)).toBe(true);
  });

  it('says what the server said when it cannot start, and frees the folder', async () => {
    mkdirSync(join(root, 'data', 'appendonlydir'), { recursive: true });
    writeFileSync(join(root, 'data', 'appendonlydir', 'appendonly.aof.manifest'), 'nonsense\n');
    await expect(started(root)).rejects.toThrow(
      /private Redis server ended while it started \(exit code 1\)\. It said:\n[^]*manifest/,
    );
    expect(existsSync(join(root, 'owner.lock'))).toBe(false);
  });

  it('says how to install Redis when there is neither that nor Docker', async () => {
    const empty = join(root, 'bin');
    mkdirSync(empty);
    const attempt = () => started(join(root, 'state'), [], empty);
    await expect(attempt()).rejects.toMatchObject({ code: 'redis_not_installed' });
    for (const line of [
      'brew install redis',
      'apt-get install -y redis-server',
      'dnf install -y valkey',
      '--redis-url',
    ]) {
      await expect(attempt()).rejects.toThrow(line);
    }
  });

  it('does not take a Docker without a daemon for one', async () => {
    const bin = join(root, 'bin');
    mkdirSync(bin);
    writeFileSync(join(bin, 'docker'), '#!/bin/sh\nexit 1\n');
    chmodSync(join(bin, 'docker'), 0o755);
    await expect(started(join(root, 'state'), [], bin)).rejects.toMatchObject({ code: 'redis_not_installed' });
  });

  it('finds valkey-server too', async () => {
    const bin = join(root, 'bin');
    mkdirSync(bin);
    const redis = spawnSync('/bin/sh', ['-c', 'command -v redis-server'], { encoding: 'utf8' }).stdout.trim();
    symlinkSync(redis, join(bin, 'valkey-server'));
    expect(await (await client(await started(join(root, 'state'), [], bin))).ping()).toBe('PONG');
  });
});
