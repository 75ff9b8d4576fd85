import { CommandStore, defineScripts } from '@carrierarr/store';
import { Keys, type WorkerResource } from '@carrierarr/protocol';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { Others } from '../../../apps/monitor/src/reconciler/others.js';
import { startRedis, type TestRedis } from '../../support/redis.js';

const keys = new Keys('t');
const runner = { id: 'r', incarnation: 'i' };
let redis: TestRedis;
let connection: Redis;
let store: CommandStore;
let others: Others;

beforeAll(async () => {
  redis = await startRedis();
  connection = redis.client();
  defineScripts(connection);
  const history = { entriesMax: 1_000, bytesMax: 1 << 20, ageMaxMs: 3_600_000, executionsMs: 3_600_000 };
  const limits = { queueLengthMax: 100, pendingTargetsMax: 6_400, idempotencyMs: 60_000 };
  store = new CommandStore({ connection, keys, history, ...limits });
  others = new Others({ connection, keys });
});
afterAll(() => redis.stop());
beforeEach(() => connection.flushall());

/** A Worker whose last command has this token. */
const worker = (token?: string) =>
  ({
    metadata: { name: 'w', uid: 'u1' },
    ...(token !== undefined && { status: { lastCommand: { token } } }),
  }) as unknown as WorkerResource;

async function give(subject: string, clientId?: string, probe = false): Promise<void> {
  const base = { target: 'w', command: 'start', args: [], address: '', gateway: 'g', idempotent: false };
  await store.submit({ ...base, subject, probe, ...(clientId !== undefined && { clientId }) });
}

async function run() {
  const answer = await store.claim('w', runner);
  if (answer.kind !== 'claimed') throw new Error(`Expected a command to claim, got ${answer.kind}.`);
  const ending = { outcome: 'succeeded', exitCode: 0, lines: 0, truncatedLines: 0, sequence: 0 } as const;
  return { end: () => store.finish('w', answer.execution.id, answer.fence, ending) };
}

it("sees somebody's command from when it waits until it has ended, and when that was", async () => {
  expect(await others.on('w', worker())).toEqual({ busy: false, endedAtMs: undefined });
  await give('somebody');
  expect(await others.on('w', worker())).toMatchObject({ busy: true });
  const running = await run();
  expect(await others.on('w', worker())).toMatchObject({ busy: true });
  const beforeMs = await store.redisNowMs();
  await running.end();
  const { busy, endedAtMs } = await others.on('w', worker());
  expect(busy).toBe(false);
  expect(endedAtMs).toBeGreaterThanOrEqual(beforeMs);
});

it("takes neither the Worker's own command nor a monitor's look for somebody else's", async () => {
  await give('system:reconciler', 'cr:u1:1:1:start');
  await give('system:monitor', undefined, true);
  expect(await others.on('w', worker('cr:u1:1:1:start'))).toEqual({ busy: false, endedAtMs: undefined });
  await (await run()).end();
  // Also when the next one has been given since.
  expect(await others.on('w', worker('cr:u1:1:2:stop'))).toEqual({ busy: false, endedAtMs: undefined });
});

it('counts what was given under a note that was replaced, until it has ended', async () => {
  await give('system:reconciler', 'cr:u1:1:1:start');
  expect(await others.on('w', worker('cr:u1:1:2:stop'))).toMatchObject({ busy: true });
});

it('counts what was given for a Worker of the same name that is no more, also after it has ended', async () => {
  await give('system:reconciler', 'cr:u0:1:1:provision');
  expect(await others.on('w', worker())).toMatchObject({ busy: true });
  await (await run()).end();
  expect(await others.on('w', worker())).toEqual({ busy: false, endedAtMs: expect.any(Number) as number });
});

it('is busy while the script of a lost runner may still be at work, and then knows since when it is not', async () => {
  await give('somebody');
  await run();
  const lease = await store.lease('w');
  if (lease === undefined) throw new Error('Expected a lease.');
  await store.reap(lease, 60_000);
  const closed = await others.on('w', worker());
  expect(closed).toMatchObject({ busy: true, closedUntilMs: (await store.lease('w'))?.closedUntilMs });
  const openedMs = (await store.redisNowMs()) - 1;
  await connection.hset(keys.lease('w'), 'until', openedMs);
  const opened = await others.on('w', worker());
  expect(opened.busy).toBe(false);
  expect(opened.closedUntilMs).toBeUndefined();
  expect(opened.endedAtMs).toBeGreaterThanOrEqual(openedMs);
});
