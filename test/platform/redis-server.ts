/** Real Redis servers for tests: on loopback, on free ports, ended by their process. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { vi } from 'vitest';

export interface TestServer {
  readonly port: number;
  readonly process: ChildProcess;
  stop(): Promise<void>;
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((resolve) => void server.close(() => resolve()));
  return port;
}

function canConnect(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/** Waits until `condition` holds; throws after `deadlineMs`. */
export async function until(condition: () => boolean | Promise<boolean>, deadlineMs = 15_000): Promise<void> {
  await vi.waitFor(
    async () => {
      if (!(await condition())) throw new Error(`Still not so after ${deadlineMs} ms: ${condition.toString()}`);
    },
    { timeout: deadlineMs, interval: 10 },
  );
}

/** `args` are further redis-server arguments; `port` to come back on the port of a stopped one. */
export async function startRedis(args: readonly string[] = [], port?: number): Promise<TestServer> {
  const chosen = port ?? (await freePort());
  const dir = mkdtempSync(join(tmpdir(), 'redis-test-'));
  const fixed = ['--port', String(chosen), '--bind', '127.0.0.1', '--dir', dir, '--save', ''];
  // A configuration file has to come first.
  const file = args.slice(0, args[0] === undefined || args[0].startsWith('--') ? 0 : 1);
  const child = spawn('redis-server', [...file, ...fixed, ...args.slice(file.length)], { stdio: 'ignore' });
  const ended = new Promise<void>((resolve) => void child.once('exit', () => resolve()));
  await until(() => canConnect(chosen));
  return {
    port: chosen,
    process: child,
    async stop() {
      child.kill('SIGKILL');
      await ended;
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
