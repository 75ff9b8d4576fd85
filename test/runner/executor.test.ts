/** What an execution asks of whoever runs its command, shown with an executor that does as the test says. */
import { deferred, type ProgramExit, Redactor, SpoolBudget } from '@carrierarr/execution';
import { createLogger, createMetrics, FakeClock } from '@carrierarr/platform';
import { encodeEntry } from '@carrierarr/protocol';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { RunningExecution } from '../../apps/runner/src/execution.js';
import type { Executors, ForeignOutput, Run, Task } from '../../apps/runner/src/executors/executor.js';
import { LeaseKeeper } from '../../apps/runner/src/lease.js';
import { createRunnerMetrics } from '../../apps/runner/src/metrics.js';
import { startRedis, type TestRedis } from '../support/redis.js';
import { startClient } from './support.js';

let redis: TestRedis;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

/** Remembers what it was asked for; ends when the test ends it. */
class Elsewhere implements Run {
  readonly #exited = deferred<ProgramExit | undefined>();
  readonly exited = this.#exited.promise;
  readonly asked: string[] = [];
  foreign: ForeignOutput | undefined;
  readonly finish = async () => this.foreign;
  readonly beat = () => void this.asked.push('beat');
  readonly terminate = (graceMs: number) => void this.asked.push(`terminate ${graceMs}`);
  readonly kill = () => void this.asked.push('kill');
  readonly pause = () => void this.asked.push('pause');
  readonly resume = () => void this.asked.push('resume');

  end(exit?: ProgramExit): void {
    this.#exited.resolve(exit);
  }
}

/** An execution for an agent, claimed. `begin` is its executor's start. */
async function claimed(begin: (task: Task, run: Run) => Promise<Run | undefined>) {
  const client = startClient(redis);
  const { store } = client;
  const id = await client.submit('w', 'uptime', [], { executor: 'agent' });
  const answer = await store.claim('w', { id: 'r1', incarnation: 'i1' });
  if (answer.kind !== 'claimed') throw new Error(answer.kind);
  const { execution, fence } = answer;
  const clock = new FakeClock();
  const run = new Elsewhere();
  const task = deferred<Task>();
  const agent: NonNullable<Executors['agent']> = {
    start: (given) => {
      task.resolve(given);
      return begin(given, run);
    },
  };
  const levels = { running: () => 1, spoolBytes: () => 0, appendsInFlight: () => 0 };
  const metrics = createRunnerMetrics(createMetrics({ program: 't', version: '0', hasProcessMetrics: false }), levels);
  const running = new RunningExecution({
    ...{ execution, fence, store, outputStore: store, clock, executors: { agent } },
    limits: {
      ...{ allowedCommands: [], timeoutMs: 60_000, timeoutMaxMs: 60_000, killGraceMs: 7_000 },
      ...{ lineBytesMax: 1 << 16, spoolBytesMax: 1024, outputBytesMax: 1 << 20 },
    },
    leases: new LeaseKeeper({ renew: (target, f) => store.renew(target, f), clock, outageGraceMs: 35_000 }),
    budget: new SpoolBudget(1 << 20),
    redactor: new Redactor([]),
    metrics,
    logger: createLogger({ program: 't', level: 'silent' }),
  });
  /** What a monitor does with the lines of an agent. */
  const append = (sequence: number, text: string) => {
    const entry = { execution: id, sequence, timeMs: 1, runs: [{ stream: 'o' as const, lines: 1 }] };
    return store.append('w', fence, sequence, 1, encodeEntry({ ...entry, kind: 'lines', body: Buffer.from(text) }));
  };
  const ended = running.run(clock.monotonicMs());
  /** Resolves when it runs: its timeout counts. */
  const begun = () => vi.waitFor(() => expect(clock.pendingTimers).toBe(1));
  return { client, id, running, run, task: task.promise, append, begun, ended, clock, metrics };
}

const begins = async (_task: Task, run: Run) => run;

describe('an execution that another runs', () => {
  it('takes over the numbers of output that did not pass through the runner', async () => {
    const one = await claimed(begins);
    for (const n of [1, 2, 3]) expect(await one.append(n, `line ${n}`)).toMatchObject({ kind: 'ok' });
    one.run.foreign = { sequence: 3, lines: 3, truncatedLines: 2 };
    one.run.end({ code: 0 });
    await one.ended;
    expect(await one.client.records.get(one.id)).toMatchObject({
      ...{ state: 'ended', outcome: 'succeeded', exit_code: 0, executor: 'agent', lines: 3, truncated_lines: 2 },
    });
    const { lines, events } = await one.client.output('w');
    expect(lines).toEqual(['o:line 1', 'o:line 2', 'o:line 3']);
    expect(events.map((event) => event.type)).toEqual(['started', 'error', 'result']);
    expect(events[1]).toMatchObject({ code: 'output_limited', error: expect.stringContaining('2 lines') });
  });

  it('ends all the same when Redis has lost entries of it, and says how many', async () => {
    const one = await claimed(begins);
    await one.append(1, 'line 1');
    one.run.foreign = { sequence: 4, lines: 4, truncatedLines: 0 };
    one.run.end({ code: 0 });
    await one.ended;
    expect(await one.client.records.get(one.id)).toMatchObject({ outcome: 'succeeded' });
    const { events } = await one.client.output('w');
    expect(events[1]).toMatchObject({ code: 'internal', error: expect.stringContaining('lost 3 entries') });
  });

  it('is not held for lost because a renewal came after its own ending', async () => {
    const one = await claimed(begins);
    const { store } = one.client;
    const finish = store.finish.bind(store);
    vi.spyOn(store, 'finish').mockImplementation(async (...args) => {
      const answer = await finish(...args);
      expect(await store.renew('w', one.running.fence)).toEqual({ kind: 'fenced' });
      one.running.onFenced();
      return answer;
    });
    one.run.end({ code: 0 });
    await one.ended;
    expect((await one.metrics.fenced.get()).values[0]?.value).toBe(0);
    expect(await one.client.records.get(one.id)).toMatchObject({ outcome: 'succeeded' });
  });

  it('is not held for lost because a renewal is answered right after its own ending', async () => {
    const one = await claimed(begins);
    const { store } = one.client;
    const finish = store.finish.bind(store);
    vi.spyOn(store, 'finish').mockImplementation(async (...args) => {
      const answer = await finish(...args);
      // Both answers were in one packet: this one is seen as soon as that one has been.
      void Promise.resolve()
        .then(() => undefined)
        .then(() => one.running.onFenced());
      return answer;
    });
    one.run.end({ code: 0 });
    await one.ended;
    expect((await one.metrics.fenced.get()).values[0]?.value).toBe(0);
  });

  it('is not held for lost because its ending was carried out without an answer', async () => {
    const one = await claimed(begins);
    const { store } = one.client;
    const finish = store.finish.bind(store);
    const asked = vi.spyOn(store, 'finish').mockImplementationOnce(async (...args) => {
      await finish(...args);
      throw new Error('the connection broke');
    });
    one.run.end({ code: 0 });
    await vi.waitFor(() => expect(asked).toHaveBeenCalledOnce());
    await vi.waitFor(() => expect(one.clock.pendingTimers).toBe(1));
    expect(await store.renew('w', one.running.fence)).toEqual({ kind: 'fenced' });
    one.running.onFenced();
    one.clock.advance(60_000);
    await one.ended;
    expect((await one.metrics.fenced.get()).values[0]?.value).toBe(0);
    expect(await one.client.records.get(one.id)).toMatchObject({ outcome: 'succeeded' });
  });

  it('that another holds for lost while its ending is asked for is told so once', async () => {
    const one = await claimed(begins);
    const { store } = one.client;
    await one.begun();
    const lease = await store.lease('w');
    if (lease === undefined) throw new Error('It has no lease.');
    expect(await store.reap(lease, 0)).toBe('lost');
    one.run.end({ code: 0 });
    expect(await one.ended).toBe(false);
    expect((await one.metrics.fenced.get()).values[0]?.value).toBe(1);
  });

  it('is lost when its executor says so, whatever is asked of it after that', async () => {
    const one = await claimed(begins);
    const task = await one.task;
    task.decide({ kind: 'agent-lost', reason: 'not heard of for 30 s' });
    one.running.onKillRequested('ann');
    expect(task.signal.aborted).toBe(true);
    one.run.end();
    await one.ended;
    expect(await one.client.records.get(one.id)).toMatchObject({
      ...{ outcome: 'lost', exit_code: -1, reason: 'not heard of for 30 s' },
    });
    expect((await one.client.output('w')).events[1]).toMatchObject({ code: 'agent_lost' });
  });

  it('that was killed before it had begun is ended as soon as it has', async () => {
    const starting = deferred<void>();
    const one = await claimed(async (_task, run) => {
      await starting.promise;
      return run;
    });
    const task = await one.task;
    one.running.onKillRequested('ann');
    expect(task.signal.aborted).toBe(true);
    starting.resolve();
    await vi.waitFor(() => expect(one.run.asked).toEqual(['terminate 7000']));
    one.run.end({ code: 143 });
    await one.ended;
    expect(await one.client.records.get(one.id)).toMatchObject({ outcome: 'killed', signal: 'SIGTERM' });
  });

  it('is over when its executor does not begin, having named the cause', async () => {
    const one = await claimed(async (task) => {
      task.decide({ kind: 'cannot-execute', code: 127, problem: 'no such agent' });
      return undefined;
    });
    await one.ended;
    expect(await one.client.records.get(one.id)).toMatchObject({ outcome: 'rejected', exit_code: 127 });
  });

  it('is asked to pause when its output comes faster than Redis takes it, and gets all of it there', async () => {
    const one = await claimed(begins);
    const task = await one.task;
    await one.begun();
    const text = Array.from({ length: 100 }, (_, n) => `line ${n} ${'x'.repeat(20)}`);
    task.output('o', Buffer.from(text.join('\n')));
    task.outputEnd('o');
    await vi.waitFor(() => expect(one.run.asked).toEqual(['pause', 'resume']));
    one.run.end({ code: 3 });
    await one.ended;
    expect(await one.client.records.get(one.id)).toMatchObject({ outcome: 'failed', exit_code: 3, lines: 100 });
    expect((await one.client.output('w')).lines).toEqual(text.map((line) => `o:${line}`));
  });

  it('is killed without further ado when another has declared it lost', async () => {
    const one = await claimed(begins);
    await one.begun();
    one.running.beat();
    one.running.onFenced();
    expect(one.run.asked).toEqual(['beat', 'kill']);
    one.run.end({ code: 137 });
    expect(await one.ended).toBe(false);
    expect(await one.client.records.get(one.id)).toMatchObject({ state: 'running' });
  });

  it('that runs longer than its timeout is told to end', async () => {
    const one = await claimed(begins);
    expect((await one.task).timeoutMs).toBe(60_000);
    await one.begun();
    one.clock.advance(60_000);
    expect(one.run.asked).toEqual(['terminate 7000']);
    one.run.end({ code: 143 });
    await one.ended;
    expect(await one.client.records.get(one.id)).toMatchObject({ outcome: 'timed-out', exit_code: 124 });
  });
});
