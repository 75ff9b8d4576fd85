/**
 * The processes of the benchmark: start, read their CPU and memory from /proc, and end every one of them by
 * its pid whatever happens. Linux only, as the load client is.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const here = import.meta.dirname;
export const resultsDir = join(here, '../../bench-results');
export const buildDir = join(resultsDir, 'build');

/** @type {Set<import('node:child_process').ChildProcess>} */
const running = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP']))
  process.on(signal, () => process.exit(130));

/**
 * A child that speaks JSON lines on standard output. Its standard error goes to ours; its standard input
 * stays open, because our children end when it closes.
 */
export class Child {
  #lines = [];
  #wake = () => {};

  /** @param {string} command @param {string[]} args @param {NodeJS.ProcessEnv} [env] */
  constructor(command, args, env = process.env) {
    this.name = command.split('/').at(-1);
    this.process = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'], env });
    running.add(this.process);
    this.process.stdin.on('error', () => {}); // EPIPE: it ended first, which `closed` tells
    this.closed = once(this.process, 'close').then(() => {
      running.delete(this.process);
      this.#wake();
    });
    this.closed.catch((error) => this.#lines.push(JSON.stringify({ event: 'failed', error: String(error) })));
    createInterface({ input: this.process.stdout }).on('line', (line) => {
      this.#lines.push(line);
      this.#wake();
    });
  }

  get pid() {
    if (!this.process.pid) throw new Error(`${this.name} did not start`);
    return this.process.pid;
  }

  /** @param {string} text */
  write(text) {
    this.process.stdin.write(`${text}\n`);
  }

  /**
   * The next line that is JSON and, when given, has this `event`. Lines before it are dropped.
   * @param {string} [event] @param {number} [timeoutMs]
   * @returns {Promise<any>}
   */
  async next(event, timeoutMs = 30_000) {
    const until = performance.now() + timeoutMs;
    for (;;) {
      while (this.#lines.length > 0) {
        const line = /** @type {string} */ (this.#lines.shift());
        if (!line.startsWith('{')) continue;
        const message = JSON.parse(line);
        if (event === undefined || message.event === event) return message;
      }
      if (!running.has(this.process)) throw new Error(`${this.name} ended before it said ${event ?? 'anything'}`);
      const left = until - performance.now();
      if (left <= 0) throw new Error(`${this.name} did not say ${event ?? 'anything'} within ${timeoutMs} ms`);
      await Promise.race([new Promise((resolve) => (this.#wake = () => resolve(undefined))), sleep(left)]);
    }
  }

  /** Asks by closing standard input and SIGTERM, insists with SIGKILL after a second. */
  async stop() {
    this.process.stdin.end();
    this.process.kill('SIGTERM');
    const insist = setTimeout(() => this.process.kill('SIGKILL'), 5000);
    await this.closed.catch(() => {});
    clearTimeout(insist);
  }
}

const ticksPerSecond = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

/** User and system time of a process with all its threads, without its children. */
export const cpuSeconds = (pid) => {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // the name before may hold spaces
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
};

export const rssKiB = (pid) => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);

export const freePort = async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  server.close();
  await once(server, 'close');
  return port;
};

/** @param {number} port */
export const waitForPort = async (port) => {
  for (let attempt = 0; attempt < 200; attempt++) {
    const socket = connect(port, '127.0.0.1');
    const open = await Promise.race([
      once(socket, 'connect').then(() => true),
      once(socket, 'close').then(() => false),
    ]).catch(() => false);
    socket.destroy();
    if (open) return;
    await sleep(25);
  }
  throw new Error(`nothing listens on 127.0.0.1:${port} after 5 s`);
};

/** Redis of its own, in memory only, with the default limits that production has. */
export const startRedis = async () => {
  mkdirSync(resultsDir, { recursive: true });
  const port = await freePort();
  const child = new Child('redis-server', [
    ...['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'],
    ...['--dir', resultsDir, '--loglevel', 'warning'],
  ]);
  await waitForPort(port);
  return { child, port, url: `redis://127.0.0.1:${port}` };
};

/** Compiles load.c and feed.c when they are newer than their binaries. */
export const buildTools = () => {
  mkdirSync(buildDir, { recursive: true });
  const build = (name) => {
    const source = join(here, 'load', `${name}.c`);
    const binary = join(buildDir, name);
    if (!existsSync(binary) || statSync(binary).mtimeMs < statSync(source).mtimeMs)
      execFileSync('cc', ['-O3', '-march=native', '-o', binary, source], { stdio: 'inherit' });
    return binary;
  };
  return { load: build('load'), feed: build('feed') };
};
