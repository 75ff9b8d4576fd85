/**
 * The programs that are compared. Each is an object of data and a `start`; measure.mjs drives them all alike.
 *
 * To add one: write an object of type `System` and put it into `systems`.
 *
 * Ours (`carrierarr`, at the end) is fed otherwise than the references: they get one PUBLISH per line, while our
 * lines go through the log, so its `feed` starts a program that appends batches by `@carrierarr/store`, paced
 * by pace.mjs. Everything after the feed is the same.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { buildDir, Child, freePort, waitForPort } from './processes.mjs';

const here = import.meta.dirname;

/**
 * @typedef {object} Start
 * @property {string} redisUrl
 * @property {number} targets targets `bench-0` to `bench-<targets - 1>` will be fed
 * @property {string} script a control script that writes `$2` marked lines as fast as it can
 * @property {number} lines that the script will be asked for
 */
/**
 * @typedef {object} Started
 * @property {number} port
 * @property {Record<string, number>} pids by role; their CPU and memory are added up as the system's
 * @property {() => Promise<void>} stop
 */
/**
 * @typedef {object} FeedOptions
 * @property {number} redisPort
 * @property {string} redisUrl
 * @property {number} targets
 * @property {number} [linesPerSecond] over all targets
 * @property {number} [windowLines] without `linesPerSecond`: the most lines in flight
 * @property {string} progressFile
 * @property {number} seconds
 * @property {number} lineBytes
 */
/**
 * @typedef {object} System
 * @property {string} name
 * @property {string} path of the WebSocket, with query
 * @property {string[]} [headers] for the upgrade: `Authorization: Bearer ...`
 * @property {boolean} [socketio] speaks Engine.IO and Socket.IO
 * @property {string} [subscribe] message; `%d` is the number of the target
 * @property {string} [ping] message that is answered with one that holds `pong`
 * @property {string} [trigger] pipeline: message that starts the script, where `%LINES%` is how many it writes; none if connecting does
 * @property {('flow' | 'stall' | 'idle' | 'pipeline')[]} kinds of scenario it can run
 * @property {(start: Start, kind: string) => Promise<Started>} start
 * @property {(feed: string, options: FeedOptions) => Child} feed a child that ends with the JSON line of feed.c
 */

/** @param {Record<string, string | number | undefined>} flags */
const toArgs = (flags) =>
  Object.entries(flags).flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, String(value)]));

/** @type {(options: FeedOptions) => string[]} flags that feed.c and pace.mjs share */
const feedArgs = (options) =>
  toArgs({
    targets: options.targets,
    rate: options.linesPerSecond,
    window: options.linesPerSecond ? undefined : options.windowLines,
    progress: options.linesPerSecond ? undefined : options.progressFile,
    seconds: options.seconds,
    'line-bytes': options.lineBytes,
  });

/** A feeder in JavaScript, see pace.mjs. @param {string} name @param {FeedOptions} options */
const pacedFeed = (name, options) =>
  new Child(process.execPath, [join(here, name), '--redis-url', options.redisUrl, ...feedArgs(options)]);

/** At a given rate by the same kind of feeder as ours; as fast as it goes by one in C, or it would be the bottleneck. @type {System['feed']} */
const publishLines = (feed, options) =>
  options.linesPerSecond
    ? pacedFeed('feed-publish.mjs', options)
    : new Child(feed, [...toArgs({ 'redis-port': options.redisPort }), ...feedArgs(options)]);

/** A reference in reference/<name>.mjs, which prints its port. @param {string} name @returns {System} */
const reference = (name) => ({
  name,
  path: '/ws',
  subscribe: '{"type":"subscribe","target":"bench-%d"}',
  ping: '{"type":"ping"}',
  kinds: ['flow', 'stall', 'idle'],
  feed: publishLines,
  start: async ({ redisUrl, targets }) => {
    const child = new Child(process.execPath, [
      join(here, 'reference', `${name}.mjs`),
      ...toArgs({ 'redis-url': redisUrl, targets }),
    ]);
    const { port } = await child.next();
    return { port, pids: { server: child.pid }, stop: () => child.stop() };
  },
});

/** Debian's websocketd: one script per connection, each line a frame. No Redis, no history, no second viewer. @type {System} */
const websocketd = {
  name: 'websocketd',
  path: '/',
  kinds: ['pipeline'],
  feed: publishLines,
  start: async ({ script, lines }) => {
    const port = await freePort();
    const child = new Child('websocketd', [
      ...['--address=127.0.0.1', `--port=${port}`, '--loglevel=error'],
      ...[script, 'flood', String(lines)],
    ]);
    await waitForPort(port);
    return { port, pids: { server: child.pid }, stop: () => child.stop() };
  },
};

const TOKEN = 'bench-0123456789abcdef0123456789abcdef';
const main = join(here, '../../apps/cli/dist/main.js');

/** Ours, with authentication and limits on. `pipeline` adds a runner, which the script's lines come through. @type {System} */
const carrierarr = {
  name: 'carrierarr',
  path: '/ws',
  headers: [`Authorization: Bearer ${TOKEN}`],
  subscribe: '{"type":"subscribe","target":"bench-%d"}',
  ping: '{"type":"ping"}',
  trigger: '{"type":"command","command":"flood","args":["%LINES%"],"target":"bench-0"}',
  kinds: ['flow', 'stall', 'idle', 'pipeline'],
  feed: (_feed, options) => pacedFeed('feed-store.mjs', options),
  start: async ({ redisUrl, script }, kind) => {
    await forgetEverything(redisUrl);
    const port = await freePort();
    const tokens = join(buildDir, 'tokens');
    writeFileSync(tokens, `bench ${TOKEN}\n`, { mode: 0o600 });
    const shared = ['--redis-url', redisUrl, '--log-level', 'warn'];
    const gateway = new Child(process.execPath, [
      ...[main, 'gateway', '-addr', `127.0.0.1:${port}`, '--tokens-file', tokens, ...shared],
      ...[
        '--connections-per-address-max',
        '20000',
        '--drain-delay',
        '0s',
        '--drain-spread',
        '0s',
        '--shutdown-grace',
        '1s',
      ],
    ]);
    const children = [gateway];
    /** @type {Record<string, number>} */
    const pids = { gateway: gateway.pid };
    if (kind === 'pipeline') {
      const opsPort = await freePort();
      const runner = new Child(process.execPath, [
        main,
        'runner',
        '-script',
        script,
        '--ops-addr',
        `127.0.0.1:${opsPort}`,
        ...shared,
      ]);
      children.push(runner);
      pids['runner'] = runner.pid;
      await untilReady(opsPort);
    }
    await untilReady(port);
    return {
      port,
      pids,
      stop: async () => {
        for (const child of children.toReversed()) await child.stop();
      },
    };
  },
};

/** What an earlier run left: its leases would make lines of their own. The Redis is the benchmark's. @param {string} redisUrl */
const forgetEverything = async (redisUrl) => {
  const redis = new Redis(redisUrl);
  await redis.flushall();
  redis.disconnect();
};

/** @param {number} port */
const untilReady = async (port) => {
  for (const endMs = performance.now() + 15_000; performance.now() < endMs; await sleep(50)) {
    const response = await fetch(`http://127.0.0.1:${port}/ready`).catch(() => undefined);
    if (response?.ok) return;
  }
  throw new Error('a program was not ready within 15 s');
};

/** @type {System[]} */
export const systems = [
  reference('uws-bare'),
  reference('uws-tick'),
  reference('ws-redis'),
  {
    ...reference('socketio'),
    path: '/socket.io/?EIO=4&transport=websocket',
    socketio: true,
    subscribe: '42["subscribe","bench-%d"]',
    ping: '42["ping"]',
  },
  websocketd,
  carrierarr,
];

/** The name the goals are about. */
export const OURS = 'carrierarr';

/** A control script that floods: `<script> flood N`. @param {string} feed the binary of feed.c @param {number} lineBytes */
export const writeScript = (feed, lineBytes) => {
  const path = join(buildDir, 'flood.sh');
  writeFileSync(path, `#!/bin/sh\nexec '${feed}' --stdout --line-bytes ${lineBytes} --lines "$2"\n`, { mode: 0o755 });
  return path;
};
