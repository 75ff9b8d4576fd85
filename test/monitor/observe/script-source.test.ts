import { FakeClock } from '@carrierarr/platform';
import { beforeEach, describe, expect, it } from 'vitest';
import {
  ASKED_AT_ONCE_MAX,
  POLL_WAIT_MS,
  scriptRecord,
  ScriptSource,
  type StatusCommands,
  TARGET_WAIT_MS,
  WATCHED_MS,
} from '../../../apps/monitor/src/observe/script-source.js';
import { SourceError } from '../../../apps/monitor/src/observe/source.js';
import { metric, observing, unaborted } from './support.js';

const POLL_MS = 30_000;

/** A queue whose `status` commands take as long, and say what, the test wants. */
class FakeQueue implements StatusCommands {
  readonly submitted: string[] = [];
  readonly #executions = new Map<string, { target: string; endsAtMs: number }>();
  durationMs: (target: string) => number = () => 500;
  line: (target: string) => string | undefined = () => '{"state":"running"}';
  isAway = false;
  /** Targets that take no more. */
  full = new Set<string>();
  lost = new Set<string>();
  most = 0;

  constructor(readonly clock: FakeClock) {}

  submit(target: string): Promise<string> {
    if (this.isAway) return Promise.reject(new Error('Redis is away'));
    if (this.full.has(target)) return Promise.reject(new Error(`${target} has 100 commands waiting`));
    const id = `x${this.submitted.length}`;
    this.submitted.push(target);
    this.#executions.set(id, { target, endsAtMs: this.clock.now() + this.durationMs(target) });
    this.most = Math.max(this.most, this.#running());
    return Promise.resolve(id);
  }

  execution(_: string, id: string): ReturnType<StatusCommands['execution']> {
    if (this.isAway) return Promise.reject(new Error('Redis is away'));
    if (this.lost.has(id)) return Promise.resolve({ state: 'gone' });
    const endedAtMs = this.#executions.get(id)?.endsAtMs ?? 0;
    if (this.clock.now() < endedAtMs) return Promise.resolve({ state: 'running' });
    return Promise.resolve({ state: 'ended', outcome: 'succeeded', exitCode: 0, endedAtMs });
  }

  lastLine(target: string): Promise<string | undefined> {
    return Promise.resolve(this.line(target));
  }

  #running(): number {
    return [...this.#executions.values()].filter(({ endsAtMs }) => endsAtMs > this.clock.now()).length;
  }
}

let clock: FakeClock;
let queue: FakeQueue;
let targets: string[];
let context: ReturnType<typeof observing>;
let source: ScriptSource;
beforeEach(() => {
  clock = new FakeClock();
  queue = new FakeQueue(clock);
  targets = ['w-1', 'w-2'];
  context = observing(clock);
  source = new ScriptSource({ ...context, targets: () => targets, known: [], commands: queue, pollMs: POLL_MS });
});

/** Polls when it is due, or after so long, while time goes by; also says how long it took. */
async function poll(afterMs = POLL_MS) {
  await clock.advanceAsync(afterMs);
  const beganMs = clock.monotonicMs();
  let tookMs: number | undefined;
  const polled = source.poll(unaborted()).finally(() => {
    tookMs = clock.monotonicMs() - beganMs;
  });
  polled.catch(() => {});
  while (tookMs === undefined) await clock.advanceAsync(100);
  return { ...(await polled), tookMs };
}

describe('a poll of scripts', () => {
  it('asks every declared target and takes the state that its script tells', async () => {
    queue.line = (target) => (target === 'w-1' ? '{"state":"running"}' : 'all is well');
    const { records, seenAtMs, tookMs } = await poll();
    expect(queue.submitted).toEqual(['w-1', 'w-2']);
    expect(records).toEqual([
      { id: 'w-1', target: 'w-1', provider: 'script', state: 'running', mapped_by: 'resource', source: 'script' },
      {
        ...{ id: 'w-2', target: 'w-2', provider: 'script', state: 'unknown', mapped_by: 'resource', source: 'script' },
        reason: 'status ended with "all is well"; expected its last line to be JSON such as {"state":"running"}',
      },
    ]);
    expect(Object.values(seenAtMs ?? {}).every((ms) => ms <= clock.now() && ms >= clock.now() - tookMs)).toBe(true);
  });

  it('leaves what they told another leader as it was until they tell something else', async () => {
    const told = { id: 'w-1', target: 'w-1', mapped_by: 'resource', source: 'script', provider: 'script' } as const;
    const observed_at = new Date(clock.now() - 5_000).toISOString();
    const known = [
      { ...told, state: 'running', version: 1, observed_at },
      { ...told, id: 'w-3', target: 'w-3', state: 'running', version: 1, observed_at },
      { ...told, id: 'i-1', target: 'w-2', state: 'running', version: 1, observed_at, source: 'ec2/x' },
    ];
    source = new ScriptSource({ ...context, targets: () => targets, known, commands: queue, pollMs: POLL_MS });
    queue.durationMs = () => 15_000;
    const first = await poll();
    expect(first.records).toEqual([{ ...told, state: 'running' }]);
    expect(first.seenAtMs).toEqual({ 'w-1': Date.parse(observed_at) });
    queue.line = () => '{"state":"stopped"}';
    await clock.advanceAsync(10_000);
    expect((await poll()).records.map(({ id, state }) => `${id} ${state}`)).toEqual(['w-1 stopped', 'w-2 stopped']);
  });

  it('never shows a target under the id of a machine that a cloud may show', async () => {
    const task = 'arn:aws:ecs:eu-central-1:1:task/prod/1';
    targets = ['i-0abc', task, 'script/i-0abc', 'i-am-a-name'];
    const { records, seenAtMs } = await poll();
    const ids = ['script/i-0abc', `script/${task}`, 'script/script/i-0abc', 'i-am-a-name'];
    expect(records.map(({ id, target }) => [id, target])).toEqual(ids.map((id, i) => [id, targets[i]]));
    expect(Object.keys(seenAtMs ?? {})).toEqual(ids);
  });

  it('goes on with what an older version published under such an id, under its own', async () => {
    const told = { target: 'i-0abc', mapped_by: 'resource', source: 'script', provider: 'script' } as const;
    const observed_at = new Date(clock.now() - 5_000).toISOString();
    const known = [{ ...told, id: 'i-0abc', state: 'running', version: 1, observed_at }];
    targets = ['i-0abc'];
    source = new ScriptSource({ ...context, targets: () => targets, known, commands: queue, pollMs: POLL_MS });
    queue.durationMs = () => 15_000;
    expect((await poll()).records).toEqual([{ ...told, id: 'script/i-0abc', state: 'running' }]);
  });

  it('asks them again at each poll', async () => {
    await poll();
    await poll();
    expect(queue.submitted).toEqual(['w-1', 'w-2', 'w-1', 'w-2']);
  });

  it('asks only the one that is on its way to another state while polls come fast because of that', async () => {
    queue.line = (target) => `{"state":"${target === 'w-1' ? 'starting' : 'running'}"}`;
    await poll();
    queue.submitted.length = 0;
    for (let at = 0; at < 4; at++) await poll(5_000);
    expect(queue.submitted).toEqual(['w-1', 'w-1', 'w-1', 'w-1']);
    // The other one as often as ever.
    await poll(5_000);
    expect(queue.submitted.filter((target) => target === 'w-2')).toHaveLength(1);
    queue.line = () => '{"state":"running"}';
    await poll(5_000);
    queue.submitted.length = 0;
    expect((await poll(5_000)).records).toHaveLength(2);
    expect(queue.submitted).toEqual([]);
  });

  it('asks the one to which something happens in each poll for a while, and nobody whom no Worker has', async () => {
    await poll();
    queue.submitted.length = 0;
    source.expectChange('w-2');
    source.expectChange('nobody');
    for (let at = 0; at < 4; at++) await poll(5_000);
    expect(queue.submitted).toEqual(['w-2', 'w-2', 'w-2', 'w-2']);
    await poll(WATCHED_MS);
    queue.submitted.length = 0;
    await poll(5_000);
    expect(queue.submitted).toEqual([]);
  });

  it('waits for no more than so many at once', async () => {
    targets = Array.from({ length: 100 }, (_, at) => `w-${at}`);
    const { records } = await poll();
    expect(records).toHaveLength(100);
    expect(queue.most).toBe(ASKED_AT_ONCE_MAX);
  });

  it('does not ask a target again whose last status has not ended, and does not wait for it either', async () => {
    queue.durationMs = (target) => (target === 'w-1' ? 100_000 : 500);
    const first = await poll();
    expect(first.records.map(({ id }) => id)).toEqual(['w-2']);
    expect(first.tookMs).toBeLessThanOrEqual(TARGET_WAIT_MS + 1_000);
    const second = await poll();
    expect(queue.submitted.filter((target) => target === 'w-1')).toHaveLength(1);
    expect(second.tookMs).toBeLessThan(2_000);
    expect(await metric(context.registry, 'carrierarr_monitor_script_targets_skipped_total')).toBe(1);
    await clock.advanceAsync(100_000);
    const third = await poll();
    expect(third.records.map(({ id }) => id)).toEqual(['w-1', 'w-2']);
    expect(queue.submitted.filter((target) => target === 'w-1')).toHaveLength(1);
  });

  it('tells of a target that cannot be asked now what it said last, and when that was', async () => {
    const before = await poll();
    queue.durationMs = (target) => (target === 'w-1' ? 100_000 : 500);
    const { records, seenAtMs } = await poll();
    expect(records).toHaveLength(2);
    expect(seenAtMs?.['w-1']).toBe(before.seenAtMs?.['w-1']);
    expect(seenAtMs?.['w-2']).toBeGreaterThan(before.seenAtMs?.['w-2'] ?? Infinity);
  });

  it('ends in bounded time when all scripts hang, and reaches every target in turn', async () => {
    targets = Array.from({ length: 200 }, (_, at) => `w-${at}`);
    queue.durationMs = () => 10_000_000;
    for (let at = 0; at < 6; at++) expect((await poll()).tookMs).toBeLessThanOrEqual(POLL_WAIT_MS + TARGET_WAIT_MS);
    expect(new Set(queue.submitted).size).toBe(200);
    expect(queue.submitted).toHaveLength(200);
  });

  it('forgets a target that is not declared any more', async () => {
    await poll();
    targets = ['w-2'];
    expect((await poll()).records.map(({ id }) => id)).toEqual(['w-2']);
    expect(source.hasTombstones).toBe(false);
  });

  it('asks anew when the execution it waited for is not there any more', async () => {
    queue.lost.add('x0');
    expect((await poll()).records.map(({ id }) => id)).toEqual(['w-2']);
    expect((await poll()).records.map(({ id }) => id)).toEqual(['w-1', 'w-2']);
  });

  it('fails when nothing could be asked at all', async () => {
    await poll();
    queue.isAway = true;
    const error = await poll().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(SourceError);
    expect((error as Error).message).toContain('The status of 2 targets could not be asked: Redis is away.');
  });

  it('goes on failing until somebody answers, however soon it is tried again', async () => {
    await poll();
    queue.isAway = true;
    await expect(poll()).rejects.toBeInstanceOf(SourceError);
    for (let at = 0; at < 3; at++) await expect(poll(5_000)).rejects.toBeInstanceOf(SourceError);
    queue.isAway = false;
    expect((await poll(5_000)).records).toHaveLength(2);
  });

  it('does not fail for the trouble of the one that is asked more often, and says what it is', async () => {
    queue.line = (target) => `{"state":"${target === 'w-1' ? 'starting' : 'running'}"}`;
    await poll();
    queue.full.add('w-1');
    const warning = '1 targets could not be asked for their status: w-1 has 100 commands waiting';
    for (let at = 0; at < 3; at++) expect(await poll(5_000)).toMatchObject({ kind: 'complete', warning });
  });

  it('has nothing to fail about when nothing is declared', async () => {
    targets = [];
    queue.isAway = true;
    expect(await poll()).toMatchObject({ records: [], calls: 0 });
  });
});

describe('the answer of a script', () => {
  const of = (line: string | undefined, outcome = 'succeeded', exitCode = 0) =>
    scriptRecord('w', line, { outcome, exitCode });

  it('may say more than the state', () => {
    const answer = {
      ...{ state: 'RUNNING', provider: 'proxmox', name: 'box', public_ip: '203.0.113.7', private_ip: '10.0.0.1' },
      ...{ instance_type: 'big', idle_seconds: 90, reason: 'because', colour: 'blue' },
    };
    const { colour: _, ...known } = answer;
    expect(of(JSON.stringify(answer))).toEqual({
      ...{ id: 'w', target: 'w', mapped_by: 'resource', source: 'script' },
      ...known,
    });
  });

  it('is kept short: the records of all workers go to every client', () => {
    const long = 'x'.repeat(10_000);
    const record = of(JSON.stringify({ state: long, provider: long, reason: long, name: long }));
    expect(JSON.stringify(record).length).toBeLessThan(3_000);
    expect(record.state.endsWith('…')).toBe(true);
  });

  it('counts when the script exits with an error, too: it said what it knows', () => {
    expect(of('{"state":"stopped"}', 'failed', 3)).toMatchObject({ state: 'stopped' });
  });

  it.each(['killed', 'timed-out', 'lost', 'rejected'])('does not count when it was %s', (outcome) => {
    expect(of('{"state":"running"}', outcome, 143)).toMatchObject({
      state: 'unknown',
      reason: expect.stringContaining(`(${outcome}, exit code 143)`) as string,
    });
  });

  it.each(['', 'running', '{"state":', '{"state":7}', '{"state":""}', '["state"]', 'null', '{}'])(
    'is unknown, with the reason, when it is %j',
    (line) => {
      expect(of(line)).toMatchObject({ state: 'unknown', provider: 'script' });
      expect(of(line)['reason']).toContain(JSON.stringify(line));
    },
  );

  it('is unknown when there is none', () => {
    expect(of(undefined, 'failed', 127).reason).toBe(
      'status wrote nothing (failed, exit code 127); expected its last line to be JSON such as {"state":"running"}',
    );
  });

  it('takes no nonsense for facts', () => {
    expect(of('{"state":"running","idle_seconds":-1,"name":7,"reason":{}}')).toEqual({
      ...{ id: 'w', target: 'w', mapped_by: 'resource', source: 'script', provider: 'script', state: 'running' },
    });
  });
});
