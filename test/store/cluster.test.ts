import {
  CommandStore,
  defineScripts,
  Leadership,
  ResourceEvents,
  ResourceFollow,
  ResourceStore,
  WorkerStatusStore,
} from '@carrierarr/store';
import { systemClock } from '@carrierarr/platform';
import { Keys } from '@carrierarr/protocol';
import { Cluster } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort, startRedis, type TestRedis } from '../support/redis.js';
import { until } from '../support/until.js';
import { record, report, workerResource } from './support/control.js';

const keys = new Keys('t');
let redis: TestRedis;
let connection: Cluster;

beforeAll(async () => {
  // The bus takes a port of its own; by default that is 10,000 higher, which may not exist.
  const bus = ['--cluster-port', `${await freePort()}`];
  // A node that has never met another does not know its own address.
  redis = await startRedis({ args: ['--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1', ...bus] });
  const node = redis.client();
  await node.call('CLUSTER', 'ADDSLOTSRANGE', 0, 16383);
  await until('the cluster is up', async () => String(await node.call('CLUSTER', 'INFO')).includes('cluster_state:ok'));
  connection = new Cluster([{ host: '127.0.0.1', port: redis.port }]);
  defineScripts(connection);
});
afterAll(async () => {
  connection.disconnect();
  await redis.stop();
});

// One node is enough: it refuses keys of several slots in one call, as any other does.
describe('on a Cluster', () => {
  it('a leader leads, submits, and writes status, resources and events', async () => {
    const leadership = new Leadership({ connection, keys, leaseMs: 600_000 });
    const answer = await leadership.hold('a');
    if (!answer.leads) throw new Error(answer.holder);
    const { fence } = answer;
    await leadership.raise(fence);

    const status = new WorkerStatusStore({ connection, keys });
    const nowMs = Date.now();
    await status.publish(fence, {
      report: report(nowMs),
      upserts: [record('i-1')],
      removed: [],
      seen: { 'i-1': nowMs },
    });
    const { epoch, workers } = await status.read(nowMs);
    expect(workers).toMatchObject([{ id: 'i-1' }]);
    expect((await status.changesSince({ epoch, version: 0 }, nowMs)).workers).toEqual(workers);

    const store = new ResourceStore({ connection, keys });
    const written = await store.put(workerResource('w1'), '0', fence);
    expect(written).toMatchObject({ kind: 'ok' });
    expect((await store.listAll()).items).toHaveLength(1);
    expect(await store.changesSince('0', 10)).toMatchObject({ kind: 'changes', changes: [{ type: 'ADDED' }] });
    const events = new ResourceEvents({ connection, keys });
    await events.record('Worker', 'w1', { type: 'Normal', reason: 'Made', message: 'm' }, fence);
    expect(await events.list('Worker', 'w1')).toHaveLength(1);
    expect(await store.remove('Worker', 'w1', undefined, fence)).toEqual({ kind: 'ok' });

    const history = { entriesMax: 100, bytesMax: 1 << 20, ageMaxMs: 3_600_000, executionsMs: 60_000 };
    const commands = new CommandStore({
      ...{ connection, keys, history, queueLengthMax: 5, pendingTargetsMax: 6400, idempotencyMs: 60_000 },
    });
    const command = { target: 'w1', command: 'start', args: [], subject: 's', address: 'a', gateway: 'g' };
    const submitted = await commands.submit({ ...command, idempotent: false, clientId: 'x', leaderFence: fence });
    expect(submitted).toMatchObject({ kind: 'accepted' });
    await leadership.release('a', fence);
  });

  it('resources are followed', async () => {
    const store = new ResourceStore({ connection, keys });
    const subscriber = new Cluster([{ host: '127.0.0.1', port: redis.port }], { shardedSubscribers: true });
    const errors: unknown[] = [];
    const follow = new ResourceFollow({
      ...{ subscriber, keys, store, clock: systemClock, onError: (error: unknown) => void errors.push(error) },
    });
    await follow.start();
    await store.put(workerResource('w2'), '0');
    await until('it is known', () => follow.resources.get('Worker', 'w2') !== undefined);
    expect(errors).toEqual([]);
    follow.stop();
    subscriber.disconnect();
  });
});
