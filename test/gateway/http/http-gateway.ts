/** The HTTP part of a gateway on a real Redis and a free port, with a runner played by the test. */
import {
  createLogger,
  createMetrics,
  createRedis,
  loadConfig,
  Readiness,
  redisSettings,
  systemClock,
  waitForRedis,
} from '@carrierarr/platform';
import { encodeEntry, Keys, type StreamLetter } from '@carrierarr/protocol';
import {
  CommandStore,
  defineScripts,
  DrainQueue,
  type Ending,
  ExecutionHistory,
  NodeFollow,
  NodeLookup,
  NodeRegistry,
  OrphanStore,
  OutputLog,
  ResourceEvents,
  ResourceFollow,
  ResourceStore,
  RunnerRegistry,
  WorkerStatusStore,
} from '@carrierarr/store';
import uWS from 'uWebSockets.js';
import { createAuthenticator } from '../../../apps/gateway/src/access/create-authenticator.js';
import { ConnectionLimits } from '../../../apps/gateway/src/access/connection-limits.js';
import { Guard } from '../../../apps/gateway/src/access/guard.js';
import { Commands } from '../../../apps/gateway/src/commands.js';
import { gatewaySchema, historyBoundsOf } from '../../../apps/gateway/src/config.js';
import { NodeView } from '../../../apps/gateway/src/fleet/node-view.js';
import { registerHttp } from '../../../apps/gateway/src/http/register.js';
import { RedisHealth } from '../../../apps/gateway/src/redis-health.js';
import { StatusFeed } from '../../../apps/gateway/src/status/status-feed.js';
import type { TestRedis } from '../../support/redis.js';

export const RUNNER = { id: 'r1', incarnation: 'i1' };
const ENDING: Ending = { outcome: 'succeeded', exitCode: 0, lines: 0, truncatedLines: 0, sequence: 0 };

export type HttpGateway = Awaited<ReturnType<typeof startHttpGateway>>;

export async function startHttpGateway(
  redis: TestRedis,
  argv: string[] = [],
  options: { commandsEnabled?: boolean } = {},
) {
  const flags = [
    '--redis-url',
    redis.url,
    '--messages-per-second',
    '100000',
    '--commands-per-second',
    '100000',
    '--commands-burst',
    '100000',
  ];
  const loaded = loadConfig({
    program: 'test',
    summary: '',
    schema: gatewaySchema,
    argv: [...flags, ...argv],
    env: {},
  });
  if (loaded.kind === 'help') throw new Error('help');
  const config = loaded.values;
  const logLines: string[] = [];
  const logger = createLogger({
    program: 'test',
    level: 'debug',
    destination: { write: (line: string) => void logLines.push(line) },
  });
  const settings = redisSettings(config);
  const connection = createRedis(settings, { name: 'test', role: 'commands' });
  await waitForRedis(connection, { settings });
  defineScripts(connection);
  const keys = new Keys(config.redisKeyPrefix);
  const clock = systemClock;
  const metrics = createMetrics({ program: 'test', version: '0', hasProcessMetrics: false });
  const readiness = new Readiness();
  const health = new RedisHealth({ connection, keys, clock, logger, readiness });
  const bounds = { queueLengthMax: config.queueLengthMax, pendingTargetsMax: config.pendingTargetsMax };
  const store = new CommandStore({
    connection,
    keys,
    history: historyBoundsOf(config),
    ...bounds,
    idempotencyMs: config.idempotencyWindow,
  });
  const history = new ExecutionHistory(connection, keys);
  const log = new OutputLog(connection, keys);
  const runners = new RunnerRegistry(connection, keys);
  const drain = new DrainQueue(connection, keys);
  const authenticator = createAuthenticator(config, { clock, logger });
  await authenticator.start();
  const watchers = new Map<string, Set<() => void>>();
  const limits = new ConnectionLimits(config);
  const common = { connection, keys, redis: health, clock, logger, metrics };
  const statusStore = new WorkerStatusStore({ connection, keys });
  const status = new StatusFeed({
    ...{ keys, redis: health, clock, logger, metrics, store: statusStore },
    subscriber: createRedis(settings, { name: 'test-status', role: 'subscriber' }),
    clientBufferBytes: config.clientBufferBytes,
  });
  const nodes = new NodeView({
    ...{ ...common, workers: status },
    follow: new NodeFollow({ connection, keys }),
    lookup: new NodeLookup({ connection, keys }),
  });
  const commands = new Commands({
    ...common,
    store,
    drain,
    runners,
    nodes,
    gatewayId: 'gw',
    queueLengthMax: config.queueLengthMax,
    ...options,
  });
  const orphanStore = new OrphanStore({ connection, keys });
  const resourceStore = new ResourceStore({ connection, keys });
  const resourceEvents = new ResourceEvents({ connection, keys });
  const resourceSubscriber = createRedis(settings, { name: 'test-resources', role: 'subscriber' });
  const follow = new ResourceFollow({
    ...{ subscriber: resourceSubscriber, keys, store: resourceStore, clock },
    onError: () => undefined,
  });
  const app = uWS.App();
  const http = registerHttp(app, {
    ...{ config, commands, history, log, readiness, limits, clientCount: () => 3 },
    ...common,
    guard: new Guard(config, authenticator),
    ...{ status, nodes, commandStore: store, resourceStore, resourceEvents, follow, orphanStore },
    wakeOn(target, onChange) {
      const set = watchers.get(target) ?? new Set();
      watchers.set(target, set.add(onChange));
      return () => void set.delete(onChange);
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    app.listen('127.0.0.1', 0, (socket) =>
      socket ? resolve(uWS.us_socket_local_port(socket)) : reject(new Error('cannot listen')),
    );
  });
  await new Promise<void>((resolve) => {
    const unwatch = health.onChange(() => {
      unwatch();
      resolve();
    });
    void health.start();
  });
  await status.start();
  await follow.start();
  const wake = (target: string) => watchers.get(target)?.forEach((onChange) => onChange());
  const sequences = new Map<string, number>();

  return {
    ...{
      app,
      http,
      port,
      url: `http://127.0.0.1:${port}`,
      store,
      history,
      log,
      keys,
      connection,
      health,
      readiness,
      authenticator,
      commands,
    },
    ...{
      registry: new NodeRegistry({ connection, keys }),
      statusStore,
      status,
      orphanStore,
      resourceStore,
      resourceEvents,
      follow,
    },
    ...{ limits, logLines, wake, watching: (target: string) => watchers.get(target)?.size ?? 0 },
    announceRunner: () => {
      const seen_at = new Date().toISOString();
      return runners.announce({
        ...RUNNER,
        version: '0',
        host: 'h',
        pid: 1,
        concurrency: 1,
        running: 0,
        started_at: seen_at,
        seen_at,
      });
    },
    /** Submits past HTTP. */
    async submit(target: string, command = 'start') {
      const where = { subject: 's', address: 'a', gateway: 'g', idempotent: false };
      const answer = await store.submit({ target, command, args: [], ...where });
      if (answer.kind !== 'accepted') throw new Error(answer.kind);
      return answer.execution;
    },
    async claim(target: string) {
      const answer = await store.claim(target, RUNNER);
      if (answer.kind !== 'claimed') throw new Error(answer.kind);
      wake(target);
      return { id: answer.execution.id, fence: answer.fence, target };
    },
    async append(run: { id: string; fence: number; target: string }, lines: string[], stream: StreamLetter = 'o') {
      const sequence = (sequences.get(run.id) ?? 0) + 1;
      sequences.set(run.id, sequence);
      const entry = encodeEntry({
        ...{ kind: 'lines', execution: run.id, sequence, timeMs: 1_700_000_000_000 },
        ...{ runs: [{ stream, lines: lines.length }], body: Buffer.from(lines.join('\n')) },
      });
      await store.append(run.target, run.fence, sequence, lines.length, entry);
      wake(run.target);
    },
    async finish(run: { id: string; fence: number; target: string }, ending: Partial<Ending> = {}) {
      await store.finish(run.target, run.id, run.fence, { ...ENDING, ...ending, sequence: sequences.get(run.id) ?? 0 });
      wake(run.target);
    },
    async stop() {
      http.stop();
      status.stop();
      follow.stop();
      resourceSubscriber.disconnect();
      health.stop();
      authenticator.stop();
      app.close();
      await drain.close().catch(() => undefined);
      connection.disconnect();
    },
  };
}
