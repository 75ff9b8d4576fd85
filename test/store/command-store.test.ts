import {
  CommandStore,
  defineScripts,
  ExecutionHistory,
  OutputLog,
  Retention,
  type Submission,
  UnreadableExecutionError,
} from '@carrierarr/store';
import { encodeEntry, EXECUTION_VERSION, Keys, partitionOf } from '@carrierarr/protocol';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { PROBE_KEPT_MS } from '../../libs/store/src/lua/target-script.js';
import { startRedis, type TestRedis } from '../support/redis.js';

let redis: TestRedis;
let connection: Redis;
const keys = new Keys('t');
const history = { entriesMax: 1000, bytesMax: 1 << 20, ageMaxMs: 3_600_000, executionsMs: 60_000 };
const runner = { id: 'r1', incarnation: 'i1' };

beforeAll(async () => {
  redis = await startRedis();
  connection = redis.client();
  defineScripts(connection);
});
afterAll(() => redis.stop());
beforeEach(() => connection.flushall());

function store(overrides: Partial<ConstructorParameters<typeof CommandStore>[0]> = {}) {
  return new CommandStore({
    ...{ connection, keys, history, queueLengthMax: 5, pendingTargetsMax: 6400, idempotencyMs: 60_000 },
    ...overrides,
  });
}

function command(overrides: Partial<Submission> = {}): Submission {
  return {
    ...{ target: 'w1', command: 'start', args: [], subject: 's', address: 'a', gateway: 'g', idempotent: false },
    ...overrides,
  };
}

async function accepted(s: CommandStore, overrides: Partial<Submission> = {}) {
  const answer = await s.submit(command(overrides));
  if (answer.kind !== 'accepted') throw new Error(answer.kind);
  return answer;
}

async function claimed(s: CommandStore, target = 'w1') {
  const answer = await s.claim(target, runner);
  if (answer.kind !== 'claimed') throw new Error(answer.kind);
  return answer;
}

async function leaseOf(s: CommandStore, target = 'w1') {
  const lease = await s.lease(target);
  if (!lease) throw new Error('no lease');
  return lease;
}

const ending = { outcome: 'succeeded', exitCode: 0, lines: 0, truncatedLines: 0, sequence: 0 } as const;
const lines = (execution: string, sequence: number, ...text: string[]) =>
  encodeEntry({
    ...{ kind: 'lines', execution, sequence, timeMs: 1 },
    ...{ runs: [{ stream: 'o', lines: text.length }], body: Buffer.from(text.join('\n')) },
  });

describe('submit', () => {
  it('accepts commands in order and tells how many come before', async () => {
    const s = store();
    expect(await accepted(s)).toMatchObject({ position: 0, duplicate: false });
    expect(await accepted(s)).toMatchObject({ position: 1 });
    await claimed(s);
    expect(await accepted(s)).toMatchObject({ position: 2 });
  });

  it('answers a repeated id with the first execution, also after it has started', async () => {
    const s = store();
    const first = await accepted(s, { clientId: 'x' });
    expect(await accepted(s, { clientId: 'x' })).toMatchObject({ execution: first.execution, duplicate: true });
    await claimed(s);
    expect(await accepted(s, { clientId: 'x' })).toMatchObject({ execution: first.execution, duplicate: true });
    expect(await s.queueLength('w1')).toBe(0);
    expect(await accepted(s, { clientId: 'x', subject: 'other' })).toMatchObject({ duplicate: false });
  });

  it('refuses an id that was used for another command', async () => {
    const s = store();
    const first = await accepted(s, { clientId: 'x' });
    for (const other of [{ args: ['-f'] }, { executor: 'agent' as const }]) {
      expect(await s.submit(command({ clientId: 'x', ...other }))).toEqual({
        kind: 'conflict',
        execution: first.execution,
      });
    }
  });

  it('bounds the queue of a target and the number of waiting targets', async () => {
    const s = store({ queueLengthMax: 1, pendingTargetsMax: 64 });
    await accepted(s);
    expect(await s.submit(command())).toEqual({ kind: 'queue-full', length: 1 });
    const full = [];
    for (let i = 0; i < 200; i++) full.push((await s.submit(command({ target: `n${i}` }))).kind);
    expect(full.filter((kind) => kind === 'too-many-pending').length).toBeGreaterThan(100);
  });
});

describe('claim', () => {
  it('gives a target to one runner at a time, in the order accepted, with growing fences', async () => {
    const s = store();
    const ids = [(await accepted(s)).execution, (await accepted(s)).execution];
    const first = await claimed(s);
    expect(first.execution).toMatchObject({ id: ids[0], state: 'running', attempt: 1, args: [] });
    expect(await s.claim('w1', runner)).toEqual({ kind: 'busy', closedUntilMs: 0 });
    expect(await s.finish('w1', first.execution.id, first.fence, ending)).toEqual({ kind: 'ok', more: true });
    const second = await claimed(s);
    expect(second.execution.id).toBe(ids[1]);
    expect(second.fence).toBeGreaterThan(first.fence);
    expect(await s.claim('other', runner)).toEqual({ kind: 'empty' });
  });
});

describe('a command of a newer version', () => {
  it('is left in its place for a runner that knows it, and holds up what waits behind it', async () => {
    const s = store();
    const { execution } = await accepted(s);
    await accepted(s);
    await connection.hset(keys.execution(execution), 'v', String(EXECUTION_VERSION + 1));
    const left = { kind: 'newer', execution, version: EXECUTION_VERSION + 1 };
    expect([await s.claim('w1', runner), await s.claim('w1', runner)]).toEqual([left, left]);
    expect(await s.pendingCount(partitionOf('w1'))).toBe(1);
    expect(await new ExecutionHistory(connection, keys).get(execution)).toMatchObject({ state: 'queued', attempt: 0 });
    // As to a runner that knows it.
    await connection.hset(keys.execution(execution), 'v', String(EXECUTION_VERSION));
    expect(await s.claim('w1', runner)).toMatchObject({ kind: 'claimed', execution: { id: execution } });
  });

  it('can be killed', async () => {
    const s = store();
    const { execution } = await accepted(s);
    await connection.hset(keys.execution(execution), 'v', String(EXECUTION_VERSION + 1));
    expect(await s.kill('w1', execution, 'somebody')).toEqual({ kind: 'cancelled', execution });
    expect(await s.claim('w1', runner)).toEqual({ kind: 'empty' });
  });

  it('is read for as long as it has what ours have, else refused by its id, and hides no other', async () => {
    const s = store();
    const [strange, ours] = [await accepted(s), await accepted(s)].map(({ execution }) => execution) as [
      string,
      string,
    ];
    const executions = new ExecutionHistory(connection, keys);
    await connection.hset(keys.execution(strange), { v: '2', colour: 'red' });
    expect(await executions.get(strange)).toMatchObject({ id: strange, command: 'start' });
    await connection.hset(keys.execution(strange), 'executor', 'rocket');
    await expect(executions.get(strange)).rejects.toThrow(UnreadableExecutionError);
    await expect(executions.get(strange)).rejects.toThrow(`of execution ${strange}, got one of version 2`);
    expect((await executions.list({ limit: 10 })).executions.map(({ id }) => id)).toEqual([ours]);
    const sound = { ...(await connection.hgetall(keys.execution(strange))), executor: 'script' };
    const text = '2025-01-01T00:00:00Z';
    const times = [{ accepted_at: text }, { started_at: text }, { ended_at: text }, { started_at: '' }];
    for (const damage of [{}, { args: '[' }, { lines: 'many' }, ...times]) {
      await connection.del(keys.execution(strange));
      await connection.hset(keys.execution(strange), { ...sound, ...damage });
      const read = executions.get(strange);
      if (Object.keys(damage).length === 0) expect(await read).toMatchObject({ id: strange });
      else await expect(read).rejects.toThrow(UnreadableExecutionError);
    }
  });
});

describe('append', () => {
  it('numbers lines within the target, takes each sequence once, and reports what it never got', async () => {
    const s = store();
    await accepted(s);
    const { execution, fence } = await claimed(s);
    expect(await s.append('w1', fence, 1, 2, lines(execution.id, 1, 'a', 'b'))).toEqual({ kind: 'ok', last: 3 });
    expect(await s.append('w1', fence, 1, 2, lines(execution.id, 1, 'a', 'b'))).toEqual({ kind: 'repeated' });
    expect(await s.append('w1', fence, 3, 1, lines(execution.id, 3, 'd'))).toEqual({ kind: 'hole', known: 1 });
    expect(await s.append('w1', fence - 1, 2, 1, lines(execution.id, 2, 'c'))).toEqual({ kind: 'fenced' });
    const log = new OutputLog(connection, keys);
    const page = await log.read('w1', 2, 10);
    expect(page).toMatchObject({ first: 1, last: 3 });
    expect(page.entries).toHaveLength(1);
    expect(page.entries[0]).toMatchObject({ last: 3, count: 2, entry: { kind: 'lines', sequence: 1 } });
    expect(await log.tailStart('w1', 1)).toMatchObject({ after: 2 });
    expect(await log.tailStart('w1', 9)).toMatchObject({ after: 0 });
  });

  it('keeps the history within its bounds and says where it begins', async () => {
    const s = store({ history: { ...history, entriesMax: 64 } });
    await accepted(s);
    const { execution, fence } = await claimed(s);
    for (let i = 1; i <= 200; i++) await s.append('w1', fence, i, 1, lines(execution.id, i, `line ${i}`));
    const { first, last } = await new OutputLog(connection, keys).bounds('w1');
    expect(last).toBe(201);
    expect(last - first + 1).toBeGreaterThan(50);
    expect(last - first + 1).toBeLessThanOrEqual(66);
    const bytes = Number(await connection.hget(keys.logMeta('w1'), 'bytes'));
    expect(bytes).toBeLessThan(70 * 300);
    expect(Number(await connection.hget(keys.usage(s.partition('w1')), 'w1'))).toBe(bytes);
  });

  it('keeps account of a log of many sizes that is trimmed and tidied meanwhile', async () => {
    const bounds = { ...history, entriesMax: 200, bytesMax: 40_000 };
    const s = store({ history: bounds });
    await accepted(s);
    const { execution, fence } = await claimed(s);
    const retention = new Retention({ connection, keys, history: bounds, totalBytesMax: 1 });
    for (let i = 1; i <= 1500; i++) {
      const text = Array.from({ length: 1 + (i % 7) }, () => 'y'.repeat(i % 90));
      await s.append('w1', fence, i, text.length, lines(execution.id, i, ...text));
      if (i % 400 === 0) await retention.trimTotal();
      if (i % 150 === 0) await retention.tidyPartition(s.partition('w1'));
    }
    const entries = (await connection.xrangeBuffer(keys.log('w1'), '-', '+')) as [Buffer, Buffer[]][];
    // The entry itself is the first field; the others and the stream's own share are taken as 96 bytes.
    const bytes = entries.reduce((sum, [, fields]) => sum + (fields[1]?.length ?? 0) + 96, 0);
    expect(Number(await connection.hget(keys.logMeta('w1'), 'bytes'))).toBe(bytes);
    expect(Number(await connection.hget(keys.usage(s.partition('w1')), 'w1'))).toBe(bytes);
    expect(bytes).toBeLessThan(44_000);
    const log = new OutputLog(connection, keys);
    const page = await log.read('w1', 0, 10_000);
    let at = page.first - 1;
    for (const { last, count } of page.entries) {
      expect(last - count).toBe(at);
      at = last;
    }
    expect(at).toBe(page.last);
    expect(page.last - (await log.tailStart('w1', 17)).after).toBe(17);
  });

  it('begins at the beginning where there is no log yet', async () => {
    expect(await new OutputLog(connection, keys).tailStart('nothing', 5)).toMatchObject({ after: 0 });
  });

  it('publishes position and entry on the target and the partition channel', async () => {
    const s = store();
    const subscriber = redis.client();
    const seen: string[] = [];
    const both = new Promise<void>((resolve) => {
      subscriber.on('smessageBuffer', (channel: Buffer, message: Buffer) => {
        seen.push(`${channel.toString()} ${message.toString().split('\n')[0]}`);
        if (seen.length === 2) resolve();
      });
    });
    await subscriber.ssubscribe(keys.outputChannel('w1'), keys.partitionChannel(s.partition('w1')));
    await accepted(s);
    await claimed(s);
    await both;
    expect(seen[0]).toMatch(/^t:\{\d+\}:out:w1 [0-9a-f]+ 1 1 1 \d+ w1$/);
    expect(seen[1]).toMatch(/^t:\{\d+\}:all [0-9a-f]+ 1 1 1 \d+ w1$/);
  });
});

describe('kill', () => {
  it('tells the runner of a running command at its next renewal', async () => {
    const s = store();
    await accepted(s);
    const { execution, fence } = await claimed(s);
    expect(await s.kill('w1', undefined, 'me')).toEqual({ kind: 'running', execution: execution.id, runner: 'r1' });
    expect(await s.renew('w1', fence)).toEqual({ kind: 'ok', killRequestedBy: 'me' });
    expect(await s.renew('w1', fence - 1)).toEqual({ kind: 'fenced' });
  });

  it('cancels a waiting command, which then has its outcome and never runs', async () => {
    const s = store();
    const { execution } = await accepted(s);
    expect(await s.kill('w1', execution, 'me')).toEqual({ kind: 'cancelled', execution });
    expect(await s.claim('w1', runner)).toEqual({ kind: 'empty' });
    expect(await s.kill('w1', execution, 'me')).toEqual({ kind: 'ended', execution });
    expect(await new ExecutionHistory(connection, keys).get(execution)).toMatchObject({
      state: 'ended',
      outcome: 'killed',
    });
  });

  it('finds nothing on an idle target', async () => {
    expect(await store().kill('w1', undefined, 'me')).toEqual({ kind: 'none' });
  });

  it('of whatever is there passes over probes, but a probe that is named ends', async () => {
    const s = store();
    const running = await accepted(s, { probe: true });
    await claimed(s);
    const waiting = await accepted(s, { probe: true });
    expect(await s.kill('w1', undefined, 'me')).toEqual({ kind: 'none' });
    const { execution } = await accepted(s);
    expect(await s.kill('w1', undefined, 'me')).toEqual({ kind: 'cancelled', execution });
    expect(await s.kill('w1', waiting.execution, 'me')).toMatchObject({ kind: 'cancelled' });
    expect(await s.kill('w1', running.execution, 'me')).toMatchObject({ kind: 'running' });
  });
});

describe('reap', () => {
  it('ends the command of a silent runner as lost and keeps the target closed for a while', async () => {
    const s = store();
    await accepted(s);
    await accepted(s);
    const { execution, fence } = await claimed(s);
    const lease = await leaseOf(s);
    expect(await s.renew('w1', fence)).toEqual({ kind: 'ok' });
    expect(await s.reap(lease, 60_000)).toBe('alive');
    const silent = await leaseOf(s);
    expect(await s.reap(silent, 60_000)).toBe('lost');
    expect(await new ExecutionHistory(connection, keys).get(execution.id)).toMatchObject({
      outcome: 'lost',
      exit_code: -1,
    });
    expect(await s.renew('w1', fence)).toEqual({ kind: 'fenced' });
    expect(await s.append('w1', fence, 1, 1, lines(execution.id, 1, 'late'))).toEqual({ kind: 'fenced' });
    expect(await s.finish('w1', execution.id, fence, ending)).toEqual({ kind: 'fenced' });
    const busy = await s.claim('w1', runner);
    expect(busy.kind === 'busy' && busy.closedUntilMs).toBeGreaterThan(await s.redisNowMs());
  });

  it('of a probe leaves no trace in the log, and its record goes soon', async () => {
    const s = store({ history: { ...history, executionsMs: 86_400_000 } });
    const { execution } = await accepted(s, { probe: true });
    await claimed(s);
    expect(await s.reap(await leaseOf(s), 0)).toBe('lost');
    expect(await new OutputLog(connection, keys).bounds('w1')).toEqual({ epoch: undefined, first: 1, last: 0 });
    expect(await new ExecutionHistory(connection, keys).get(execution)).toMatchObject({ outcome: 'lost', probe: true });
    const leftMs = await connection.pttl(keys.execution(execution));
    expect(leftMs).toBeGreaterThan(0);
    expect(leftMs).toBeLessThanOrEqual(PROBE_KEPT_MS);
  });

  it('opens the target again when the time is over', async () => {
    const s = store();
    await accepted(s);
    const second = await accepted(s);
    await claimed(s);
    const lease = await leaseOf(s);
    await s.reap(lease, 0);
    expect((await claimed(s)).execution.id).toBe(second.execution);
  });

  it('puts an idempotent command back in front, a bounded number of times', async () => {
    const s = store();
    const first = await accepted(s, { idempotent: true });
    await accepted(s);
    const answers = [];
    for (let i = 0; i < 3; i++) {
      const { execution } = await claimed(s);
      expect(execution.id).toBe(first.execution);
      answers.push(await s.reap(await leaseOf(s), 0));
    }
    expect(answers).toEqual(['requeued', 'requeued', 'lost']);
  });
});

describe('a command that was put back', () => {
  it('can be cancelled, does not run again, and keeps that outcome whatever its lost runner says', async () => {
    const s = store();
    const { execution } = await accepted(s, { idempotent: true, clientId: 'k' });
    const { fence } = await claimed(s);
    expect(await s.reap(await leaseOf(s), 0)).toBe('requeued');
    expect(await s.append('w1', fence, 1, 1, lines(execution, 1, 'late'))).toEqual({ kind: 'fenced' });
    expect(await s.kill('w1', execution, 'me')).toEqual({ kind: 'cancelled', execution });
    expect(await s.claim('w1', runner)).toEqual({ kind: 'empty' });
    expect(await s.finish('w1', execution, fence, ending)).toEqual({ kind: 'fenced' });
    expect(await new ExecutionHistory(connection, keys).get(execution)).toMatchObject({ outcome: 'killed' });
    expect(await accepted(s, { idempotent: true, clientId: 'k' })).toMatchObject({ execution, duplicate: true });
  });

  it('is not, if it was to be killed: it is lost, and what comes after it waits', async () => {
    const s = store();
    const { execution } = await accepted(s, { idempotent: true });
    await claimed(s);
    expect((await s.kill('w1', undefined, 'me')).kind).toBe('running');
    expect(await s.reap(await leaseOf(s), 60_000)).toBe('lost');
    await accepted(s);
    expect((await s.claim('w1', runner)).kind).toBe('busy');
    expect(await s.kill('w1', execution, 'me')).toEqual({ kind: 'ended', execution });
  });
});

describe('finish', () => {
  it('is harmless when repeated, and refuses to end before its entries have arrived', async () => {
    const s = store();
    await accepted(s);
    const { execution, fence } = await claimed(s);
    expect(await s.finish('w1', execution.id, fence, { ...ending, sequence: 1 })).toEqual({ kind: 'hole', known: 0 });
    expect(await s.finish('w1', execution.id, fence, ending)).toEqual({ kind: 'ok', more: false });
    expect(await s.finish('w1', execution.id, fence, ending)).toEqual({ kind: 'repeated' });
  });
});

describe('history', () => {
  it('lists executions of all targets, newest first, in pages', async () => {
    const s = store({ queueLengthMax: 100 });
    const ids: string[] = [];
    for (let i = 0; i < 25; i++) ids.push((await accepted(s, { target: `w${i % 7}` })).execution);
    const reader = new ExecutionHistory(connection, keys);
    const seen: string[] = [];
    let before: string | undefined;
    do {
      const page = await reader.list({ limit: 10, ...(before && { before }) });
      seen.push(...page.executions.map((execution) => execution.id));
      before = page.next;
    } while (before);
    expect(new Set(seen)).toEqual(new Set(ids));
    expect(seen).toHaveLength(25);
    expect(seen).toEqual(seen.toSorted().toReversed());
    expect((await reader.list({ target: 'w1', limit: 100 })).executions).toHaveLength(4);
    expect((await reader.targets(100)).map(({ target }) => target).toSorted()).toEqual([
      'w0',
      'w1',
      'w2',
      'w3',
      'w4',
      'w5',
      'w6',
    ]);
  });
});
