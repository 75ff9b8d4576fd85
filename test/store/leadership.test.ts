import {
  CommandStore,
  DeposedError,
  defineScripts,
  Leadership,
  LEASE_MS,
  ResourceEvents,
  ResourceStore,
  type Submission,
  WorkerStatusStore,
} from '@carrierarr/store';
import { Keys, PARTITIONS, partitionOf } from '@carrierarr/protocol';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startRedis, type TestRedis } from '../support/redis.js';
import { until } from '../support/until.js';
import { expireLease, lead, record, report, workerResource } from './support/control.js';

let redis: TestRedis;
let connection: Redis;
let leadership: Leadership;
const keys = new Keys('t');

beforeAll(async () => {
  redis = await startRedis();
  connection = redis.client();
  defineScripts(connection);
  leadership = new Leadership({ connection, keys });
});
afterAll(() => redis.stop());
beforeEach(() => connection.flushall());

async function fenceOf(holder: string): Promise<number> {
  const answer = await leadership.hold(holder);
  if (!answer.leads) throw new Error(`${answer.holder} leads`);
  return answer.fence;
}

describe('the lease', () => {
  it('is given to the first who asks, and to nobody else while it lasts', async () => {
    const fence = await fenceOf('a');
    const answer = await leadership.hold('b');
    expect(answer).toEqual({ leads: false, holder: 'a', leftMs: expect.any(Number) });
    if (!answer.leads) expect(answer.leftMs).toSatisfy((ms: number) => ms > 0 && ms <= LEASE_MS);
    expect(await fenceOf('a')).toBe(fence);
  });

  it('lasts longer with each renewal', async () => {
    await fenceOf('a');
    const [seconds] = await connection.time();
    await connection.hset(keys.leader(), 'until', (Number(seconds) + 1) * 1000 + 100);
    const before = Number(await connection.hget(keys.leader(), 'until'));
    await fenceOf('a');
    expect(Number(await connection.hget(keys.leader(), 'until'))).toBeGreaterThan(before);
  });

  it('goes to another, with a higher fence, when it has run out', async () => {
    const first = await fenceOf('a');
    await expireLease(connection, keys);
    const second = await fenceOf('b');
    expect(second).toBeGreaterThan(first);
    expect(await leadership.hold('a')).toMatchObject({ leads: false, holder: 'b' });
  });

  it('runs out by itself', async () => {
    const short = new Leadership({ connection, keys, leaseMs: 30 });
    await short.hold('a');
    await until('b leads', async () => (await short.hold('b')).leads);
  });

  it('gives a holder that let it run out a new fence, although nobody took it', async () => {
    const first = await fenceOf('a');
    await expireLease(connection, keys);
    expect(await fenceOf('a')).toBeGreaterThan(first);
  });

  it('has one leader at a time, whoever and how many ask at once', async () => {
    const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => leadership.hold(`m${i}`)));
    expect(answers.filter((answer) => answer.leads)).toHaveLength(1);
  });

  it('is given with a fence above all older ones after Redis lost everything', async () => {
    const first = await fenceOf('a');
    await connection.flushall();
    expect(await fenceOf('b')).toBeGreaterThanOrEqual(first);
    await connection.set(keys.leaderFence(), first + 1_000_000);
    await connection.del(keys.leader());
    expect(await fenceOf('c')).toBe(first + 1_000_001);
  });

  it('is not held for ever when the clock of Redis goes back', async () => {
    await fenceOf('a');
    await connection.hset(keys.leader(), 'until', Date.now() + 3_600_000);
    const answer = await leadership.hold('b');
    expect(answer.leads ? 0 : answer.leftMs).toBe(LEASE_MS);
    expect(Number(await connection.hget(keys.leader(), 'until'))).toBeLessThan(Date.now() + 60_000);
  });

  it('can be given back, which others hear at once, but only by its leader', async () => {
    const heard: string[] = [];
    const subscriber = redis.client();
    await subscriber.ssubscribe(keys.leaderChannel());
    subscriber.on('smessage', (_channel: string, message: string) => heard.push(message));
    const fence = await fenceOf('a');
    await leadership.release('b', fence);
    await leadership.release('a', fence - 1);
    expect((await leadership.hold('b')).leads).toBe(false);
    await leadership.release('a', fence);
    await until('a new leader and its end are heard', () => heard.length === 2);
    expect(heard).toEqual([String(fence), '']);
    expect(await fenceOf('b')).toBeGreaterThan(fence);
  });
});

describe('raising', () => {
  it('reaches every partition, and never lowers one', async () => {
    await connection.set(keys.controllerFence(3), 900);
    await leadership.raise(500);
    const fences = await Promise.all(
      Array.from({ length: PARTITIONS }, (_, p) => connection.get(keys.controllerFence(p))),
    );
    expect(fences).toEqual(Array.from({ length: PARTITIONS }, (_, p) => (p === 3 ? '900' : '500')));
  });
});

describe('a deposed leader', () => {
  const status = () => new WorkerStatusStore({ connection, keys });
  const resources = () => new ResourceStore({ connection, keys });
  const events = () => new ResourceEvents({ connection, keys });
  const change = { report: report(Date.now()), upserts: [record('i-1')], removed: [] };
  const event = { type: 'Normal', reason: 'Started', message: 'm' } as const;

  const writes: [string, (fence: number) => Promise<unknown>][] = [
    ['the status', (fence) => status().publish(fence, change)],
    ['a resource', (fence) => resources().put(workerResource('w1', { paused: true }), undefined, fence)],
    ['a removal', (fence) => resources().remove('Worker', 'w1', undefined, fence)],
    ['an event', (fence) => events().record('Worker', 'w1', event, fence)],
  ];

  async function everything(): Promise<unknown> {
    const found = (await connection.keys('*')).filter((key) => !key.includes('leader')).toSorted();
    return Promise.all(found.map(async (key) => [key, await connection.dumpBuffer(key)]));
  }

  it.each(writes)('cannot write %s when another leads', async (_what, write) => {
    await resources().put(workerResource('w1'), '0');
    const old = await lead(connection, keys, 'a');
    await expireLease(connection, keys);
    await lead(connection, keys, 'b');
    const before = await everything();
    await expect(write(old)).rejects.toThrow(DeposedError);
    expect(await everything()).toEqual(before);
  });

  it.each(writes)('cannot write %s when its lease has run out, nor when it is given back', async (_what, write) => {
    await resources().put(workerResource('w1'), '0');
    const fence = await lead(connection, keys);
    await expireLease(connection, keys);
    const before = await everything();
    await expect(write(fence)).rejects.toThrow(/lease has run out/);
    await leadership.release('leader', fence);
    await expect(write(fence)).rejects.toThrow(/nobody leads/);
    expect(await everything()).toEqual(before);
  });

  it.each(writes)('could write %s while it led', async (_what, write) => {
    await resources().put(workerResource('w1'), '0');
    const fence = await lead(connection, keys);
    const before = await everything();
    await write(fence);
    expect(await everything()).not.toEqual(before);
  });

  describe('with a command', () => {
    const history = { entriesMax: 100, bytesMax: 1 << 20, ageMaxMs: 3_600_000, executionsMs: 60_000 };
    const commands = () =>
      new CommandStore({
        ...{ connection, keys, history, queueLengthMax: 5, pendingTargetsMax: 6400, idempotencyMs: 60_000 },
      });
    const command = (overrides: Partial<Submission> = {}): Submission => ({
      ...{ target: 'w1', command: 'start', args: [], subject: 'controller', address: 'a', gateway: 'm' },
      ...{ idempotent: false, clientId: 'cr:u:1:1:start' },
      ...overrides,
    });

    it('is refused once the next leader has raised the fences, and nothing is queued', async () => {
      await leadership.raise(2);
      expect(await commands().submit(command({ leaderFence: 1 }))).toEqual({ kind: 'deposed', fence: 2 });
      expect(await commands().queueLength('w1')).toBe(0);
      expect(await commands().executionOfToken('w1', 'controller', 'cr:u:1:1:start')).toBeUndefined();
    });

    it('is refused also when it only repeats what it was accepted for', async () => {
      expect(await commands().submit(command({ leaderFence: 1 }))).toMatchObject({ kind: 'accepted' });
      await leadership.raise(2);
      expect(await commands().submit(command({ leaderFence: 1 }))).toEqual({ kind: 'deposed', fence: 2 });
    });

    it('cannot submit after the next leader has submitted to the partition, raised or not', async () => {
      expect(await commands().submit(command({ leaderFence: 7 }))).toMatchObject({ kind: 'accepted' });
      expect(await connection.get(keys.controllerFence(partitionOf('w1')))).toBe('7');
      expect(await commands().submit(command({ leaderFence: 6, clientId: 'other' }))).toMatchObject({
        kind: 'deposed',
      });
    });

    it('leaves its token to the next leader, who finds the same execution', async () => {
      const first = await commands().submit(command({ leaderFence: 1 }));
      const again = await commands().submit(command({ leaderFence: 2 }));
      if (first.kind !== 'accepted') throw new Error(first.kind);
      expect(again).toMatchObject({ kind: 'accepted', duplicate: true, execution: first.execution });
      expect(await commands().executionOfToken('w1', 'controller', 'cr:u:1:1:start')).toBe(first.execution);
      expect(await commands().executionOfToken('w1', 'somebody', 'cr:u:1:1:start')).toBeUndefined();
    });

    it('is refused, if it is for an idle target only, where something runs, waits or may still run', async () => {
      const idle = (clientId: string) => commands().submit(command({ leaderFence: 1, clientId, onlyIfIdle: true }));
      const first = await commands().submit(command({ clientId: 'people' }));
      expect(await idle('a')).toEqual({ kind: 'busy' });
      const runner = { id: 'r', incarnation: 'i' };
      const claimed = await commands().claim('w1', runner);
      expect(await idle('a')).toEqual({ kind: 'busy' });
      if (claimed.kind !== 'claimed' || first.kind !== 'accepted') throw new Error(claimed.kind);
      const lease = await commands().lease('w1');
      if (lease === undefined) throw new Error('Expected a lease.');
      // Lost: its script may be at work for a while.
      await commands().reap(lease, 60_000);
      expect(await idle('a')).toEqual({ kind: 'busy' });
      await connection.hset(keys.lease('w1'), 'until', 1);
      expect(await idle('a')).toMatchObject({ kind: 'accepted', position: 0 });
      // What was accepted is not asked again whether it may be.
      expect(await idle('a')).toMatchObject({ kind: 'accepted', duplicate: true });
    });

    it("does not hinder people's commands", async () => {
      await leadership.raise(2);
      expect(await commands().submit(command({ subject: 'alice' }))).toMatchObject({ kind: 'accepted' });
    });

    it('writes no fence into the record of the execution', async () => {
      const answer = await commands().submit(command({ leaderFence: 1 }));
      if (answer.kind !== 'accepted') throw new Error(answer.kind);
      const stored = await connection.hgetall(keys.execution(answer.execution));
      expect(stored).toMatchObject({
        command: 'start',
        args: '[]',
        subject: 'controller',
        client_id: 'cr:u:1:1:start',
      });
      expect(stored['fence']).toBeUndefined();
    });
  });
});
