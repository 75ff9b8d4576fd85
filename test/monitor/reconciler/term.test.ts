/** What a leader does about one fleet, over a real Redis: crashes, races and refusals included. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { doubled } from '../../support/fleet.js';
import { startRedis, type TestRedis } from '../../support/redis.js';
import { until } from '../../support/until.js';
import { EC2, installation, machine, type TestInstallation } from './support.js';

let redis: TestRedis;
let site: TestInstallation;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());
beforeEach(async () => {
  site = await installation(redis);
});
afterEach(() => site.stop());

const commandsOf = async (target?: string) =>
  (await site.desired.executions()).filter((each) => target === undefined || each.target === target);

describe('a source that is not polled any more', () => {
  it('is forgotten by the next leader, with its workers, and those that are polled are not', async () => {
    const term = await site.lead();
    await term.poll([machine('w1')]);
    const { fence } = term;
    const report = { source: 'ec2/gone-1', ok: true, polled_at: new Date().toISOString(), interval_ms: 30_000 };
    const record = { ...machine('w2'), id: 'i-gone', source: 'ec2/gone-1' };
    await site.status.publish(fence, { report: { ...report, calls: 1, workers: 1 }, upserts: [record], removed: [] });
    await term.end();
    await site.lead();
    await until('it to be forgotten', async () => (await site.status.read(Date.now())).sources.length === 1);
    const { sources, workers } = await site.status.read(Date.now());
    expect(sources.map(({ source }) => source)).toEqual([EC2]);
    expect(workers.map(({ target }) => target)).toEqual(['w1']);
  });
});

describe('two sources that know a machine by one id', () => {
  it('keep their own of it: one that takes it back takes nothing from the other', async () => {
    const term = await site.lead();
    await term.poll([machine('w1')]);
    await term.poll([], ['i-w1'], 'script');
    expect((await site.status.read(Date.now())).workers).toMatchObject([{ id: 'i-w1', source: EC2 }]);
    await site.desired.worker('w1');
    await site.desired.settled(['w1'], 'Running');
    expect(await commandsOf()).toEqual([]);
  });
});

describe('a Worker', () => {
  it('is started when a poll shows it stopped, and left alone when it is as wanted', async () => {
    await site.desired.worker('w1');
    await site.desired.worker('w2');
    const term = await site.lead();
    await term.poll([machine('w1', 'stopped'), machine('w2')]);
    const { command, subject, client_id } = await site.runNext('w1');
    expect([command, subject]).toEqual(['start', 'system:reconciler']);
    expect(client_id).toMatch(/^cr:.*:1:1:start$/);
    await until('its source to be hurried', () => term.nudged.includes(EC2));
    await term.poll([machine('w1')]);
    term.goOnPolling();
    await site.desired.settled(['w1', 'w2'], 'Running');
    expect((await site.resources.get('Worker', 'w1'))?.status?.lastCommand).toMatchObject({ outcome: 'succeeded' });
    expect(await commandsOf()).toHaveLength(1);
  });

  it('whose schedule cannot be counted to its end holds up no other, and says so', async () => {
    const windows = [{ start: '0 8 * * *', duration: '99999999999h' }];
    await site.desired.worker('w1', { schedule: { timeZone: 'UTC', windows } });
    await site.desired.worker('w2');
    const term = await site.lead();
    await term.poll([machine('w1', 'stopped'), machine('w2', 'stopped')]);
    expect(await site.runNext('w2')).toMatchObject({ command: 'start' });
    const synced = await until('its condition', () => site.condition('w1', 'Synced'));
    expect(synced).toMatchObject({ status: 'False', reason: 'InvalidSchedule' });
  });

  it('whose command was written down by a leader that died gets that very command from the next one', async () => {
    await site.desired.worker('w1');
    const dying = await site.lead({
      stores: {
        commands: {
          submit() {
            throw new Error('the process has died');
          },
        },
      },
    });
    await dying.poll([machine('w1', 'stopped')]);
    const note = await until(
      'the note',
      async () => (await site.resources.get('Worker', 'w1'))?.status?.lastCommand?.token,
    );
    await dying.end();
    expect(await commandsOf()).toEqual([]);

    await site.lead();
    const { client_id } = await site.runNext('w1');
    expect(client_id).toBe(note);
    expect(await commandsOf()).toHaveLength(1);
  });

  it('whose command was accepted by a leader that did not live to hear of it gets no second one', async () => {
    await site.desired.worker('w1');
    const dying = await site.lead({
      stores: {
        commands: {
          async submit(submission) {
            await site.commands.submit(submission);
            throw new Error('the answer never came');
          },
        },
      },
    });
    await dying.poll([machine('w1', 'stopped')]);
    await until('the command', async () => (await commandsOf()).length > 0);
    await dying.end();
    const heir = await site.lead();
    await heir.quiet();
    await site.runNext('w1');
    await heir.poll([machine('w1')]);
    heir.goOnPolling();
    await site.desired.settled(['w1'], 'Running');
    expect(await commandsOf()).toHaveLength(1);
    // It was found, not given again.
    expect(await heir.metric('carrierarr_monitor_commands_total')).toBeUndefined();
  });

  it('gets nothing from a leader that is deposed, and that one ends its term', async () => {
    await site.desired.worker('w1');
    const old = await site.lead();
    await old.poll([machine('w1')]);
    await site.desired.settled(['w1'], 'Running');
    // Another takes over, and does not act.
    await site.lead({ isReconciling: false });
    await expect(old.poll([machine('w1', 'stopped')])).rejects.toThrow(/fence/);
    expect(old.deposedBy()).toBeDefined();
    expect(await commandsOf()).toEqual([]);
  });

  it('gets no command whose note was written before its leader was deposed', async () => {
    await site.desired.worker('w1');
    let goOn: () => void = () => undefined;
    const isHeld = new Promise<void>((resolve) => (goOn = resolve));
    const old = await site.lead({
      stores: {
        commands: {
          async submit(submission) {
            await isHeld;
            return site.commands.submit(submission);
          },
        },
      },
    });
    await old.poll([machine('w1', 'stopped')]);
    await until('the note', async () => (await site.resources.get('Worker', 'w1'))?.status?.lastCommand);
    await site.lead({ isReconciling: false });
    goOn();
    await until('the old leader to hear of it', () => old.deposedBy());
    expect(await commandsOf()).toEqual([]);
  });

  it('is planned anew when its owner changed it in the same moment', async () => {
    await site.desired.worker('w1');
    let isFirst = true;
    const term = await site.lead({
      stores: {
        resources: {
          get: (kind, name) => site.resources.get(kind, name),
          remove: (...given) => site.resources.remove(...given),
          async put(resource, ...rest) {
            const hasCommand = resource.kind === 'Worker' && resource.status?.lastCommand !== undefined;
            if (isFirst && hasCommand) {
              isFirst = false;
              await site.desired.worker('w1', { desired: 'stopped' });
            }
            return site.resources.put(resource, ...rest);
          },
        },
      },
    });
    await term.poll([machine('w1', 'stopped')]);
    await site.desired.settled(['w1'], 'Stopped');
    expect(isFirst).toBe(false);
    expect(await term.metric('carrierarr_monitor_write_conflicts_total')).toBe(1);
    expect(await commandsOf()).toEqual([]);
  });

  it('is tried again when its queue is full, with the same token', async () => {
    await site.desired.worker('w1');
    const term = await site.lead({ others: { on: async () => ({ busy: false, endedAtMs: undefined }) } });
    for (let n = 0; n < 3; n++) await site.byHand('w1', 'logs');
    await term.poll([machine('w1', 'stopped')]);
    await until(
      'a refusal',
      async () => ((await term.metric('carrierarr_monitor_commands_total', { answer: 'queue-full' })) ?? 0) > 0,
    );
    const token = (await site.resources.get('Worker', 'w1'))?.status?.lastCommand?.token;
    for (let n = 0; n < 3; n++) await site.runNext('w1');
    expect((await site.runNext('w1')).client_id).toBe(token);
  });

  it('that is idle is not stopped while somebody has a command on it, and is stopped afterwards', async () => {
    await site.desired.worker('w1', { idleStopAfter: '60s' });
    const term = await site.lead();
    await term.poll([machine('w1', 'running', { idle_seconds: 10 })]);
    await site.desired.settled(['w1'], 'Running');
    await site.byHand('w1', 'logs');
    await term.poll([machine('w1', 'running', { idle_seconds: 100 })]);
    await term.quiet();
    expect((await commandsOf()).map(({ command }) => command)).toEqual(['logs']);
    await site.runNext('w1');
    await term.poll([machine('w1', 'running', { idle_seconds: 130 })]);
    term.goOnPolling();
    expect((await site.runNext('w1')).command).toBe('stop');
  });

  it('is neither started nor given up because polls fail', async () => {
    await site.desired.worker('w1');
    const term = await site.lead();
    await term.poll([machine('w1')]);
    await site.desired.settled(['w1'], 'Running');
    for (let n = 0; n < 3; n++) await term.failedPoll();
    await term.quiet();
    expect(await commandsOf()).toEqual([]);
    expect(await site.condition('w1', 'Ready')).toMatchObject({ status: 'True' });
  });

  it('is made by its script when no cloud has it, only after its machine is gone does it go', async () => {
    await site.desired.worker('w1', { source: 'ec2', args: { provision: ['--type', 'g5'] } });
    const term = await site.lead();
    await term.poll([]);
    term.goOnPolling();
    const made = await site.runNext('w1');
    expect([made.command, made.args]).toEqual(['provision', ['--type', 'g5']]);
    await term.poll([machine('w1')]);
    await site.desired.settled(['w1'], 'Running');
    await site.desired.delete('Worker', 'w1');
    expect((await site.runNext('w1')).command).toBe('terminate');
    expect(await site.resources.get('Worker', 'w1')).toBeDefined();
    await term.poll([machine('w1', 'terminated')]);
    await until('it to go', async () => (await site.resources.get('Worker', 'w1')) === undefined);
    expect(doubled(await commandsOf())).toEqual([]);
  });
});

describe('many Workers', () => {
  const names = (count: number) => Array.from({ length: count }, (_, n) => `w${n}`);

  it('that are as wanted are looked at without a question to Redis', async () => {
    for (const name of names(20)) await site.desired.worker(name);
    const term = await site.lead();
    await term.poll(names(20).map((name) => machine(name)));
    await site.desired.settled(names(20), 'Running');
    await term.quiet();
    const looks = async () => (await term.metric('controller_runtime_reconcile_total', { controller: 'worker' })) ?? 0;
    const calls = async () => Number(/total_commands_processed:(\d+)/.exec(await site.connection.info('stats'))?.[1]);
    // Events are written after all else. Each look at the count is a call, too.
    let callsBefore = 0;
    await until('all events to be written', async () => {
      const seen = callsBefore;
      callsBefore = await calls();
      return callsBefore === seen + 1;
    });
    const looksBefore = await looks();
    // Every Worker is looked at when its source stops answering. The script that publishes that counts as itself and five.
    await term.failedPoll();
    await until('all of them to be looked at', async () => (await looks()) >= looksBefore + 20);
    await term.quiet();
    expect((await calls()) - callsBefore).toBeLessThan(20);
  });

  it('of which more than a fifth goes bad at once are not repaired, by the next leader neither, until they are back', async () => {
    const all = names(10);
    for (const name of all) await site.desired.worker(name);
    const term = await site.lead();
    await term.poll(all.map((name) => machine(name)));
    await site.desired.settled(all, 'Running');
    await term.poll(['w0', 'w1', 'w2'].map((name) => machine(name, 'stopped')));
    await until('the condition', async () => (await site.condition('w1', 'Halted'))?.status === 'True');
    await term.quiet();
    expect(await commandsOf()).toEqual([]);
    expect(await term.metric('carrierarr_monitor_halted_groups')).toBe(1);
    await term.end();
    expect(await term.metric('carrierarr_monitor_halted_groups')).toBe(0);

    const heir = await site.lead();
    await heir.poll([]);
    await heir.quiet();
    expect(await commandsOf()).toEqual([]);
    await heir.poll([machine('w0'), machine('w1')]);
    expect((await site.runNext('w2')).command).toBe('start');
  });
});

describe('a WorkerPool', () => {
  it('of which a name is taken says whose it is, makes the others, and has it once it is free', async () => {
    await site.desired.worker('gpu-1', { desired: 'absent' });
    await site.desired.worker('other', { desired: 'absent', target: 'gpu-2' });
    await site.desired.pool('gpu', { replicas: 4 }, { source: 'ec2', desired: 'stopped' });
    const term = await site.lead();
    await term.poll([machine('gpu-0', 'stopped'), machine('gpu-3', 'stopped')]);
    term.goOnPolling();
    const synced = await until('it to say so', async () => {
      const status = (await site.resources.get('WorkerPool', 'gpu'))?.status;
      const found = status?.conditions.find(({ type }) => type === 'Synced');
      return status?.replicas === 2 && found?.reason === 'NameTaken' && found;
    });
    expect(synced.message).toMatch(/gpu-1 is a Worker that no pool owns; gpu-2 is the target of the Worker other/);
    const told = await until('the event', async () =>
      (await site.desired.events.list('WorkerPool', 'gpu')).find(({ reason }) => reason === 'NameTaken'),
    );
    expect(told.count).toBe(1);
    const owned = (await site.desired.workers()).filter(({ metadata }) => metadata.owner !== undefined);
    expect(owned.map(({ metadata }) => metadata.name)).toEqual(['gpu-0', 'gpu-3']);
    for (const name of ['gpu-1', 'other']) await site.resources.remove('Worker', name, undefined);
    await until('the pool to be whole', async () => {
      const workers = (await site.desired.workers()).filter(({ metadata }) => metadata.owner?.name === 'gpu');
      return workers.length === 4;
    });
  });

  it('has its Workers made, marked as its own, and taken away when there are too many', async () => {
    await site.desired.pool('gpu', { replicas: 3 }, { source: 'ec2' });
    const term = await site.lead();
    await term.poll([machine('gpu-0'), machine('gpu-1'), machine('gpu-2')]);
    term.goOnPolling();
    const workers = await site.desired.settled(['gpu-0', 'gpu-1', 'gpu-2'], 'Running');
    const pool = await site.resources.get('WorkerPool', 'gpu');
    for (const { metadata } of workers) {
      expect(metadata.owner).toEqual({ kind: 'WorkerPool', name: 'gpu', uid: pool?.metadata.uid });
      expect(metadata.labels).toEqual({ 'carrierarr.io/pool': 'gpu' });
    }
    await until(
      'the pool to count them',
      async () => (await site.resources.get('WorkerPool', 'gpu'))?.status?.ready === 3,
    );
    await site.desired.pool('gpu', { replicas: 2 }, { source: 'ec2' });
    expect((await site.runNext('gpu-2')).command).toBe('terminate');
    await term.poll([machine('gpu-2', 'terminated')]);
    await site.desired.settled(['gpu-0', 'gpu-1'], 'Running');
    await site.desired.delete('WorkerPool', 'gpu');
    await site.runNext('gpu-0');
    await site.runNext('gpu-1');
    await term.poll([machine('gpu-0', 'terminated'), machine('gpu-1', 'terminated')]);
    await until('the pool to go', async () => (await site.resources.get('WorkerPool', 'gpu')) === undefined);
    expect(await site.desired.workers()).toEqual([]);
  });
});

describe('machines of ours that no Worker owns', () => {
  const orphans = ['o1', 'o2', 'o3', 'o4', 'o5', 'o6', 'o7', 'o8', 'o9'];

  it('are told of and otherwise left alone', async () => {
    await site.desired.worker('w1');
    const term = await site.lead();
    for (let n = 0; n < 3; n++) await term.poll([machine('w1'), machine('o1'), machine('x1', 'running', { tags: {} })]);
    await term.quiet();
    expect(await term.metric('carrierarr_monitor_orphans')).toBe(1);
    expect((await site.desired.events.list('Worker', 'o1')).map(({ reason }) => reason)).toEqual(['Orphaned']);
    expect(await commandsOf()).toEqual([]);
    await term.end();
    expect(await term.metric('carrierarr_monitor_orphans')).toBe(0);
  });

  it('are listed with why, since when and what becomes of them, over changes of the leader, until they are none', async () => {
    await site.desired.worker('w1');
    const term = await site.lead();
    await term.poll([machine('w1'), machine('o1', 'stopped', { mapped_by: 'tag:Name', instance_type: 'g5.xlarge' })]);
    const before = (await site.orphans.read()).get('i-o1');
    expect(before).toMatchObject({
      ...{ target: 'o1', source: EC2, state: 'stopped', instance_type: 'g5.xlarge', termination: 'off' },
      reason: expect.stringContaining('carrierarr:managed'),
      message: expect.stringContaining('--gc-orphans'),
    });
    // Events are told beside the work: a leader that ends at once may have told nothing yet.
    const told = async () => (await site.desired.events.list('Worker', 'o1')).map(({ count }) => count);
    await until('it to be told', async () => (await told()).length > 0);
    await term.end();
    const heir = await site.lead({ isCollectingOrphans: true });
    await heir.poll([machine('o1')]);
    const after = (await site.orphans.read()).get('i-o1');
    expect(after).toMatchObject({ since: before?.since, state: 'running', termination: 'waiting' });
    expect(Date.parse(after?.terminate_after ?? '')).toBeGreaterThan(Date.now());
    // Nobody is told twice.
    expect(await told()).toEqual([1]);
    await heir.poll([]);
    const [execution] = await commandsOf();
    expect((await site.orphans.read()).get('i-o1')).toMatchObject({
      ...{ termination: 'given', execution: execution?.id, since: before?.since },
    });
    await site.desired.worker('o1');
    await until('it to be known', () => site.fleet.get('Worker', 'o1'));
    await heir.poll([]);
    expect(await site.orphans.read()).toEqual(new Map());
  });

  it('are not terminated where their target is also that of a machine that is none', async () => {
    await site.desired.worker('w1', { selector: { tags: { role: 'a' } } });
    const term = await site.lead({ isCollectingOrphans: true });
    const tags = { 'carrierarr:managed': 'true', role: 'a' };
    const twins = [machine('o1', 'running', { id: 'i-a', tags }), machine('o1')];
    for (let n = 0; n < 3; n++) await term.poll(n === 0 ? twins : []);
    expect([...(await site.orphans.read()).keys()]).toEqual(['i-o1']);
    expect((await site.orphans.read()).get('i-o1')).toMatchObject({
      ...{ termination: 'held', message: expect.stringContaining('i-a') },
    });
    expect(await commandsOf('o1')).toEqual([]);
  });

  it('whose queue is full do not keep others from being terminated', async () => {
    await site.desired.worker('w1');
    for (let n = 0; n < 3; n++) await site.byHand('o1', 'status');
    const term = await site.lead({ isCollectingOrphans: true });
    await term.poll([machine('w1'), ...orphans.map((name) => machine(name))]);
    await term.poll([]);
    expect(await commandsOf('o2')).toMatchObject([{ command: 'terminate' }]);
    const listed = await site.orphans.read();
    expect([...listed.values()].map(({ termination }) => termination).slice(0, 3)).toEqual([
      'waiting',
      'given',
      'waiting',
    ]);
  });

  it('are terminated when that is asked for: after two polls, and a fifth of all at once at most', async () => {
    await site.desired.worker('w1');
    const term = await site.lead({ isCollectingOrphans: true });
    const all = [machine('w1'), ...orphans.map((name) => machine(name))];
    await term.poll(all);
    expect(await commandsOf()).toEqual([]);
    await term.poll([]);
    const given = await commandsOf();
    expect(given.map(({ target, command }) => `${command} ${target}`).toSorted()).toEqual([
      'terminate o1',
      'terminate o2',
    ]);
    // The same ones, until they are gone.
    await term.poll([]);
    expect(await commandsOf()).toHaveLength(2);
    expect(await term.metric('carrierarr_monitor_commands_total')).toBe(2);
    await term.poll([machine('o1', 'terminated')]);
    expect((await commandsOf()).map(({ target }) => target).toSorted()).toEqual(['o1', 'o2']);
    await term.poll([machine('o2', 'terminated')]);
    expect((await commandsOf()).map(({ target }) => target).toSorted()).toEqual(['o1', 'o2', 'o3']);
  });

  it('are left alone when there is not a single Worker: more likely the Workers were lost', async () => {
    const term = await site.lead({ isCollectingOrphans: true });
    for (let n = 0; n < 3; n++) await term.poll(orphans.map((name) => machine(name)));
    expect(await term.metric('carrierarr_monitor_orphans')).toBe(9);
    expect(await commandsOf()).toEqual([]);
  });
});
