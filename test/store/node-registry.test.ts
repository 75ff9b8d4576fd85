import {
  defineScripts,
  LISTENING_PAUSE_MS,
  NAME_HELD_MS,
  NodeFollow,
  NodeLookup,
  NodeRegistry,
} from '@carrierarr/store';
import { Keys, type NodeHeartbeat, type NodeRegistration, type NodeStatusRecord } from '@carrierarr/protocol';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { startRedis, type TestRedis } from '../support/redis.js';

let redis: TestRedis;
let connection: Redis;
const keys = new Keys('t');

beforeAll(async () => {
  redis = await startRedis();
  connection = redis.client();
  defineScripts(connection);
});
afterAll(() => redis.stop());
beforeEach(() => connection.flushall());

const registry = (nodesMax?: number) =>
  new NodeRegistry({ connection, keys, ...(nodesMax !== undefined && { nodesMax }) });
const follow = () => new NodeFollow({ connection, keys });

function registration(overrides: Partial<NodeRegistration> = {}): NodeRegistration {
  return {
    ...{ type: 'NODE_TYPE_GPU_WORKER', instance_id: '', nebula_ip: '', public_ip: '', region: '', az: '' },
    ...{ labels: {}, features: [], agent_version: '', registered_ms: 1 },
    ...overrides,
  };
}
function status(overrides: Partial<NodeStatusRecord> = {}): NodeStatusRecord {
  return {
    ...{ health: 'HEALTH_STATE_HEALTHY', uptime_seconds: 1, idle_seconds: 0, services: {}, gpus: [], models: [] },
    ...{ draining: false, received_ms: 1 },
    ...overrides,
  };
}

function heartbeat(overrides: Partial<NodeHeartbeat> = {}): NodeHeartbeat {
  return { status: 'healthy', services: {}, gpus: [], models_loaded: [], received_ms: 5, ...overrides };
}

async function known() {
  const view = follow();
  await view.refresh();
  return view;
}
async function open(name: string, key?: string, monitor = 'm1') {
  const answer = await registry().openStream(name, key, monitor);
  if (answer.kind !== 'open') throw new Error(answer.kind);
  return answer;
}

describe('names', () => {
  it('joins a machine that is host name to gRPC and instance id to RabbitMQ, whichever comes first', async () => {
    for (const order of [
      ['grpc', 'amqp'],
      ['amqp', 'grpc'],
    ] as const) {
      await connection.flushall();
      for (const channel of order) {
        if (channel === 'grpc') {
          await registry().register('host-a', registration({ instance_id: 'i-1', region: 'eu' }), 'grpc');
        } else {
          await registry().register('i-1', registration({ public_ip: '1.2.3.4', region: 'other' }), 'amqp');
        }
      }
      const view = await known();
      expect([...view.nodes.keys()]).toEqual(['i-1']);
      expect(view.find('host-a')).toBe(view.find('i-1'));
      // What gRPC says counts; RabbitMQ fills in what that leaves out.
      expect(view.find('i-1')).toMatchObject({
        name: 'host-a',
        registration: { instance_id: 'i-1', region: 'eu', public_ip: '1.2.3.4' },
      });
    }
  });

  it('knows a node by its stream alone, and keeps stream and status when it registers with an instance id', async () => {
    const { key, fence } = await open('host-a');
    expect(key).toBe('host-a');
    await registry().status('host-a', fence, status({ idle_seconds: 7 }));
    await registry().register('host-a', registration({ instance_id: 'i-1' }), 'grpc');
    const view = await known();
    expect([...view.nodes.keys()]).toEqual(['i-1']);
    expect(view.find('host-a')).toMatchObject({ key: 'i-1', status: { idle_seconds: 7 }, stream: { fence } });
    // The stream goes on under the key it began with.
    expect(await registry().status('host-a', fence, status({ idle_seconds: 8 }))).toBe('i-1');
  });

  it('leaves a host name to the living machine that has it, and gives it to another once that is silent', async () => {
    await registry().register('host-a', registration({ instance_id: 'i-1' }), 'grpc');
    expect(await registry().register('host-a', registration({ instance_id: 'i-2' }), 'grpc')).toMatchObject({
      key: 'i-2',
      name: 'i-2',
    });
    await connection.zincrby(keys.nodesSeen('grpc'), -NAME_HELD_MS, 'i-1');
    expect(await registry().register('host-a', registration({ instance_id: 'i-2' }), 'grpc')).toMatchObject({
      name: 'host-a',
    });
    expect((await known()).find('i-1')?.name).toBe('i-1');
  });

  it('gives a former name of a machine that lives to the one that is called so now', async () => {
    const called = async (name: string) => (await new NodeLookup({ connection, keys }).find(name))?.record;
    await registry().register('gpu-1', registration({ instance_id: 'i-1' }), 'grpc');
    await registry().register('gpu-1-old', registration({ instance_id: 'i-1' }), 'grpc');
    expect(await called('gpu-1')).toMatchObject({ key: 'i-1', name: 'gpu-1-old' });
    const replacement = await registry().register('gpu-1', registration({ instance_id: 'i-2' }), 'grpc');
    expect(replacement).toMatchObject({ key: 'i-2', name: 'gpu-1' });
    expect(await called('gpu-1')).toMatchObject({ key: 'i-2', name: 'gpu-1' });
    for (const name of ['gpu-1-old', 'i-1'])
      expect(await called(name)).toMatchObject({ key: 'i-1', name: 'gpu-1-old' });
  });

  it('opens a stream on the machine its connection registered, not on the one that has the host name', async () => {
    await registry().register('host-a', registration({ instance_id: 'i-1' }), 'grpc');
    await registry().register('host-a', registration({ instance_id: 'i-2' }), 'grpc');
    expect((await open('host-a', 'i-2')).key).toBe('i-2');
    expect((await open('host-a')).key).toBe('i-1');
  });

  it('takes no more nodes than are allowed, but goes on with those it knows', async () => {
    const small = registry(1);
    await small.register('a', registration(), 'grpc');
    expect(await small.register('b', registration(), 'grpc')).toEqual({ kind: 'full', nodes: 1 });
    expect(await small.openStream('b', undefined, 'm')).toEqual({ kind: 'full', nodes: 1 });
    expect(await small.register('a', registration(), 'amqp')).toMatchObject({ kind: 'registered' });
  });
});

describe('streams', () => {
  it('lets the newer of two streams win: the older one can write nothing more', async () => {
    const old = await open('a', undefined, 'm1');
    const fresh = await open('a', undefined, 'm2');
    expect(fresh.fence).toBeGreaterThan(old.fence);
    expect(await registry().status('a', old.fence, status({ idle_seconds: 99 }))).toBeUndefined();
    await registry().closeStream('a', old.fence);
    expect((await known()).find('a')).toMatchObject({ stream: { fence: fresh.fence, monitor: 'm2' } });
    expect((await known()).find('a')?.status).toBeUndefined();
  });

  it('reaches a node only while the monitor that serves its stream is there', async () => {
    await open('a', undefined, 'm1');
    const view = await known();
    expect(view.isStreaming(view.find('a')!)).toBe(false);
    await registry().listen('m1', ['grpc']);
    await view.refresh();
    expect(view.isStreaming(view.find('a')!)).toBe(true);
    await connection.zincrby(keys.servingMonitors(), -2 * LISTENING_PAUSE_MS, 'm1');
    await view.refresh();
    expect(view.isStreaming(view.find('a')!)).toBe(false);
  });

  it('takes the last status of a stream before its end, when both are said at once', async () => {
    const { fence } = await open('a');
    const said = registry();
    const calls = vi.spyOn(
      connection as unknown as { carrierarrStreamSays(...words: string[]): unknown },
      'carrierarrStreamSays',
    );
    const [key] = await Promise.all([
      said.status('a', fence, status({ idle_seconds: 99 })),
      said.closeStream('a', fence),
    ]);
    expect(calls.mock.calls.map((words) => words.find((word) => word === 'status' || word === 'close'))).toEqual([
      'status',
      'close',
    ]);
    expect(key).toBe('a');
    expect((await known()).find('a')).toMatchObject({
      status: { idle_seconds: 99 },
      streamEndedMs: expect.any(Number),
    });
  });

  it('says when the last stream of a node ended', async () => {
    const { fence } = await open('a');
    await registry().closeStream('a', fence);
    const node = (await known()).find('a');
    expect(node?.stream).toBeUndefined();
    expect(node?.streamEndedMs).toBeGreaterThan(0);
  });
});

describe('a goodbye', () => {
  it('takes the node away on all channels, with the word that it said so', async () => {
    await registry().register('host-a', registration({ instance_id: 'i-1' }), 'grpc');
    await registry().register('i-1', registration({ instance_id: 'i-1' }), 'amqp');
    const { fence } = await open('host-a', 'i-1');
    await registry().goodbye('i-1', fence);
    expect((await known()).nodes.size).toBe(0);
    const lookup = new NodeLookup({ connection, keys });
    for (const name of ['host-a', 'i-1']) expect(await lookup.leftAgoMs([name])).toBeLessThan(60_000);
    expect(await registry().deregister('i-1')).toBe('unknown');
    await registry().closeStream('i-1', fence);
    expect((await known()).nodes.size).toBe(0);
  });

  it('of a stream that is not the newest any more means nothing', async () => {
    const old = await open('a', undefined, 'm1');
    const fresh = await open('a', undefined, 'm2');
    await registry().goodbye('a', old.fence);
    expect((await known()).find('a')).toMatchObject({ stream: { fence: fresh.fence, monitor: 'm2' } });
  });
});

describe('a registration that is repeated by AMQP', () => {
  const registeredMs = async () => (await known()).find('i-1')?.registration?.registered_ms;
  const register = (registered_ms: number, more: Partial<NodeRegistration> = {}) =>
    registry().register('i-1', registration({ registered_ms, ...more }), 'amqp');
  const silentFor = (ms: number) => connection.zadd(keys.nodesSeen('amqp'), Date.now() - ms, 'i-1');

  it('says what is now, of a node that has been there since the first', async () => {
    await register(1_000, { region: 'eu', said_ms: 11 });
    await silentFor(110_000);
    await register(2_000, { region: 'us', said_ms: 12, features: [], labels: {} });
    expect((await known()).find('i-1')?.registration).toEqual(
      registration({ registered_ms: 1_000, region: 'us', said_ms: 12 }),
    );
  });

  it('begins anew after a silence, or after the word that it goes', async () => {
    await register(1_000);
    await silentFor(130_000);
    await register(2_000);
    expect(await registeredMs()).toBe(2_000);
    await registry().setLimits({ staleMs: 50_000, deadMs: 60_000 });
    await silentFor(55_000);
    await register(3_000);
    expect(await registeredMs()).toBe(3_000);
    await registry().deregister('i-1');
    await register(4_000);
    expect(await registeredMs()).toBe(4_000);
  });

  it('begins anew by gRPC, where agents do so when they connect', async () => {
    await registry().register('i-1', registration({ registered_ms: 1_000 }), 'grpc');
    await registry().register('i-1', registration({ registered_ms: 2_000 }), 'grpc');
    expect(await registeredMs()).toBe(2_000);
  });
});

describe('what a node said by AMQP before it left', () => {
  const register = async (said_ms?: number) =>
    (await registry().register('i-1', registration({ ...(said_ms !== undefined && { said_ms }) }), 'amqp')).kind;
  const beat = (said_ms?: number) =>
    registry().amqpBeat('i-1', heartbeat({ ...(said_ms !== undefined && { said_ms }) }));
  const names = async () => [...(await known()).nodes.keys()];

  it('does not bring it back when it is heard after that, by its own clock', async () => {
    // A clock that is far off: it compares with nothing but itself.
    await register(1_000);
    expect(await registry().deregister('i-1', 5_000)).toBe('removed');
    expect(await beat(4_999)).toBe('outdated');
    expect(await beat(5_000)).toBe('outdated');
    expect(await register(4_999)).toBe('outdated');
    expect(await names()).toEqual([]);
    expect(await beat(5_001)).toBe('ok');
    // Known again, and still no registration but a newer one counts.
    expect(await register(4_999)).toBe('outdated');
    expect((await known()).find('i-1')?.registration).toBeUndefined();
    expect(await register(5_002)).toBe('registered');
    expect(await beat(5_003)).toBe('ok');
  });

  it('also when nothing was known of it, as when the word that it goes is read first', async () => {
    expect(await registry().deregister('i-1', 5_000)).toBe('unknown');
    expect(await registry().deregister('i-1', 4_000)).toBe('unknown');
    expect([await register(4_500), await beat(4_500)]).toEqual(['outdated', 'outdated']);
    expect(await names()).toEqual([]);
  });

  it('does not keep out an agent that is back within the second in which it left, if it tells only seconds', async () => {
    await register(1_000);
    await registry().deregister('i-1', 5_000);
    expect(await register(5_000)).toBe('registered');
    expect(await beat(5_000)).toBe('ok');
  });

  it('is told by what it said last, if it left over its stream, and exactly once it says so by AMQP', async () => {
    await register(1_000);
    await beat(2_000);
    const { fence } = await open('i-1');
    await registry().goodbye('i-1', fence);
    expect([await register(1_999), await beat(2_000), await beat(3_000)]).toEqual(['outdated', 'outdated', 'outdated']);
    expect(await names()).toEqual([]);
    expect(await registry().deregister('i-1', 5_000)).toBe('unknown');
    expect([await register(4_999), await beat(4_999)]).toEqual(['outdated', 'outdated']);
    expect(await names()).toEqual([]);
    expect(await beat(5_001)).toBe('ok');
  });

  it('does not keep out an agent that registers after a goodbye', async () => {
    await register(1_000);
    const { fence } = await open('i-1');
    await registry().goodbye('i-1', fence);
    expect(await beat(1_500)).toBe('outdated');
    expect(await register(6_000)).toBe('registered');
    expect(await beat(6_001)).toBe('ok');
  });

  it('without times brings back who registers, and no heartbeat until that it left is forgotten', async () => {
    await register();
    await registry().deregister('i-1');
    expect(await beat()).toBe('outdated');
    expect(await register()).toBe('registered');
    expect(await beat()).toBe('ok');
    await registry().deregister('i-1');
    const leftMs = Number(await connection.zscore(keys.nodesLeft(), 'i-1'));
    await connection.zadd(keys.nodesLeft(), leftMs - 600_000, 'i-1');
    expect(await beat()).toBe('ok');
  });

  it('is judged without times where an earlier release wrote that it left', async () => {
    await connection.zadd(keys.nodesLeft(), Date.now(), 'i-1');
    expect(await beat(5_000)).toBe('outdated');
    expect(await register(5_001)).toBe('registered');
    expect(await beat(5_002)).toBe('ok');
  });

  it('is taken by the time of each node, of many that left at once', async () => {
    await Promise.all(['a', 'b', 'c', 'd', 'e', 'f'].map((name, i) => registry().deregister(name, 1_000 * (i + 1))));
    await connection.zadd(keys.nodesLeft(), 7, 'a', 7, 'a\n=1', 7, 'ab\n=2');
    const at = await connection.zscore(keys.nodesLeft(), 'b');
    for (const name of ['c', 'd', 'e', 'f']) await connection.zadd(keys.nodesLeft(), at!, name, at!, `${name}\n=9000`);
    expect(await registry().amqpBeat('b', heartbeat({ said_ms: 2_000 }))).toBe('outdated');
    expect(await registry().amqpBeat('b', heartbeat({ said_ms: 2_001 }))).toBe('ok');
    expect(await registry().amqpBeat('a', heartbeat({ said_ms: 1 }))).toBe('ok');
  });

  it('says nothing against a node whose stored words cannot be read', async () => {
    await register(1_000);
    await connection.hset(keys.nodePart('registration:amqp'), 'i-1', '{"said_ms":');
    await connection.hset(keys.nodePart('heartbeat'), 'i-1', '7');
    expect(await registry().deregister('i-1')).toBe('removed');
    expect(await register(1)).toBe('registered');
  });
});

describe('what a node said by AMQP, with the number of its start', () => {
  const register = async (start_number: number, said_ms: number) =>
    (await registry().register('i-1', registration({ said_ms, start_number }), 'amqp')).kind;
  const beat = (start_number: number, said_ms: number) =>
    registry().amqpBeat('i-1', heartbeat({ said_ms, start_number }));

  it('brings it back by a later start, though its clock was set back', async () => {
    await register(7, 5_000);
    expect(await registry().deregister('i-1', 5_001, 7)).toBe('removed');
    expect(await beat(8, 1_000)).toBe('ok');
    expect(await register(8, 1_000)).toBe('registered');
    expect(await registry().deregister('i-1', 1_001, 8)).toBe('removed');
    expect(await register(9, 10)).toBe('registered');
  });

  it('does not by the start that left, or one before, whatever the time', async () => {
    await register(7, 5_000);
    expect(await registry().deregister('i-1', 4_000, 7)).toBe('removed');
    expect([await register(7, 6_000), await beat(7, 6_000)]).toEqual(['outdated', 'outdated']);
    expect([await register(6, 6_000), await beat(6, 6_000)]).toEqual(['outdated', 'outdated']);
    expect((await known()).nodes.size).toBe(0);
  });

  it('does not after a goodbye over its stream, also if only heartbeats were read', async () => {
    await beat(7, 5_000);
    const { fence } = await open('i-1');
    await registry().goodbye('i-1', fence);
    expect([await register(7, 6_000), await beat(7, 6_000)]).toEqual(['outdated', 'outdated']);
    expect(await registry().deregister('i-1', 7_000, 7)).toBe('unknown');
    expect(await beat(7, 8_000)).toBe('outdated');
    expect(await beat(8, 1_000)).toBe('ok');
  });

  it('is not taken back by the word of an earlier start that it goes, only by its own', async () => {
    await register(8, 1_000);
    expect(await registry().deregister('i-1', 5_000, 7)).toBe('outdated');
    expect(await registry().deregister('i-1', 500, 8)).toBe('removed');
  });

  it('is judged by the times where only one side has a number', async () => {
    await register(7, 5_000);
    await registry().deregister('i-1', 6_000, 7);
    const old = async (said_ms: number) => (await registry().register('i-1', registration({ said_ms }), 'amqp')).kind;
    expect([await old(5_999), await old(6_000)]).toEqual(['outdated', 'registered']);
    await connection.flushall();
    await registry().deregister('i-1', 7_000);
    expect([await register(8, 6_999), await register(8, 7_000)]).toEqual(['outdated', 'registered']);
  });
});

describe('the view', () => {
  it('brings itself up to date by what changed, heartbeats and removals included', async () => {
    const view = follow();
    await view.refresh();
    expect(view.nodes.size).toBe(0);
    await registry().register('a', registration(), 'grpc');
    await registry().register('b', registration(), 'amqp');
    await view.refresh();
    expect([...view.nodes.keys()].toSorted()).toEqual(['a', 'b']);
    const before = view.version;
    await connection.zincrby(keys.nodesSeen('grpc'), 5000, 'a');
    await view.refresh();
    expect(view.version).toBe(before);
    expect(view.find('a')!.seenMs.grpc).toBe(Number(await connection.zscore(keys.nodesSeen('grpc'), 'a')));
    expect(await registry().deregister('b')).toBe('removed');
    await view.refresh();
    expect([...view.nodes.keys()]).toEqual(['a']);
    expect(view.find('b')).toBeUndefined();
  });

  it('remembers of nodes that signed off only so many, and not for ever', async () => {
    const nowMs = Date.now();
    const many = Array.from({ length: 60_010 }, (_, i) => [nowMs - 100_000 + i, `old-${i}`]).flat();
    await connection.zadd(keys.nodesLeft(), ...many);
    await registry().register('b', registration(), 'amqp');
    expect(await registry().deregister('b')).toBe('removed');
    expect(await connection.zcard(keys.nodesLeft())).toBe(60_000);
    // The oldest have gone.
    expect(await connection.zscore(keys.nodesLeft(), 'old-0')).toBeNull();
    expect(await connection.zscore(keys.nodesLeft(), 'b')).not.toBeNull();
    expect(await connection.pttl(keys.nodesLeft())).toBeGreaterThan(500_000);
  });

  it('begins anew when Redis has lost everything', async () => {
    const view = follow();
    for (const name of ['a', 'b', 'c']) await registry().register(name, registration(), 'grpc');
    await view.refresh();
    await connection.flushall();
    await view.refresh();
    expect(view.nodes.size).toBe(0);
    await registry().register('d', registration(), 'grpc');
    await view.refresh();
    expect([...view.nodes.keys()]).toEqual(['d']);
  });

  it('forgets only who has been silent', async () => {
    await registry().register('a', registration(), 'grpc');
    await registry().register('b', registration(), 'grpc');
    await connection.zadd(keys.nodesSeen('grpc'), 1000, 'a');
    expect(await registry().forget(['a', 'b'], 2000)).toBe(1);
    const view = await known();
    expect([...view.nodes.keys()]).toEqual(['b']);
    expect(await connection.hgetall(keys.nodeAliases())).toEqual({ b: 'b' });
  });
});

describe('limits of liveness', () => {
  it('are those that the leading monitor said last, and the usual ones before', async () => {
    expect((await known()).limits).toEqual({ staleMs: 120_000, deadMs: 300_000 });
    await registry().setLimits({ staleMs: 1_000, deadMs: 2_000 });
    expect((await known()).limits).toEqual({ staleMs: 1_000, deadMs: 2_000 });
    await registry().register('a', registration(), 'grpc');
    expect((await known()).limits).toEqual({ staleMs: 1_000, deadMs: 2_000 });
  });
});

describe('listening', () => {
  it('goes on while one monitor follows the other, and begins anew after a pause', async () => {
    await registry().listen('m1', ['grpc', 'amqp']);
    const first = (await known()).listening;
    expect(first.grpc).toBeGreaterThan(0);
    await registry().listen('m2', ['grpc']);
    expect((await known()).listening.grpc).toBe(first.grpc);
    const [since, until] = (await connection.hget(keys.listening(), 'grpc'))!.split(' ').map(Number);
    const ago = 3 * LISTENING_PAUSE_MS;
    await connection.hset(keys.listening(), 'grpc', `${since! - ago} ${until! - ago}`);
    expect((await known()).listening.grpc).toBeUndefined();
    await registry().listen('m1', ['grpc']);
    expect((await known()).listening.grpc).toBeGreaterThanOrEqual(since!);
  });
});

describe('heartbeats', () => {
  it('come by gRPC only from nodes that are known, and by RabbitMQ also make a node known', async () => {
    expect(await registry().beat('a')).toBe(false);
    expect(await registry().amqpBeat('a', heartbeat({ status: 'degraded' }))).toBe('ok');
    expect(await registry().beat('a')).toBe(true);
    expect((await known()).find('a')).toMatchObject({ heartbeat: { status: 'degraded' } });
  });
});

describe('a node with a stream that deregisters by AMQP', () => {
  const serving = () => registry().listen('m1', ['grpc']);

  it('is kept while that is open, and heard over it alone', async () => {
    await registry().register('i-1', registration({ said_ms: 1_000 }), 'amqp');
    await serving();
    await open('i-1');
    expect(await registry().deregister('i-1', 5_000)).toBe('kept');
    // Of another queue, and said before.
    expect(await registry().amqpBeat('i-1', heartbeat({ said_ms: 4_000 }))).toBe('outdated');
    expect((await known()).find('i-1')?.seenMs.amqp).toBeUndefined();
    expect(await registry().amqpBeat('i-1', heartbeat({ said_ms: 6_000 }))).toBe('ok');
    expect(await registry().deregister('nobody')).toBe('unknown');
  });

  it('goes when the stream ends soon after, however that is noticed', async () => {
    await registry().register('i-1', registration(), 'amqp');
    await serving();
    const { fence } = await open('i-1');
    expect(await registry().deregister('i-1')).toBe('kept');
    await registry().closeStream('i-1', fence);
    expect((await known()).nodes.size).toBe(0);
    expect(await new NodeLookup({ connection, keys }).leftAgoMs(['i-1'])).toBeLessThan(60_000);
  });

  const leftSince = (ms: number) => connection.zincrby(keys.nodesLeft(), -ms, 'i-1');
  it.each([
    ['it has registered there again', () => registry().register('i-1', registration(), 'amqp')],
    ['the stream lived on for long', () => leftSince(61_000)],
  ])('stays when the stream ends and %s', async (_what, happens) => {
    await registry().register('i-1', registration(), 'amqp');
    await serving();
    const { fence } = await open('i-1');
    await connection.hset(keys.nodeStreams(), 'i-1', `${fence} 1 m1`);
    await registry().deregister('i-1');
    await happens();
    await registry().closeStream('i-1', fence);
    expect((await known()).find('i-1')?.streamEndedMs).toBeGreaterThan(0);
  });

  it('stays when it was back with a newer stream, and that ends', async () => {
    await registry().register('i-1', registration(), 'amqp');
    await serving();
    await open('i-1');
    await registry().deregister('i-1');
    await leftSince(1_000);
    const { fence } = await open('i-1');
    await registry().closeStream('i-1', fence);
    expect((await known()).find('i-1')?.streamEndedMs).toBeGreaterThan(0);
  });

  it('goes at once if the monitor that served the stream has died', async () => {
    await registry().register('i-1', registration(), 'amqp');
    await serving();
    await open('i-1');
    await connection.zincrby(keys.servingMonitors(), -2 * LISTENING_PAUSE_MS, 'm1');
    expect(await registry().deregister('i-1')).toBe('removed');
    expect((await known()).nodes.size).toBe(0);
  });
});
