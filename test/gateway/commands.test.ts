import { EventEmitter } from 'node:events';
import { createMetrics, FakeClock, systemClock } from '@carrierarr/platform';
import { ClientError, Keys } from '@carrierarr/protocol';
import { CommandStore, defineScripts, type RedisConnection, RunnerRegistry } from '@carrierarr/store';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { Commands, type CommandsOptions, normaliseTarget } from '../../apps/gateway/src/commands.js';
import { RedisHealth } from '../../apps/gateway/src/redis-health.js';
import { startRedis, type TestRedis } from '../support/redis.js';

let redis: TestRedis;
let connection: Redis;
let health: RedisHealth;
const keys = new Keys('t');
type Log = (...args: unknown[]) => void;
const logger = { info: vi.fn<Log>(), warn: vi.fn<Log>() };
const clock = new FakeClock(Date.now());

beforeAll(async () => {
  redis = await startRedis();
  connection = redis.client();
  defineScripts(connection);
  // On the real clock: the tests move the other one faster than Redis answers.
  health = new RedisHealth({ connection, keys, clock: systemClock, logger });
  void health.start();
  await vi.waitUntil(() => health.state.kind === 'available');
});
afterAll(async () => {
  health.stop();
  await redis.stop();
});
beforeEach(async () => {
  vi.resetAllMocks();
  await connection.flushall();
});

function build(overrides: Partial<CommandsOptions> = {}) {
  const history = { entriesMax: 1000, bytesMax: 1 << 20, ageMaxMs: 3_600_000, executionsMs: 60_000 };
  const store = new CommandStore({
    connection,
    keys,
    history,
    queueLengthMax: 2,
    pendingTargetsMax: 64,
    idempotencyMs: 60_000,
  });
  const metrics = createMetrics({ program: 't', version: '0', hasProcessMetrics: false });
  const commands = new Commands({
    ...{ store, connection, keys, redis: health, gatewayId: 'gw', queueLengthMax: 2, clock, logger, metrics },
    drain: { add: async () => undefined },
    runners: { seenSince: async () => [{}] as never },
    ...overrides,
  });
  return { commands, store, metrics };
}

const start = { target: 'w1', command: 'start', subject: 's', address: 'a' };
const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'ok',
    (error: unknown) => (error instanceof ClientError ? error.code : String(error)),
  );

describe('submit', () => {
  it('takes an empty target for the default one', async () => {
    const { commands } = build();
    expect(await commands.submit({ ...start, target: '' })).toMatchObject({ target: 'default' });
    expect(normaliseTarget(null)).toBe('default');
    expect(() => normaliseTarget('gpu-*')).toThrow(
      /Expected the name of a target, got "gpu-\*": a target must not contain/,
    );
  });

  it('accepts a command whose drain job cannot be added, and says so in log and metrics', async () => {
    const { commands, store, metrics } = build({ drain: { add: () => Promise.reject(new Error('no')) } });
    expect(await commands.submit(start)).toMatchObject({ duplicate: false });
    expect(await store.queueLength('w1')).toBe(1);
    await vi.waitFor(() => expect(logger.warn).toHaveBeenCalledTimes(1));
    expect(await metrics.metrics()).toMatch(/unannounced_commands_total 1/);
  });

  it('looks for runners at most every two seconds, more often while there are none', async () => {
    const runners = new RunnerRegistry(connection, keys);
    const seenSince = vi.spyOn(runners, 'seenSince');
    const { commands, metrics } = build({ runners });
    expect(await codeOf(commands.submit(start))).toBe('no_runner');
    expect(await codeOf(commands.submit(start))).toBe('no_runner');
    expect(seenSince).toHaveBeenCalledTimes(1);
    const seen_at = new Date(clock.now()).toISOString();
    await runners.announce({
      id: 'r',
      incarnation: 'i',
      version: '0',
      host: 'h',
      pid: 1,
      concurrency: 1,
      running: 0,
      started_at: seen_at,
      seen_at,
    });
    clock.advance(250);
    await Promise.all([commands.submit(start), commands.submit(start)]);
    clock.advance(1_999);
    expect(await codeOf(commands.submit(start))).toBe('queue_full');
    expect(seenSince).toHaveBeenCalledTimes(2);
    clock.advance(60_000);
    expect(await codeOf(commands.submit(start))).toBe('no_runner');
    expect(await metrics.metrics()).toMatch(/commands_total{result="no_runner"} 3/);
  });

  it('fails after a second when Redis does not answer', async () => {
    const own = new RedisHealth({ connection, keys, clock, logger });
    void own.start();
    await vi.waitFor(() => expect(own.state.kind).toBe('available'));
    own.stop();
    const never = () => new Promise<never>(() => undefined);
    const { commands } = build({ redis: own, store: { submit: never, recall: never, kill: never } });
    const submitted = codeOf(commands.submit(start));
    const killed = codeOf(commands.kill({ target: 'w1', subject: 's' }));
    await clock.advanceAsync(999);
    expect(await Promise.race([submitted, Promise.resolve('waiting')])).toBe('waiting');
    await clock.advanceAsync(1);
    expect(await Promise.all([submitted, killed])).toEqual(['unavailable', 'unavailable']);
  });

  it('is refused when too many targets have commands waiting', async () => {
    const { commands } = build();
    const codes = await Promise.all(
      Array.from({ length: 200 }, (_, i) => codeOf(commands.submit({ ...start, target: `w${i}` }))),
    );
    expect(codes).toContain('too_many_pending');
  });
});

describe('kill', () => {
  it('ends what runs, and cancels what waits', async () => {
    const { commands, store } = build();
    expect(await codeOf(commands.kill({ subject: 's' }))).toBe('nothing_running');
    expect(await codeOf(commands.kill({ target: 'w1', execution: 'x', subject: 's' }))).toBe('not_found');
    const { execution } = await commands.submit(start);
    const next = await commands.submit(start);
    await store.claim('w1', { id: 'r', incarnation: 'i' });
    expect(await commands.kill({ target: 'w1', subject: 's' })).toEqual({ execution, target: 'w1', state: 'killing' });
    expect(await commands.kill({ target: 'w1', execution: next.execution, subject: 's' })).toMatchObject({
      state: 'cancelled',
    });
    expect(await codeOf(commands.kill({ target: 'w1', execution: next.execution, subject: 's' }))).toBe(
      'already_ended',
    );
  });
});

describe('the health of Redis', () => {
  it('is told to listeners once for each change, and to readiness', async () => {
    const readiness = { set: vi.fn<(name: string, ok: boolean, detail?: string) => void>() };
    const own = new RedisHealth({ connection, keys, clock, logger, readiness });
    const seen: string[] = [];
    own.onChange(({ kind }) => seen.push(kind));
    void own.start();
    await vi.waitFor(() => expect(seen).toEqual(['available']));
    redis.freeze();
    clock.advance(500);
    expect(seen).toEqual(['available']);
    clock.advance(2_000);
    expect(seen).toEqual(['available', 'degraded']);
    expect(readiness.set).toHaveBeenLastCalledWith('redis', false, 'no answer within 1000 ms');
    redis.thaw();
    await vi.waitFor(() => {
      clock.advance(500);
      expect(seen).toEqual(['available', 'degraded', 'available']);
    });
    own.stop();
  });

  it('asks every part of a Cluster: one that is away makes it degraded, though others answer', async () => {
    let isOneAway = false;
    const away = keys.ofEachSlot()[17];
    const exists = (key: string) =>
      isOneAway && key === away ? Promise.reject(new Error('Connection is closed.')) : Promise.resolve(0);
    const cluster = Object.assign(new EventEmitter(), { isCluster: true, exists, ping: () => Promise.resolve('PONG') });
    const own = new RedisHealth({ connection: cluster as unknown as RedisConnection, keys, clock, logger });
    await own.start();
    expect(own.state).toEqual({ kind: 'available' });
    isOneAway = true;
    await clock.advanceAsync(500);
    expect(own.state).toEqual({ kind: 'degraded', reason: 'Connection is closed.' });
    isOneAway = false;
    await clock.advanceAsync(500);
    expect(own.state).toEqual({ kind: 'available' });
    own.stop();
  });
});
