/** Which commands go to an agent, by which names its node can be called, and when they are refused. */
import { createMetrics, systemClock } from '@carrierarr/platform';
import { ClientError, Keys, type WorkerRecord } from '@carrierarr/protocol';
import { CommandStore, defineScripts, ExecutionHistory, NodeFollow, NodeLookup, NodeRegistry } from '@carrierarr/store';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, it, vi } from 'vitest';
import { Commands, type CommandsOptions } from '../../../apps/gateway/src/commands.js';
import { NodeView } from '../../../apps/gateway/src/fleet/node-view.js';
import { RedisHealth } from '../../../apps/gateway/src/redis-health.js';
import { startRedis, type TestRedis } from '../../support/redis.js';
import { workerRecord } from '../status/monitor.js';
import { connected, registration } from './nodes.js';

let redis: TestRedis;
let connection: Redis;
let health: RedisHealth;
let registry: NodeRegistry;
const keys = new Keys('t');
const logger = { info: () => undefined, warn: () => undefined };

beforeAll(async () => {
  redis = await startRedis();
  connection = redis.client();
  defineScripts(connection);
  registry = new NodeRegistry({ connection, keys });
  health = new RedisHealth({ connection, keys, clock: systemClock, logger });
  void health.start();
  await vi.waitUntil(() => health.state.kind === 'available');
});
afterAll(async () => {
  health.stop();
  await redis.stop();
});
beforeEach(() => connection.flushall());

function build({ workers = [], ...overrides }: Partial<CommandsOptions> & { workers?: WorkerRecord[] } = {}) {
  const history = { entriesMax: 1000, bytesMax: 1 << 20, ageMaxMs: 3_600_000, executionsMs: 60_000 };
  const limits = { queueLengthMax: 10, pendingTargetsMax: 64, idempotencyMs: 60_000 };
  const store = new CommandStore({ connection, keys, history, ...limits });
  const nodes = new NodeView({
    ...{ redis: health, clock: systemClock },
    follow: new NodeFollow({ connection, keys }),
    lookup: new NodeLookup({ connection, keys }),
    workers: {
      workerOf: (id) => workers.find((worker) => worker.id === id),
      workersWithTarget: (target) => workers.filter((worker) => worker.target === target),
    },
  });
  const commands = new Commands({
    ...{
      store,
      connection,
      keys,
      redis: health,
      nodes,
      gatewayId: 'gw',
      queueLengthMax: 10,
      clock: systemClock,
      logger,
    },
    metrics: createMetrics({ program: 't', version: '0', hasProcessMetrics: false }),
    drain: { add: async () => undefined },
    runners: { seenSince: async () => [{}] as never },
    ...overrides,
  });
  const records = new ExecutionHistory(connection, keys);
  const submit = async (target: string, command = 'exec', args = ['uptime']) => {
    const accepted = await commands.submit({ target, command, args, subject: 's', address: 'a' });
    return { ...(await records.get(accepted.execution)), accepted };
  };
  const refused = (target: string, command?: string, args?: string[]) =>
    submit(target, command, args).then(
      () => 'accepted',
      (error: unknown) => (error instanceof ClientError ? `${error.code}: ${error.message}` : String(error)),
    );
  return { commands, store, submit, refused };
}

it('goes to the agent when the target is a node, by whichever of its names, and always to the same queue', async () => {
  await connected(registry, 'host-1', { more: { instance_id: 'i-1' } });
  const { submit } = build();
  for (const name of ['host-1', 'i-1']) {
    expect(await submit(name)).toMatchObject({
      ...{ target: 'host-1', executor: 'agent', node: 'i-1', accepted: { target: 'host-1' } },
    });
  }
});

it('goes to the target that the cloud gives the node, when called by that or by another name', async () => {
  await connected(registry, 'host-1', { more: { instance_id: 'i-1' } });
  const { submit } = build({ workers: [workerRecord('i-1', { target: 'gpu-1' })] });
  for (const name of ['gpu-1', 'host-1', 'i-1']) {
    expect(await submit(name)).toMatchObject({ target: 'gpu-1', executor: 'agent', node: 'i-1' });
  }
});

it('goes to the script when the verb is none of an agent, or the target is no node', async () => {
  await connected(registry, 'host-1');
  const { submit } = build();
  expect(await submit('host-1', 'start', [])).not.toHaveProperty('executor');
  expect(await submit('elsewhere', 'drain', [])).not.toHaveProperty('node');
});

it('is refused where the agent would report so seldom that its node would be stale meanwhile', async () => {
  await connected(registry, 'host-1');
  const { submit, refused } = build();
  for (const name of ['heartbeat_interval_sec', 'status_interval_sec']) {
    expect(await submit('host-1', 'update-config', ['idle_shutdown_minutes=500', `${name}=60`])).toHaveProperty('node');
    const refusal = await refused('host-1', 'update-config', [`${name}=61`]);
    expect(refusal).toMatch(new RegExp(`^bad_command: Expected \`${name}\` to be at most 60, .*got "61"`));
  }
  await registry.setLimits({ staleMs: 10_000, deadMs: 20_000 });
  expect(await refused('host-1', 'update-config', ['status_interval_sec=6'])).toMatch(/^bad_command: .*at most 5/);
});

it('is refused for a while after the agent signed off, as for an upgrade, and never goes to the script meanwhile', async () => {
  const { key, fence } = await connected(registry, 'host-1', { more: { instance_id: 'i-1' } });
  await registry.closeStream(key, fence);
  expect(await registry.deregister('i-1')).toBe('removed');
  const { submit, refused } = build({ workers: [workerRecord('i-1', { target: 'gpu-1' })] });
  for (const name of ['host-1', 'i-1', 'gpu-1'])
    expect(await refused(name)).toMatch(/^node_not_connected: .*signed off \d s ago/);
  expect(await submit('gpu-1', 'start', [])).not.toHaveProperty('executor');
  expect(await submit('elsewhere', 'drain', [])).not.toHaveProperty('node');
  await connected(registry, 'host-1', { more: { instance_id: 'i-1' } });
  expect(await submit('gpu-1')).toMatchObject({ executor: 'agent', node: 'i-1' });
});

it('is the same execution when it is repeated after its agent went away, and another under its id is refused', async () => {
  const { key, fence } = await connected(registry, 'host-1', { more: { instance_id: 'i-1' } });
  const { commands } = build({ workers: [workerRecord('i-1', { target: 'gpu-1' })] });
  const give = (clientId: string, args: string[]) =>
    commands.submit({ target: 'gpu-1', command: 'exec', args, clientId, subject: 's', address: 'a' });
  const { execution } = await give('once', ['uptime']);
  const repeated = async () => {
    expect(await give('once', ['uptime'])).toEqual({ execution, target: 'gpu-1', position: 0, duplicate: true });
    await expect(give('once', ['reboot'])).rejects.toMatchObject({ code: 'id_reused' });
    await expect(give('new', ['uptime'])).rejects.toMatchObject({ code: 'node_not_connected' });
  };
  // For longer than one that moves to another monitor.
  await registry.closeStream(key, fence);
  const nowMs = await build().store.redisNowMs();
  await connection.hset(keys.nodeStreams(), key, `${fence} ${nowMs - 40_000}`);
  await repeated();
  expect(await registry.deregister('i-1')).toBe('removed');
  await repeated();
});

it('goes to the script again when the agent signed off long ago', async () => {
  const { key, fence } = await connected(registry, 'host-1');
  await registry.closeStream(key, fence);
  await registry.deregister('host-1');
  const nowMs = await build().store.redisNowMs();
  await connection.zadd(keys.nodesLeft(), nowMs - 600_000, 'host-1');
  expect(await build().submit('host-1')).not.toHaveProperty('node');
});

it('needs no script, where a command for one is refused', async () => {
  await connected(registry, 'host-1');
  const { submit, refused } = build({ commandsEnabled: false });
  expect(await submit('host-1')).toMatchObject({ executor: 'agent' });
  expect(await refused('host-1', 'start', [])).toMatch(/^no_script:/);
  expect(await refused('elsewhere')).toMatch(/^node_not_connected: .*"elsewhere" is no node/);
});

it('is refused when its arguments are not what the verb needs', async () => {
  await connected(registry, 'host-1');
  const { refused } = build();
  expect(await refused('host-1', 'exec', [])).toMatch(/^bad_command: Expected a program/);
  expect(await refused('host-1', 'drain', ['now'])).toMatch(/^bad_command: Expected further arguments/);
});

it('is taken while the agent moves from one monitor to another, and refused when it has been away for long', async () => {
  const { key, fence } = await connected(registry, 'host-1');
  await registry.closeStream(key, fence);
  const ended = async (ms: number) => {
    const nowMs = await build().store.redisNowMs();
    await connection.hset(keys.nodeStreams(), key, `${fence} ${nowMs - ms}`);
  };
  await ended(25_000);
  expect(await build().submit('host-1')).toMatchObject({ executor: 'agent' });
  await ended(40_000);
  expect(await build().refused('host-1')).toMatch(/^node_not_connected: .*has had no stream for 40 s/);
});

it('is refused when the monitor of the stream has died, as long after the agent was heard', async () => {
  const { key } = await connected(registry, 'host-1');
  await connection.del(keys.servingMonitors());
  expect(await build().submit('host-1')).toMatchObject({ executor: 'agent' });
  const nowMs = await build().store.redisNowMs();
  await connection.zadd(keys.nodesSeen('grpc'), nowMs - 31_000, key);
  await connection.hset(keys.nodeStreams(), key, `1 ${nowMs - 60_000} m1`);
  expect(await build().refused('host-1')).toMatch(/^node_not_connected: .*no stream for 31 s/);
});

it('is refused for a node that only RabbitMQ tells of', async () => {
  await registry.register('i-1', registration({ instance_id: 'i-1' }), 'amqp');
  expect(await build().refused('i-1')).toMatch(/^node_not_connected: .*never had a stream/);
});

it('reaches a node that has come since the last look', async () => {
  const { submit, refused } = build({ commandsEnabled: false });
  expect(await refused('host-1')).toMatch(/^node_not_connected/);
  await connected(registry, 'host-1');
  await vi.waitFor(async () => expect(await submit('host-1')).toMatchObject({ executor: 'agent' }), { timeout: 400 });
});

it('is killed by any name of its node', async () => {
  await connected(registry, 'host-1', { more: { instance_id: 'i-1' } });
  const { commands, submit } = build();
  const { id } = await submit('host-1');
  expect(await commands.kill({ target: 'i-1', subject: 's' })).toEqual({
    ...{ execution: id, target: 'host-1', state: 'cancelled' },
  });
  await expect(commands.kill({ target: 'i-1', subject: 's' })).rejects.toMatchObject({ code: 'nothing_running' });
});

it('reads one node for a command, in one call, however many there are and whatever has changed', async () => {
  for (let i = 0; i < 20; i += 1) await connected(registry, `host-${i}`);
  const { submit } = build();
  await submit('host-1');
  // It would read all that changed since it looked last.
  for (let i = 0; i < 20; i += 1) await connected(registry, `host-${i}`);
  await connection.config('RESETSTAT');
  for (let i = 0; i < 5; i += 1) await submit('host-1');
  const stats = await connection.info('commandstats');
  expect(stats).not.toMatch(/cmdstat_zrangebyscore:/);
  expect(stats).toMatch(/cmdstat_exec:calls=5,/);
});
