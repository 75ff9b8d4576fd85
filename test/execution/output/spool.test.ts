import { FakeClock, systemClock } from '@carrierarr/platform';
import { decodeEntry, Keys } from '@carrierarr/protocol';
import { type AppendAnswer, CommandStore, defineScripts, OutputLog } from '@carrierarr/store';
import { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Spool, SpoolBudget, type SpoolOptions } from '../../../libs/execution/src/output/spool.js';
import { startRedis, type TestRedis } from '../../support/redis.js';

/** A log as Redis keeps it: takes entry n + 1 after entry n only. It can be told to fail and to forget. */
class Log {
  readonly entries: { sequence: number; text: string }[] = [];
  known = 0;
  fails = false;
  calls = 0;
  readonly held: (() => void)[] = [];
  isHolding = false;

  append = async (sequence: number, _lines: number, bytes: Buffer): Promise<AppendAnswer> => {
    this.calls++;
    if (this.isHolding) await new Promise<void>((resolve) => void this.held.push(resolve));
    if (this.fails) throw new Error('Connection is closed.');
    if (sequence <= this.known) return { kind: 'repeated' };
    if (sequence > this.known + 1) return { kind: 'hole', known: this.known };
    this.known = sequence;
    const entry = decodeEntry(bytes);
    if (entry.sequence !== sequence) throw new Error(`entry ${entry.sequence} was sent as ${sequence}`);
    const text = entry.kind === 'lines' ? entry.body.toString() : JSON.stringify(entry);
    this.entries.push({ sequence, text });
    return { kind: 'ok', last: sequence };
  };

  release(): void {
    this.isHolding = false;
    for (const go of this.held.splice(0)) go();
  }

  get text(): string {
    return this.entries.map((entry) => entry.text).join('\n');
  }
}

function setup(overrides: Partial<SpoolOptions> = {}) {
  const log = new Log();
  const clock = new FakeClock();
  const budget = new SpoolBudget(1 << 26);
  const pauses: boolean[] = [];
  const spool = new Spool({
    ...{ execution: 'x', append: log.append, clock, budget, bytesMax: 1 << 23 },
    onPause: (isPaused) => void pauses.push(isPaused),
    onFenced: () => undefined,
    ...overrides,
  });
  const push = (text: string) => spool.push('o', text.split('\n').length, Buffer.from(text));
  return { log, clock, budget, pauses, spool, push };
}

describe('Spool', () => {
  it('sends the first line at once, and gathers what comes while it is on its way', async () => {
    const { log, spool, push } = setup();
    log.isHolding = true;
    push('1');
    expect(log.calls).toBe(1);
    for (const line of ['2', '3', '4']) push(line);
    expect(log.calls).toBe(1);
    log.release();
    expect(await spool.drained()).toBe('drained');
    expect(log.entries.map(({ text }) => text)).toEqual(['1', '2\n3\n4']);
  });

  it('makes no entry above 64 KiB but of a single line that is longer', async () => {
    const { log, spool, push } = setup();
    const lines = Array.from({ length: 10_000 }, (_, i) => `line ${i} ${'x'.repeat(i % 50)}`);
    const long = 'y'.repeat(100_000);
    push([...lines, long, 'after'].join('\n'));
    await spool.drained();
    expect(log.text).toBe([...lines, long, 'after'].join('\n'));
    for (const { text } of log.entries) expect(text.length <= 65_536 || text === long).toBe(true);
  });

  it('keeps the order of two streams in the runs of an entry', async () => {
    const seen: Buffer[] = [];
    const { spool } = setup({ append: async (_s, _l, bytes) => (seen.push(bytes), { kind: 'ok', last: 1 }) });
    spool.push('o', 1, Buffer.from('first'));
    spool.push('o', 2, Buffer.from('a\nb'));
    spool.push('e', 1, Buffer.from('c'));
    spool.push('o', 1, Buffer.from('d'));
    await spool.drained();
    expect(decodeEntry(seen[1] as Buffer)).toMatchObject({
      runs: [
        { stream: 'o', lines: 2 },
        { stream: 'e', lines: 1 },
        { stream: 'o', lines: 1 },
      ],
      body: Buffer.from('a\nb\nc\nd'),
    });
  });

  it('holds its lines while Redis fails, and sends all of them in order when it is back', async () => {
    const { log, spool, push, clock } = setup();
    push('0');
    await clock.advanceAsync(0);
    log.fails = true;
    for (let i = 1; i <= 500; i++) {
      push(`${i}`);
      await clock.advanceAsync(60);
    }
    // It tries again, but not for each line.
    expect(log.calls).toBeLessThan(250);
    log.fails = false;
    const drained = spool.drained();
    await clock.advanceAsync(5000);
    expect(await drained).toBe('drained');
    expect(log.text).toBe(Array.from({ length: 501 }, (_, i) => i).join('\n'));
  });

  it('sends again what Redis has forgotten', async () => {
    const { log, spool, push, clock } = setup();
    for (let i = 0; i < 10; i++) {
      push(`${i}`);
      await clock.advanceAsync(100);
    }
    log.entries.length = 7;
    log.known = 7;
    push('10');
    await clock.advanceAsync(1000);
    expect(await spool.drained()).toBe('drained');
    expect(log.text).toBe(Array.from({ length: 11 }, (_, i) => i).join('\n'));
    // The outcome may be what finds the hole.
    log.entries.length = 9;
    log.known = 9;
    spool.rewind(9);
    const drained = spool.drained();
    await clock.advanceAsync(1000);
    expect(await drained).toBe('drained');
    expect(log.text).toBe(Array.from({ length: 11 }, (_, i) => i).join('\n'));
  });

  it('puts an error in the place of what Redis has forgotten and it no longer has', async () => {
    const { log, spool, push, clock } = setup();
    for (let i = 0; i < 10; i++) {
      push(`${i}`);
      await clock.advanceAsync(2000);
    }
    log.entries.length = 2;
    log.known = 2;
    push('10');
    const drained = spool.drained();
    await clock.advanceAsync(5000);
    expect(await drained).toBe('drained');
    const texts = log.entries.map(({ text }) => text);
    expect(texts.slice(0, 2)).toEqual(['0', '1']);
    expect(texts[2]).toMatch(/lost \d entries of output/);
    expect(texts.at(-1)).toBe('10');
    expect(log.entries.map(({ sequence }) => sequence)).toEqual(texts.map((_, i) => i + 1));
  });

  it('asks for a pause when an execution, or all together, hold too much, and ends it below half', async () => {
    const budget = new SpoolBudget(400_000);
    const one = setup({ budget, bytesMax: 100_000 });
    const two = setup({ budget, bytesMax: 1_000_000 });
    for (const { log } of [one, two]) log.isHolding = true;
    one.push('x'.repeat(110_000));
    expect(one.pauses).toEqual([true]);
    two.push('x'.repeat(300_000));
    expect(two.pauses).toEqual([true]);
    one.log.release();
    await one.clock.advanceAsync(0);
    // Its own bytes are gone, but all together are above half of the bound.
    expect(one.spool.bytes).toBe(0);
    expect(one.pauses).toEqual([true]);
    two.log.release();
    await two.clock.advanceAsync(0);
    expect([one.pauses, two.pauses]).toEqual([
      [true, false],
      [true, false],
    ]);
    expect(budget.used).toBe(0);
  });

  it('gives everything up when it is fenced', async () => {
    let fenced = 0;
    const { spool, push, budget } = setup({ append: async () => ({ kind: 'fenced' }), onFenced: () => void fenced++ });
    push('1');
    push('2');
    expect(await spool.drained()).toBe('stopped');
    push('3');
    expect([fenced, budget.used, spool.bytes]).toEqual([1, 0, 0]);
  });
});

describe('Spool with Redis', () => {
  let redis: TestRedis;
  let connection: Redis;
  beforeEach(async () => {
    redis = await startRedis({ appendOnly: true });
    const never = { autoResendUnfulfilledCommands: false, enableOfflineQueue: false, maxRetriesPerRequest: 0 };
    connection = new Redis(redis.port, '127.0.0.1', { ...never, retryStrategy: () => 20, commandTimeout: 500 });
    connection.on('error', () => undefined);
    defineScripts(connection);
    await new Promise<void>((resolve) => void connection.once('ready', () => resolve()));
  });
  afterEach(async () => {
    connection.disconnect();
    await redis.stop();
  });

  async function claim() {
    const keys = new Keys('t');
    const history = { entriesMax: 100_000, bytesMax: 1 << 28, ageMaxMs: 3_600_000, executionsMs: 60_000 };
    const store = new CommandStore({
      connection,
      keys,
      history,
      queueLengthMax: 9,
      pendingTargetsMax: 64,
      idempotencyMs: 1,
    });
    const from = { subject: 's', address: 'a', gateway: 'g', idempotent: false };
    await store.submit({ ...from, target: 'w', command: 'x', args: [] });
    const claimed = await store.claim('w', { id: 'r', incarnation: 'i' });
    if (claimed.kind !== 'claimed') throw new Error(claimed.kind);
    const { fence, execution } = claimed;
    const spool = new Spool({
      execution: execution.id,
      append: (sequence, lines, entry) => store.append('w', fence, sequence, lines, entry),
      ...{ clock: systemClock, budget: new SpoolBudget(1 << 26), bytesMax: 1 << 24 },
      ...{ onPause: () => undefined, onFenced: () => expect.fail('fenced') },
    });
    const log = new OutputLog(connection, keys);
    const read = async () => {
      const { entries } = await log.read('w', 0, 100_000);
      return entries.flatMap(({ entry }) => (entry.kind === 'lines' ? entry.body.toString().split('\n') : []));
    };
    return { spool, read };
  }

  it.each([
    ['killed and started again', () => redis.kill().then(() => redis.start())],
    [
      'frozen for longer than commands may take',
      async () => {
        redis.freeze();
        await new Promise((resolve) => AbortSignal.timeout(1500).addEventListener('abort', resolve));
        redis.thaw();
      },
    ],
  ])('loses and repeats no line, and keeps their order, when Redis is %s', async (_what, outage) => {
    const { spool, read } = await claim();
    let count = 0;
    const writer = setInterval(() => {
      const texts = Array.from({ length: 50 }, () => `line ${count++}`);
      spool.push('o', 50, Buffer.from(texts.join('\n')));
    }, 5);
    await vi.waitFor(() => expect(count).toBeGreaterThan(1000));
    await outage();
    const before = count;
    await vi.waitFor(() => expect(count).toBeGreaterThan(before + 1000), { timeout: 5000 });
    clearInterval(writer);
    expect(await spool.drained()).toBe('drained');
    expect(await read()).toEqual(Array.from({ length: count }, (_, i) => `line ${i}`));
  });

  it('loses and repeats no line when its connection is cut again and again', async () => {
    const { spool, read } = await claim();
    const admin = redis.client();
    let count = 0;
    for (let cut = 0; cut < 10; cut++) {
      for (let i = 0; i < 40; i++) {
        const texts = Array.from({ length: 500 }, () => `line ${count++}`);
        spool.push('o', 500, Buffer.from(texts.join('\n')));
        await new Promise((resolve) => setImmediate(resolve));
      }
      await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
      await vi.waitFor(() => expect(connection.status).toBe('ready'), { interval: 5 });
    }
    expect(await spool.drained()).toBe('drained');
    expect(await read()).toEqual(Array.from({ length: count }, (_, i) => `line ${i}`));
  });
});
