import { Keys } from '@carrierarr/protocol';
import { CommandStore, defineScripts, Leadership, RunnerRegistry } from '@carrierarr/store';
import type { Redis } from 'ioredis';
import { afterEach, describe, expect, it } from 'vitest';
import { judgeCommands } from '../../apps/cli/src/doctor/fleet/commands.js';
import { judgeMode } from '../../apps/cli/src/doctor/redis/connection.js';
import { parseInfo } from '../../apps/cli/src/doctor/redis/info.js';
import { judgeLatency } from '../../apps/cli/src/doctor/redis/latency.js';
import { judgeMemory } from '../../apps/cli/src/doctor/redis/memory.js';
import { judgePersistence, judgeReplicas } from '../../apps/cli/src/doctor/redis/persistence.js';
import { judgeVersion } from '../../apps/cli/src/doctor/redis/version.js';
import { startRedis, type TestRedis } from '../support/redis.js';
import { examine } from './support.js';

const keys = new Keys('carrierarr');
let redis: TestRedis | undefined;
afterEach(() => redis?.stop());

async function start(...args: string[]): Promise<TestRedis> {
  redis = await startRedis({ args });
  return redis;
}

describe('doctor and a real Redis', () => {
  it('find nothing wrong with one that is set up as it should be, but that nobody uses it yet', async () => {
    const { url } = await start('--appendonly', 'yes', '--maxmemory', '256mb');
    const { exitCode, of, findings } = await examine(['--redis-url', url]);
    expect(of('redis')).toEqual([`ok: Reached ${url}: one server.`]);
    expect(of('redis-version')).toEqual([expect.stringMatching(/^ok: (Redis|Valkey) \d/)]);
    expect(of('redis-memory')).toEqual([
      'ok: maxmemory-policy is noeviction.',
      expect.stringMatching(/^ok: [\d.]+ MiB in use of 256\.0 MiB\.$/),
    ]);
    expect(of('redis-persistence')).toEqual(['ok: The append-only file is on.']);
    expect(of('redis-permissions')).toEqual([expect.stringMatching(/^ok: The user "default" may do all of the \d+ /)]);
    expect(of('redis-latency')).toEqual([expect.stringMatching(/A round trip takes [\d.]+ ms/)]);
    expect(of('redis-format')).toEqual(['warn: There is nothing yet under the key prefix "carrierarr".']);
    expect(of('monitors')).toEqual([expect.stringMatching(/^warn: No monitor leads/)]);
    expect(of('commands')).toEqual([expect.stringMatching(/^ok: 0 commands run/)]);
    expect(of('runners')).toEqual([expect.stringMatching(/^fail: No runner has been seen/)]);
    expect(exitCode).toBe(1);
    for (const { level, advice } of findings) if (level === 'warn' || level === 'fail') expect(advice).toMatch(/\w/);
  });

  it('tell of one that may throw data away and forgets all when it crashes', async () => {
    const { url } = await start('--maxmemory-policy', 'allkeys-lru');
    const { exitCode, of, advice } = await examine(['--redis-url', url]);
    expect(of('redis-memory')[0]).toMatch(/^fail: maxmemory-policy is allkeys-lru/);
    expect(advice('redis-memory')).toContain('noeviction');
    expect(of('redis-memory')[1]).toMatch(/^warn: .* without a limit/);
    expect(of('redis-persistence')).toEqual([expect.stringMatching(/^warn: The append-only file is off/)]);
    expect(exitCode).toBe(1);
  });

  it('tell what a user may not do, and the line that allows it; which then is all that is needed', async () => {
    const server = await start('--appendonly', 'yes', '--maxmemory', '256mb');
    const admin = server.client();
    await admin.call(
      'ACL',
      'SETUSER',
      'fleet',
      'on',
      '>sekret-1',
      '~carrierarr:*',
      '+@read',
      '+@connection',
      '+info',
      '+acl',
    );
    const login = ['--redis-url', server.url, '--redis-username', 'fleet', '--redis-password', 'sekret-1'];
    const before = await examine(login);
    expect(before.of('redis-permissions')).toEqual([
      expect.stringMatching(/^fail: The user "fleet" may not TIME, MULTI, .* and \d+ more \(/),
    ]);
    const [, line = ''] = /As an administrator: ACL (SETUSER .*)$/.exec(before.advice('redis-permissions') ?? '') ?? [];
    await admin.call('ACL', ...line.split(' '));
    expect((await examine(login)).of('redis-permissions')).toEqual([expect.stringMatching(/^ok: The user "fleet"/)]);

    await admin.call('ACL', 'SETUSER', 'fleet', '-acl');
    expect((await examine(login)).of('redis-permissions')).toEqual([expect.stringMatching(/^skip: /)]);
    await admin.call('ACL', 'SETUSER', 'fleet', '-info');
    expect((await examine(login)).of('redis-version')).toEqual(['skip: Redis does not permit INFO to this user.']);
  });

  it('show no password, whatever goes wrong', async () => {
    const server = await start();
    await server.client().call('ACL', 'SETUSER', 'fleet', 'on', '>sekret-1', 'allkeys', 'allcommands');
    for (const flags of [
      ['--redis-url', server.url.replace('//', '//fleet:wrong-sekret@')],
      ['--redis-url', server.url.replace('//', '//fleet:wrong%2Dsekret@'), '-o', 'table'],
      ['--redis-url', 'redis://:wrong-sekret@127.0.0.1:1', '--rabbitmq-url', 'amqp://u:wrong-sekret@127.0.0.1:1'],
    ]) {
      const { exitCode, text } = await examine([...flags, '--timeout', '1s']).catch((error: unknown) => {
        // The table is no JSON.
        if (!(error instanceof SyntaxError)) throw error;
        return { exitCode: 1, text: error.message };
      });
      expect(exitCode).toBe(1);
      expect(text).not.toMatch(/sekret|wrong%2D/);
    }
  });

  it('look at nothing else of Redis when it is not there, and say so once', async () => {
    const { of, findings, exitCode } = await examine(['--redis-url', 'redis://127.0.0.1:1', '--timeout', '500ms']);
    expect(of('redis')).toEqual([expect.stringMatching(/^fail: Redis \(redis:\/\/127\.0\.0\.1:1\) .*ECONNREFUSED/)]);
    expect(of('redis-version')).toEqual(['skip: Not looked at: Redis cannot be reached.']);
    expect(findings.filter(({ level }) => level === 'fail')).toHaveLength(1);
    expect(exitCode).toBe(1);
  });

  it('give up on one that does not answer', async () => {
    const server = await start();
    server.freeze();
    const { of } = await examine(['--redis-url', server.url, '--timeout', '500ms']);
    expect(of('redis')).toEqual([
      expect.stringMatching(/^fail: .*(did not answer within 0\.4 s|was not done after 0\.5 s)/),
    ]);
    server.thaw();
  });

  it('tell of data in a format of another version', async () => {
    const server = await start();
    await server.client().set(keys.format(), '7');
    expect((await examine(['--redis-url', server.url])).of('redis-format')).toEqual([
      'fail: The data under the key prefix "carrierarr" are of format 7; this version knows 1.',
    ]);
  });

  it('see runners, the leader, what waits too long, and what a lost runner holds', async () => {
    const server = await start();
    const connection = server.client();
    const [seconds] = await connection.time();
    const nowMs = Number(seconds) * 1000;
    await announce(connection, 'r1', nowMs);
    await announce(connection, 'r2', nowMs);
    await announce(connection, 'gone', nowMs - 120_000);
    defineScripts(connection);
    await new Leadership({ connection, keys, leaseMs: 600_000 }).hold('monitor-1 incarnation');
    const well = await examine(['--redis-url', server.url]);
    expect(well.of('runners')).toEqual(['ok: 2 runners: r1, r2.']);
    expect(well.of('monitors')).toEqual(['ok: monitor-1 leads.']);
    expect(well.of('commands')).toEqual(['ok: 0 commands run; 0 targets wait, none of them for long.']);

    const store = new CommandStore({
      ...{ connection, keys, queueLengthMax: 10, pendingTargetsMax: 1000, idempotencyMs: 60_000 },
      history: { entriesMax: 1000, bytesMax: 1 << 20, ageMaxMs: 60_000, executionsMs: 60_000 },
    });
    const submission = { command: 'start', args: [], subject: 'a', address: '', gateway: 'g', idempotent: false };
    await store.submit({ ...submission, target: 'held' });
    await store.claim('held', { id: 'gone', incarnation: 'i' });
    await store.submit({ ...submission, target: 'waits' });
    await connection.zadd(keys.pending(store.partition('waits')), nowMs - 90_000, 'waits');
    const ill = await examine(['--redis-url', server.url]);
    expect(ill.of('commands')).toEqual([
      expect.stringMatching(/^fail: 1 targets have commands that could start; "waits" has waited for (89|9\d) s\.$/),
      'fail: 1 commands are held by runners that have not been seen for a minute: held.',
    ]);

    const lease = await store.lease('held');
    if (lease !== undefined) await store.reap(lease, 60_000);
    await connection.hset(`${keys.bullPrefix}:commands:meta`, 'paused', '1');
    const closed = await examine(['--redis-url', server.url]);
    expect(closed.of('commands')).toContainEqual('warn: 1 targets are closed because their runners were lost: held.');
    expect(closed.of('commands')).toContainEqual('fail: The queue is paused: no command starts.');
  });

  it('change nothing', async () => {
    const server = await start();
    await examine(['--redis-url', server.url]);
    expect(await server.client().keys('*')).toEqual([]);
  });
});

async function announce(connection: Redis, id: string, seenMs: number): Promise<void> {
  await new RunnerRegistry(connection, keys).announce({
    ...{ id, incarnation: 'i', version: '0', host: 'h', pid: 1, concurrency: 1, running: 0 },
    ...{ started_at: new Date(0).toISOString(), seen_at: new Date(seenMs).toISOString() },
  });
}

describe('what doctor thinks of a Redis', () => {
  const info = (fields: Record<string, string>) => new Map(Object.entries(fields));

  it('reads INFO, and is not misled by values with colons', () => {
    expect(parseInfo('# Server\r\nredis_version:7.2.4\r\nexecutable:/a:b\r\n')).toEqual(
      new Map([
        ['redis_version', '7.2.4'],
        ['executable', '/a:b'],
      ]),
    );
  });

  it('wants version 7, which Valkey says it is', () => {
    expect(judgeVersion(info({ redis_version: '6.2.14' }))).toMatchObject({
      level: 'fail',
      seen: 'Redis 6.2.14 is too old.',
    });
    expect(judgeVersion(info({ redis_version: '7.2.4', valkey_version: '8.1.4' }))).toEqual({
      level: 'ok',
      seen: 'Valkey 8.1.4.',
    });
    expect(judgeVersion(info({})).level).toBe('warn');
  });

  it('warns before it is full', () => {
    const of = (used: string) =>
      judgeMemory(info({ maxmemory_policy: 'noeviction', used_memory: used, maxmemory: '1000000' }))[1]?.level;
    expect([of('800000'), of('800001')]).toEqual(['ok', 'warn']);
    expect(judgeMemory(info({}))[0]?.level).toBe('warn');
  });

  it('fails where Redis refuses writes', () => {
    for (const bad of [{ aof_last_write_status: 'err' }, { rdb_last_bgsave_status: 'err' }, { loading: '1' }]) {
      expect(judgePersistence(info({ aof_enabled: '1', ...bad })).level).toBe('fail');
    }
    expect(judgePersistence(info({})).level).toBe('warn');
    expect(judgeReplicas(info({ role: 'slave' }), false)[0]?.level).toBe('fail');
  });

  it('wants a replica behind Sentinels only', () => {
    const alone = info({ role: 'master', connected_slaves: '0' });
    expect(judgeReplicas(alone, true)[0]?.level).toBe('warn');
    expect(judgeReplicas(alone, false)).toEqual([]);
    expect(judgeReplicas(info({ role: 'master', connected_slaves: '1' }), true)).toEqual([]);
  });

  it('notices a Cluster that is taken for one server, and the other way round, and a Sentinel', () => {
    expect(judgeMode('r', 'single', 'cluster')).toMatchObject({
      level: 'fail',
      advice: expect.stringContaining('--redis-mode cluster'),
    });
    expect(judgeMode('r', 'cluster', 'standalone').level).toBe('fail');
    expect(judgeMode('r', 'single', 'sentinel').level).toBe('fail');
    expect(judgeMode('r', 'sentinel', 'standalone').level).toBe('ok');
    expect(judgeMode('r', 'single', undefined).level).toBe('ok');
  });

  it('judges latency by the median, so that one slow answer is no finding', () => {
    const level = (...samples: number[]) => judgeLatency(samples).level;
    expect([level(1, 1, 900), level(1, 11, 12), level(1, 501, 502)]).toEqual(['ok', 'warn', 'fail']);
  });

  it('says whether closed targets open by themselves', () => {
    const facts = { nowMs: 0, waiting: [], waitingCount: 0, running: [], runners: new Set<string>(), isPaused: false };
    const advice = (untilMs: number) => judgeCommands({ ...facts, closed: [{ target: 'a', untilMs }] })[0]?.advice;
    expect(advice(30_000)).toMatch(/the last in 30 s/);
    expect(advice(-1)).toMatch(/Is any running\?/);
  });
});
