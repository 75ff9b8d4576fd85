/** What is done about one Worker, rule by rule. */
import { planWorker } from '@carrierarr/reconcile';
import { describe, expect, it } from 'vitest';
import { condition, ended, given, iso, NOW_MS, record, scriptRecord, sees, Told, view, worker } from './builders.js';

const MINUTE = 60_000;

describe('the verb', () => {
  const cases = [
    ['provisions a cloud worker of which there is no machine', 'running', 'ec2', undefined, 'provision'],
    ['provisions again what was terminated', 'running', 'auto', record('terminated'), 'provision'],
    ['starts what a script calls absent', 'running', 'script', scriptRecord('absent'), 'start'],
    ['starts a stopped machine', 'running', 'auto', record('stopped'), 'start'],
    ['gives nothing for what runs', 'running', 'auto', record('running'), undefined],
    ['waits for what is starting', 'running', 'auto', record('pending'), undefined],
    ['waits for what is stopping before it starts it', 'running', 'auto', record('stopping'), undefined],
    [
      'waits for what is being terminated before it makes another',
      'running',
      'auto',
      record('shutting-down'),
      undefined,
    ],
    ['stops what runs', 'stopped', 'auto', record('running'), 'stop'],
    ['makes no machine to keep it stopped', 'stopped', 'ec2', undefined, undefined],
    ['stops a running ECS task', 'stopped', 'auto', record('RUNNING', { source: 'ecs/eu/prod' }), 'stop'],
    [
      'counts a task that has ended as stopped',
      'stopped',
      'auto',
      record('STOPPED', { source: 'ecs/eu/prod' }),
      undefined,
    ],
    ['terminates what is stopped', 'absent', 'auto', record('stopped'), 'terminate'],
    ['terminates what is starting', 'absent', 'auto', record('pending'), 'terminate'],
    ['leaves alone what is gone', 'absent', 'auto', record('terminated'), undefined],
  ] as const;
  it.each(cases)('%s', (_, desired, source, seen, verb) => {
    const plan = planWorker(
      view({ worker: worker({ spec: { desired, source } }), observation: sees(...(seen === undefined ? [] : [seen])) }),
    );
    expect(plan.command?.verb).toBe(verb);
  });

  it('provisions for a spec with arguments for it, and hands them over', () => {
    const plan = planWorker(view({ worker: worker({ spec: { args: { provision: ['--spot'] } } }) }));
    expect(plan.command).toEqual({ verb: 'provision', args: ['--spot'], token: 'cr:uid-w1:1:1:provision' });
  });

  it('starts a Worker of which nothing is known but its name', () => {
    expect(planWorker(view()).command?.verb).toBe('start');
  });
});

describe('a command', () => {
  it('is written down before it is submitted, with a token of worker, generation, attempt and verb', () => {
    const plan = planWorker(view({ observation: sees(record('stopped')) }));
    expect(plan.status?.lastCommand).toMatchObject({ verb: 'start', attempt: 1, token: 'cr:uid-w1:1:1:start' });
    expect(plan.status).toMatchObject({ attempts: 1, phase: 'Starting' });
    expect(plan.command?.token).toBe('cr:uid-w1:1:1:start');
    expect(plan.events).toMatchObject([{ type: 'Normal', reason: 'Starting' }]);
  });

  it('that nobody accepted is submitted again with its token, after a write that changes nothing, and untold', () => {
    const told = new Told(worker({}));
    const first = told.plan({ sees: [record('stopped')] });
    const again = told.plan({ sees: [record('stopped')] });
    expect(again).toMatchObject({ status: first.status, events: [], command: first.command });
  });

  it('that nobody accepted counts as failed once its token may be forgotten', () => {
    const told = new Told(worker({}));
    told.plan({ sees: [record('stopped')] });
    const late = told.after(20 * 60 * MINUTE + 1).plan({ sees: [record('stopped')] });
    expect(late.command).toBeUndefined();
    expect(told.status).toMatchObject({ failures: 1, lastCommand: { outcome: 'lost' } });
    expect(told.after(MINUTE).plan({ sees: [record('stopped')] }).command?.token).toBe('cr:uid-w1:1:2:start');
  });

  it('that nobody accepted is replaced when another is needed by now', () => {
    const told = new Told(worker({}));
    told.plan({ sees: [record('stopped')] });
    const plan = told.change({ desired: 'absent' }).plan({ sees: [record('stopped')] });
    expect(plan.command?.token).toBe('cr:uid-w1:2:2:terminate');
  });

  it('keeps everything else away while it waits or runs', () => {
    const told = new Told(worker({}));
    told.plan({ sees: [record('stopped')] });
    for (const state of ['queued', 'running'] as const) {
      const plan = told
        .change({ desired: 'absent' })
        .plan({ sees: [record('stopped')], execution: { state, id: 'e1' } });
      expect(plan.command).toBeUndefined();
    }
    expect(told.status.lastCommand?.execution).toBe('e1');
    expect(told.status.phase).toBe('Starting');
  });

  it('is followed by no other before a poll that began after its end', () => {
    const told = new Told(worker({}));
    told.plan({ sees: [record('stopped')] });
    const execution = ended('failed', NOW_MS + 1_000);
    expect(told.after(2_000).plan({ sees: [record('stopped')], execution, pollAgeMs: 1_500 }).command).toBeUndefined();
    expect(told.after(2_000).plan({ sees: [record('stopped')], execution }).command?.token).toBe('cr:uid-w1:1:2:start');
  });

  it('that succeeded is believed for two minutes, then counted as failed and given again', () => {
    const told = new Told(worker({}));
    told.plan({ sees: [record('stopped')] });
    const execution = ended('succeeded', NOW_MS);
    for (let minute = 0; minute < 2; minute += 0.5)
      expect(told.after(MINUTE / 2 - 1).plan({ sees: [record('stopped')], execution }).command).toBeUndefined();
    const missed = told.after(MINUTE).plan({ sees: [record('stopped')], execution });
    expect(missed.events).toMatchObject([{ type: 'Warning', reason: 'CommandFailed' }]);
    expect(told.status).toMatchObject({ failures: 1, lastCommand: { outcome: 'succeeded', effect: 'missing' } });
    expect(told.after(1_000).plan({ sees: [record('stopped')], execution }).command?.token).toBe('cr:uid-w1:1:2:start');
  });

  it('whose effect is seen makes the worker ready, and the failures are forgotten', () => {
    const told = new Told(worker({}));
    told.plan({ sees: [record('stopped')] });
    told.after(1_000).plan({ sees: [record('stopped')], execution: ended('failed', NOW_MS + 1) });
    told.after(1_000).plan({ sees: [record('stopped')], execution: ended('failed', NOW_MS + 1) });
    expect(told.status).toMatchObject({ failures: 1, attempts: 2 });
    const plan = told.after(5_000).plan({ sees: [record('running')], execution: ended('succeeded', NOW_MS + 3_000) });
    expect(plan.status).toMatchObject({
      failures: 0,
      phase: 'Running',
      wasReady: true,
      lastCommand: { effect: 'seen' },
    });
    expect(plan.status?.backoffUntil).toBeUndefined();
    expect(condition(plan, 'Ready')).toMatchObject({ status: 'True', lastTransitionTime: iso(NOW_MS + 7_000) });
    expect(plan.events).toMatchObject([{ reason: 'Ready' }]);
  });

  it('that fell from pending to gone counts as failed', () => {
    const told = new Told(worker({ spec: { source: 'ec2' } }));
    told.plan();
    const execution = ended('succeeded', NOW_MS);
    told.after(10_000).plan({ sees: [record('pending')], execution });
    expect(told.status.phase).toBe('Starting');
    told.after(3 * MINUTE).plan({ sees: [record('terminated')], execution });
    expect(told.status.failures).toBe(1);
  });
});

describe('doubt about a machine', () => {
  it.each(['failed', 'killed', 'timed-out'] as const)(
    'makes no second one before a poll that began a minute after a provision that %s',
    (outcome) => {
      const told = new Told(worker({ spec: { source: 'ec2' } }));
      told.plan();
      const execution = ended(outcome, NOW_MS);
      expect(told.after(59_000).plan({ execution }).command).toBeUndefined();
      expect(told.after(2_000).plan({ execution, pollAgeMs: 1_500 }).command).toBeUndefined();
      expect(told.after(2_000).plan({ execution }).command?.token).toBe('cr:uid-w1:1:2:provision');
    },
  );

  const old = (state: string) => record(state, { id: 'i-1', launch_time: iso(NOW_MS - 60 * MINUTE) });
  const made = (state: string) => record(state, { id: 'i-2', launch_time: iso(NOW_MS + 1_000) });

  it('is over when the very machine that a provision made is named as gone: another is made at once', () => {
    const told = new Told(worker({ spec: { source: 'ec2' } }));
    told.plan({ sees: [old('terminated')] });
    const execution = ended('succeeded', NOW_MS + 3_000);
    told.after(5_000).plan({ sees: [made('running'), old('terminated')], execution });
    expect(told.status).toMatchObject({ phase: 'Running', lastCommand: { effect: 'seen' } });
    const plan = told.after(5_000).plan({ sees: [made('terminated'), old('terminated')], execution });
    expect(plan.command?.token).toBe('cr:uid-w1:1:2:provision');
    expect(plan.status?.failures).toBe(0);
  });

  it('is over when that machine ended before any poll saw it run, and then its provision counts as failed', () => {
    const told = new Told(worker({ spec: { source: 'ec2' } }));
    told.plan();
    const execution = ended('succeeded', NOW_MS + 3_000);
    const plan = told.after(5_000).plan({ sees: [made('terminated')], execution });
    expect(plan.status).toMatchObject({ failures: 1, lastCommand: { effect: 'missing' } });
    expect(told.after(1_000).plan({ sees: [made('terminated')], execution }).command?.verb).toBe('provision');
  });

  it.each([
    ['an older one is named as gone, even one that an old answer showed alive again', () => [old('terminated')]],
    [
      'the one that was made is only not listed',
      () => [{ ...made('running'), gone_at: iso(NOW_MS) }, old('terminated')],
    ],
  ])('is not over when %s', (_, shown) => {
    const told = new Told(worker({ spec: { source: 'ec2' } }));
    told.plan({ sees: [old('terminated')] });
    const execution = ended('succeeded', NOW_MS + 1_000);
    told.after(5_000).plan({ sees: [old('running')], execution });
    expect(told.after(5_000).plan({ sees: shown(), execution }).command).toBeUndefined();
    expect(told.after(49_000).plan({ sees: shown(), execution }).command).toBeUndefined();
    expect(told.after(3_000).plan({ sees: shown(), execution }).command?.token).toBe('cr:uid-w1:1:2:provision');
  });

  it('starts what a provision has made without starting it', () => {
    const told = new Told(worker({ spec: { source: 'ec2' } }));
    told.plan();
    const execution = ended('succeeded', NOW_MS);
    expect(told.after(5_000).plan({ sees: [record('stopped')], execution }).command?.verb).toBe('start');
  });

  it('waits a minute longer for what the script of a lost runner may still do', () => {
    const told = new Told(worker({ spec: { source: 'ec2' } }));
    told.plan();
    const execution = ended('lost', NOW_MS);
    expect(told.after(119_000).plan({ execution }).command).toBeUndefined();
    expect(told.after(2_000).plan({ execution }).command?.verb).toBe('provision');
  });

  it('keeps a deleted Worker until its lost machine would have shown itself', () => {
    const told = new Told(worker({ spec: { source: 'ec2' } }));
    told.plan();
    told.worker.metadata.deletionTimestamp = iso(NOW_MS);
    const execution = ended('lost', NOW_MS);
    expect(told.after(119_000).plan({ execution }).finalized).toBeUndefined();
    expect(told.after(2_000).plan({ execution }).finalized).toBe(true);
  });

  it('does not hold up what somebody wants to be done to the machine that is there', () => {
    const told = new Told(worker({}));
    told.plan({ sees: [record('stopped')] });
    const execution = ended('succeeded', NOW_MS);
    expect(told.after(5_000).plan({ sees: [record('stopped')], execution }).command).toBeUndefined();
    const plan = told.change({ desired: 'absent' }).plan({ sees: [record('stopped')], execution });
    expect(plan.command?.verb).toBe('terminate');
  });

  it('takes one fresh poll for a lost stop, as nothing is made by it', () => {
    const told = new Told(worker({ spec: { desired: 'stopped' } }));
    told.plan({ sees: [record('running')] });
    const plan = told.after(1_000).plan({ sees: [record('running')], execution: ended('lost', NOW_MS + 1) });
    expect(plan.command).toBeUndefined();
    expect(
      told.after(1_000).plan({ sees: [record('running')], execution: ended('lost', NOW_MS + 1) }).command?.verb,
    ).toBe('stop');
  });

  it('does not take a list from the past for the end of a machine that was just seen', () => {
    const told = new Told(worker({ spec: { source: 'ec2' } }));
    told.plan();
    const execution = ended('succeeded', NOW_MS);
    told.after(5_000).plan({ sees: [record('running')], execution });
    const tombstone = record('running', { gone_at: iso(NOW_MS) });
    expect(told.after(20_000).plan({ sees: [tombstone], execution }).command).toBeUndefined();
    expect(told.after(40_000).plan({ sees: [tombstone], execution }).command?.verb).toBe('provision');
  });

  it('finalizes only what its source names as gone, or has not listed for a minute', () => {
    const told = new Told(worker({ metadata: { deletionTimestamp: iso(NOW_MS) } }));
    told.plan({ sees: [record('running')] });
    const execution = ended('succeeded', NOW_MS + 1_000);
    told.after(5_000);
    expect(told.plan({ execution }).finalized).toBeUndefined();
    expect(told.plan({ execution, sees: [record('terminated', { id: 'i-0' })] }).finalized).toBeUndefined();
    expect(told.plan({ execution, sees: [record('terminated')] }).finalized).toBe(true);
    expect(told.after(MINUTE).plan({ execution }).finalized).toBe(true);
  });

  it('waits as long after the commands of others', () => {
    const plan = (pollAgeMs: number) =>
      planWorker(
        view({
          worker: worker({ spec: { source: 'ec2' } }),
          observation: { workers: [], fresh: true, polledAtMs: NOW_MS - pollAgeMs },
          othersEndedAtMs: NOW_MS - 61_000,
        }),
      );
    expect(plan(2_000).command).toBeUndefined();
    expect(plan(500).command?.verb).toBe('provision');
  });
});

describe('nothing is done', () => {
  const stopped = [record('stopped')];
  const cases = [
    [
      'when its source was never seen',
      { observation: { workers: stopped, fresh: false, polledAtMs: undefined } },
      'NotYetObserved',
    ],
    ['when its source is stale', { observation: { workers: stopped, fresh: false, polledAtMs: 1 } }, 'Stale'],
    ['when its record is stale', { observation: sees(record('stopped', { stale: true })) }, 'Stale'],
    ['when its state is unknown', { observation: sees(scriptRecord('on fire')) }, 'UnknownState'],
  ] as const;
  it.each(cases)('%s, and the condition Observed says why', (_, over, reason) => {
    const plan = planWorker(view(over));
    expect(plan.command).toBeUndefined();
    expect(condition(plan, 'Observed')).toMatchObject({ status: 'False', reason });
    expect(condition(plan, 'Ready')?.status).toBe('Unknown');
    expect(plan.status?.phase).toBe('Unknown');
  });

  it('while it is paused, by itself or with its pool; not even what was written down is submitted', () => {
    const told = new Told(worker({}));
    told.plan({ sees: stopped });
    const paused = told.change({ paused: true }).plan({ sees: stopped });
    expect(paused.command).toBeUndefined();
    expect(condition(paused, 'Synced')).toMatchObject({ status: 'False', reason: 'Paused' });
    expect(planWorker(view({ observation: sees(...stopped), poolPaused: true })).command).toBeUndefined();
  });

  it('to a paused Worker that is being deleted, until it is orphaned', () => {
    const deleted = worker({ spec: { paused: true }, metadata: { deletionTimestamp: iso(NOW_MS) } });
    expect(planWorker(view({ worker: deleted, observation: sees(record('running')) })).command).toBeUndefined();
    deleted.metadata.finalizers = [];
    expect(planWorker(view({ worker: deleted, observation: sees(record('running')) }))).toMatchObject({
      finalized: true,
    });
  });

  it("while somebody's command is at work", () => {
    const plan = planWorker(view({ observation: sees(...stopped), busy: true }));
    expect(plan.command).toBeUndefined();
    expect(condition(plan, 'Synced')?.reason).toBe('Busy');
  });

  it('with an invalid schedule', () => {
    const schedule = { timeZone: 'Mars/Olympus', windows: [{ start: '0 8 * * *', duration: '1h' }] };
    const plan = planWorker(view({ worker: worker({ spec: { schedule } }), observation: sees(record('running')) }));
    expect(plan.command).toBeUndefined();
    expect(condition(plan, 'Synced')?.message).toContain('Mars/Olympus');
  });

  it.each([
    ['running', record],
    ['absent', scriptRecord],
  ] as const)('the second time, when nothing has changed and it is %s as wanted', (desired, recordOf) => {
    const told = new Told(worker({ spec: { desired } }));
    told.plan({ sees: [recordOf(desired)] });
    const again = told
      .after(MINUTE)
      .plan({ sees: [recordOf(desired, { observed_at: iso(NOW_MS + MINUTE), version: 9 })] });
    expect(again).toEqual({ status: undefined, events: [], summary: expect.any(String) });
  });
});

describe('failures', () => {
  it('are tried again ever later, and given up after maxRetries until the spec changes', () => {
    const told = new Told(worker({ spec: { maxRetries: 2 } }));
    const waits: number[] = [];
    for (let attempt = 1; attempt <= 3; attempt += 1) {
      expect(told.plan({ sees: [record('stopped')] }).command?.token).toBe(`cr:uid-w1:1:${attempt}:start`);
      const execution = ended('failed', told.nowMs + 1);
      const plan = told.after(10).plan({ sees: [record('stopped')], execution, pollAgeMs: 1 });
      if (plan.requeueAfterMs !== undefined) waits.push(plan.requeueAfterMs);
      told.after(10 * MINUTE);
    }
    expect(waits).toEqual([125, 250]);
    expect(told.last?.events).toMatchObject([{ reason: 'CommandFailed' }, { reason: 'GaveUp' }]);
    expect(told.status.phase).toBe('Failed');
    expect(told.plan({ sees: [record('stopped')] }).command).toBeUndefined();
    expect(told.change({ maxRetries: 3 }).plan({ sees: [record('stopped')] }).command?.token).toBe(
      'cr:uid-w1:2:4:start',
    );
    expect(told.status).toMatchObject({ failures: 0, observedGeneration: 2 });
  });

  it('by a stop that a spot instance cannot do is told at once, with what to do, and the machine is not terminated', () => {
    const spot = record('running', { lifecycle: 'spot' });
    const told = new Told(worker({ spec: { desired: 'stopped' } }));
    told.plan({ sees: [spot] });
    expect(told.last?.command?.verb).toBe('stop');
    told.after(60 * MINUTE).plan({ sees: [spot], execution: ended('failed', NOW_MS, 64) });
    expect(told.last?.command).toBeUndefined();
    expect(told.status).toMatchObject({ phase: 'Failed', failures: 1 });
    const synced = told.status.conditions.find(({ type }) => type === 'Synced');
    expect(synced).toMatchObject({ status: 'False', reason: 'CannotStop' });
    expect(synced?.message).toMatch(/`desired: absent`.*persistent spot request/);
    expect(told.last?.events).toContainEqual({ type: 'Warning', reason: 'GaveUp', message: synced?.message });
    expect(told.after(24 * 60 * MINUTE).plan({ sees: [spot] }).command).toBeUndefined();
    expect(told.change({ desired: 'absent' }).plan({ sees: [spot] }).command?.verb).toBe('terminate');
  });

  it.each([
    ['a rejected command', ended('rejected', NOW_MS)],
    ['a wrong use (exit code 64)', ended('failed', NOW_MS, 64)],
  ])('by %s are never retried in the same generation', (_, execution) => {
    const told = new Told(worker({}));
    told.plan({ sees: [record('stopped')] });
    told.after(60 * MINUTE).plan({ sees: [record('stopped')], execution });
    expect(told.last?.command).toBeUndefined();
    expect(told.status.phase).toBe('Failed');
    expect(told.change({ maxRetries: 1 }).plan({ sees: [record('stopped')], execution }).command?.verb).toBe('start');
  });

  it('at starting keep nobody from terminating', () => {
    const told = new Told(worker({ spec: { maxRetries: 0 } }));
    told.plan({ sees: [record('stopped')] });
    told.after(MINUTE).plan({ sees: [record('stopped')], execution: ended('failed', NOW_MS) });
    expect(told.status.phase).toBe('Failed');
    told.worker.metadata.deletionTimestamp = iso(NOW_MS);
    expect(told.plan({ sees: [record('stopped')], execution: ended('failed', NOW_MS) }).command?.verb).toBe(
      'terminate',
    );
    expect(told.status).toMatchObject({ failures: 0, phase: 'Terminating' });
  });

  it('are forgotten when it comes to run by other hands', () => {
    const told = new Told(worker({ spec: { maxRetries: 0 } }));
    told.plan({ sees: [record('stopped')] });
    const execution = ended('failed', NOW_MS);
    told.after(MINUTE).plan({ sees: [record('stopped')], execution });
    told.after(MINUTE).plan({ sees: [record('running')], execution });
    expect(told.status).toMatchObject({ failures: 0, phase: 'Running' });
    expect(told.after(MINUTE).plan({ sees: [record('stopped')], execution }).command?.verb).toBe('start');
  });
});

describe('a machine that ran and is down', () => {
  it('is told of once, with what its source says of it, even if that was silent in between', () => {
    const told = new Told(worker({ spec: { source: 'ec2' } }));
    told.plan({ sees: [record('running')] });
    const unheard = { workers: [record('running')], fresh: false, polledAtMs: NOW_MS };
    expect(told.after(MINUTE).plan({ observation: unheard }).events).toEqual([]);
    const gone = [record('terminated', { reason: 'Server.SpotInstanceTermination' })];
    expect(told.after(MINUTE).plan({ sees: gone }).events).toMatchObject([
      {
        ...{ type: 'Warning', reason: 'NotRunning' },
        message: expect.stringMatching(/i-1 is terminated: Server.SpotInstanceTermination/),
      },
      { reason: 'Provisioning' },
    ]);
    const again = told.after(MINUTE).plan({ sees: gone, execution: ended('failed', told.nowMs - 1_000) });
    expect(again.events.map(({ reason }) => reason)).not.toContain('NotRunning');
  });

  it('is not told of when it was stopped on purpose', () => {
    const told = new Told(worker({}));
    told.plan({ sees: [record('running')] });
    told.change({ desired: 'stopped' }).plan({ sees: [record('running')] });
    const execution = ended('succeeded', NOW_MS + 1_000);
    const plan = told.after(2_000).plan({ sees: [record('stopped')], execution });
    expect(plan.events).toEqual([]);
  });
});

describe('halted repair', () => {
  const ready = () => {
    const told = new Told(worker({}));
    told.plan({ sees: [record('running')] });
    return told.after(MINUTE);
  };

  it('leaves what was ready as it is, and says so', () => {
    const plan = ready().plan({ sees: [record('stopped')], halted: 'too many' });
    expect(plan.command).toBeUndefined();
    expect(condition(plan, 'Halted')).toMatchObject({ status: 'True', message: 'too many' });
    expect(plan.events.map(({ reason }) => reason)).toEqual(['NotRunning', 'RepairHalted']);
  });

  it('goes on when it is over', () => {
    const told = ready();
    told.plan({ sees: [record('stopped')], halted: 'too many' });
    const plan = told.plan({ sees: [record('stopped')] });
    expect(plan.command?.verb).toBe('start');
    expect(condition(plan, 'Halted')?.status).toBe('False');
  });

  it('does not hold up a touched spec, a stop, a deletion or what never was ready', () => {
    expect(
      ready()
        .change({ maxRetries: 3 })
        .plan({ sees: [record('stopped')], halted: 'x' }).command?.verb,
    ).toBe('start');
    expect(
      ready()
        .change({ desired: 'stopped' })
        .plan({ sees: [record('running')], halted: 'x' }).command?.verb,
    ).toBe('stop');
    expect(new Told(worker({})).plan({ sees: [record('stopped')], halted: 'x' }).command?.verb).toBe('start');
    const told = ready();
    told.worker.metadata.deletionTimestamp = iso(NOW_MS);
    expect(told.plan({ sees: [record('stopped')], halted: 'x' }).command?.verb).toBe('terminate');
  });

  it('does not submit a repair that was only written down', () => {
    const told = ready();
    told.plan({ sees: [record('stopped')] });
    expect(told.plan({ sees: [record('stopped')], halted: 'x' }).command).toBeUndefined();
  });
});

describe('deletion', () => {
  const deleted = () => worker({ metadata: { deletionTimestamp: iso(NOW_MS) } });

  it('terminates first, and is done when the machine is gone', () => {
    const told = new Told(deleted());
    expect(told.plan({ sees: [record('running')] }).command?.verb).toBe('terminate');
    const execution = ended('succeeded', NOW_MS);
    expect(told.after(1_000).plan({ sees: [record('shutting-down')], execution })).toMatchObject({
      status: { phase: 'Terminating' },
    });
    expect(told.after(1_000).plan({ sees: [record('terminated')], execution })).toEqual({
      status: undefined,
      finalized: true,
      events: [],
      summary: 'Its machine is gone.',
    });
  });

  it('waits for a command of somebody else that could make a machine', () => {
    const plan = planWorker(view({ worker: deleted(), busy: true, observation: sees(record('terminated')) }));
    expect(plan.finalized).toBeUndefined();
  });

  it('waits for what was written down a moment before, and may still arrive', () => {
    const told = new Told(worker({ spec: { source: 'ec2' } }));
    told.plan();
    told.worker.metadata.deletionTimestamp = iso(NOW_MS);
    expect(told.after(59_000).plan().finalized).toBeUndefined();
    expect(told.after(2_000).plan().finalized).toBe(true);
  });

  it('is never done on a view that is not fresh', () => {
    const plan = planWorker(view({ worker: deleted(), observation: { workers: [], fresh: false, polledAtMs: 1 } }));
    expect(plan.finalized).toBeUndefined();
  });
});

describe('several machines', () => {
  const both = [record('running', { id: 'i-2' }), record('running', { id: 'i-1' })];

  it('are flagged and told once, and none is ended', () => {
    const told = new Told(worker({}));
    const plan = told.plan({ sees: both });
    expect(plan.command).toBeUndefined();
    expect(condition(plan, 'Duplicate')).toMatchObject({
      status: 'True',
      message: expect.stringContaining('i-1, i-2'),
    });
    expect(plan.events.map((event) => event.reason)).toContain('DuplicateMachines');
    expect(told.plan({ sees: both }).events).toEqual([]);
    expect(condition(told.plan({ sees: both.slice(0, 1) }), 'Duplicate')?.status).toBe('False');
  });

  it('mean the newest that runs', () => {
    const plan = planWorker(view({ observation: sees(record('stopped', { id: 'i-3' }), ...both) }));
    expect(plan.status?.workerId).toBe('i-2');
    expect(plan.command).toBeUndefined();
  });

  it('do not count when they are on their way out', () => {
    const plan = planWorker(view({ observation: sees(record('running', { id: 'i-2' }), record('shutting-down')) }));
    expect(condition(plan, 'Duplicate')).toBeUndefined();
  });

  it('keep anything from being started beside one of unknown state', () => {
    const plan = planWorker(view({ observation: sees(record('stopped', { id: 'i-2' }), record('rebooting')) }));
    expect(plan.command).toBeUndefined();
  });
});

describe('an interruption', () => {
  const interruption = { kind: 'spot' as const, at: iso(NOW_MS + 2 * MINUTE), detail: 'EC2 takes it back' };

  it('is only told while the machine is there; once it is gone another is made at once', () => {
    const told = new Told(worker({}));
    told.plan({ sees: [record('running')] });
    const plan = told.plan({ sees: [record('running', { interruption })] });
    expect(plan.command).toBeUndefined();
    expect(condition(plan, 'Interrupted')).toMatchObject({ status: 'True', reason: 'SpotInterruption' });
    const gone = told.after(2 * MINUTE).plan({ sees: [record('terminated', { interruption })] });
    expect(gone.command?.verb).toBe('provision');
    expect(condition(gone, 'Interrupted')?.status).toBe('False');
  });
});

describe('idleness', () => {
  const idle = record('running', { idle_seconds: 1_000 });
  const idler = () => worker({ spec: { idleStopAfter: '15m' } });
  /** Stopped for idleness, and seen stopped. */
  const asleep = (from = idler()) => {
    const told = new Told(from);
    told.plan({ sees: [idle] });
    told.after(30_000).plan({ sees: [record('stopped')], execution: ended('succeeded', NOW_MS + 1_000) });
    return told;
  };

  it('asks for more than idleness only where it is about that', () => {
    const plan = planWorker(view({ worker: worker({ spec: { desired: 'stopped' } }), observation: sees(idle) }));
    expect(plan.command).toEqual({ verb: 'stop', args: [], token: 'cr:uid-w1:1:1:stop' });
  });

  it('lets go of a stop that was not accepted because somebody came first', () => {
    const told = new Told(idler());
    told.plan({ sees: [idle] });
    const plan = planWorker(view({ worker: told.worker, observation: sees(idle), busy: true }));
    expect(plan.command).toBeUndefined();
    expect(condition(plan, 'IdleStopped')).toMatchObject({ status: 'False', reason: 'RunningAgain' });
  });

  it('stops what has reported it for long enough', () => {
    const plan = planWorker(view({ worker: idler(), observation: sees(idle) }));
    expect(plan.command).toMatchObject({ verb: 'stop', onlyIfIdle: true });
    expect(condition(plan, 'IdleStopped')).toMatchObject({ status: 'True', lastTransitionTime: iso(NOW_MS) });
    expect(plan.status?.wasReady).toBeUndefined();
  });

  it.each([
    ['is not idle for so long', { observation: sees(record('running', { idle_seconds: 899 })) }],
    ['says nothing of it', { observation: sees(record('running')) }],
    ['has work', { observation: sees(idle), busy: true }],
    ['was not seen since its last work', { observation: sees(idle), othersEndedAtMs: NOW_MS - 500 }],
    ['is needed by its pool', { observation: sees(idle), keepReady: 'needed' }],
    ['is not freshly seen', { observation: { workers: [idle], fresh: false, polledAtMs: 1 } }],
  ])('stops nothing that %s', (_, over) => {
    const plan = planWorker(view({ worker: idler(), ...over }));
    expect(plan.command).toBeUndefined();
    expect(condition(plan, 'IdleStopped')).toBeUndefined();
  });

  it('is looked at again when it can be enough', () => {
    const observation = sees(record('running', { idle_seconds: 890 }));
    expect(planWorker(view({ worker: idler(), observation })).requeueAfterMs).toBe(10_000);
  });

  it('does not stop what got work before the stop was submitted', () => {
    const told = new Told(idler());
    told.plan({ sees: [idle] });
    const plan = told.plan({ sees: [idle], busy: true });
    expect(plan.command).toBeUndefined();
    expect(condition(plan, 'IdleStopped')).toMatchObject({ status: 'False', reason: 'RunningAgain' });
    expect(told.plan({ sees: [record('running', { idle_seconds: 1 })] }).command).toBeUndefined();
  });

  it('keeps it stopped, whoever plans next', () => {
    const told = asleep();
    expect(told.status.phase).toBe('Stopped');
    expect(
      told.after(60 * MINUTE).plan({ sees: [record('stopped')], execution: ended('succeeded', NOW_MS + 1_000) }),
    ).toMatchObject({ status: undefined });
    expect(told.last?.command).toBeUndefined();
  });

  it('does not take an old answer for a start by hand', () => {
    const told = asleep();
    const execution = ended('succeeded', NOW_MS + 1_000);
    expect(told.after(5_000).plan({ sees: [record('running')], execution }).command).toBeUndefined();
    expect(told.after(5_000).plan({ sees: [record('stopped')], execution }).command).toBeUndefined();
  });

  it('ends when somebody starts it', () => {
    const told = asleep();
    const plan = told
      .after(5 * MINUTE)
      .plan({ sees: [record('running', { idle_seconds: 2 })], execution: ended('succeeded', NOW_MS + 1_000) });
    expect(plan.command).toBeUndefined();
    expect(condition(plan, 'IdleStopped')).toMatchObject({ status: 'False', reason: 'RunningAgain' });
    expect(
      told.after(MINUTE).plan({ sees: [record('stopped')], execution: ended('succeeded', NOW_MS + 1_000) }).command
        ?.verb,
    ).toBe('start');
  });

  it('ends with a change of the spec', () => {
    expect(
      asleep()
        .change({ maxRetries: 3 })
        .after(MINUTE)
        .plan({ sees: [record('stopped')], execution: ended('succeeded', NOW_MS + 1_000) }).command?.verb,
    ).toBe('start');
  });

  it('ends when a window opens anew', () => {
    const schedule = { timeZone: 'UTC', windows: [{ start: '0 8 * * *', duration: '10h' }] };
    const told = asleep(worker({ spec: { idleStopAfter: '15m', schedule } }));
    const execution = ended('succeeded', NOW_MS + 1_000);
    expect(told.after(60 * MINUTE).plan({ sees: [record('stopped')], execution }).command).toBeUndefined();
    const morning = told.after(19 * 60 * MINUTE).plan({ sees: [record('stopped')], execution });
    expect(morning.command?.verb).toBe('start');
    expect(condition(morning, 'IdleStopped')?.reason).toBe('WindowOpened');
  });

  it('stops it once more when the stop did not work and it is still idle', () => {
    const told = new Told(idler());
    told.plan({ sees: [idle] });
    told.after(MINUTE).plan({ sees: [idle], execution: ended('failed', NOW_MS) });
    const plan = told.after(MINUTE).plan({ sees: [idle], execution: ended('failed', NOW_MS) });
    expect(plan.command?.token ?? told.status.lastCommand?.token).toBe('cr:uid-w1:1:2:stop');
  });
});

describe('a schedule', () => {
  const schedule = { timeZone: 'UTC', windows: [{ start: '0 8 * * 1-5', duration: '10h' }] };
  const nightly = () => worker({ spec: { schedule } });

  it('runs it within its windows and says when they close', () => {
    const plan = planWorker(view({ worker: nightly(), observation: sees(record('stopped')) }));
    expect(plan.command?.verb).toBe('start');
    expect(plan.requeueAfterMs).toBe(6 * 60 * MINUTE);
  });

  it('stops it outside', () => {
    const nowMs = NOW_MS + 6 * 60 * MINUTE;
    const observation = { workers: [record('running')], fresh: true, polledAtMs: nowMs - 1 };
    const plan = planWorker(view({ worker: nightly(), nowMs, observation }));
    expect(plan.command?.verb).toBe('stop');
    expect(plan.requeueAfterMs).toBe(14 * 60 * MINUTE);
  });

  it('does not touch what is to be stopped anyway', () => {
    const stopped = worker({ spec: { schedule, desired: 'stopped' } });
    expect(planWorker(view({ worker: stopped, observation: sees(record('stopped')) })).command).toBeUndefined();
  });
});

it('keeps the time of a condition while only its message changes', () => {
  const told = new Told(worker({}));
  told.plan({ sees: [record('stopped')] });
  const plan = told.after(5_000).plan({ sees: [record('stopped')], execution: { state: 'queued', id: 'e1' } });
  expect(condition(plan, 'Synced')).toMatchObject({ reason: 'CommandRunning', lastTransitionTime: iso(NOW_MS) });
});

it('forgets the execution that Redis has lost', () => {
  const told = new Told(worker({}));
  told.plan({ sees: [record('stopped')] });
  told.plan({ sees: [record('stopped')], execution: { state: 'running', id: 'e1' } });
  told.after(1_000).plan({ sees: [record('stopped')] });
  expect(told.status.lastCommand).toMatchObject({ execution: 'e1', outcome: 'lost' });
});

it('reads a status that was written by an older generation of the same Worker', () => {
  const status = {
    observedGeneration: 1,
    phase: 'Failed' as const,
    conditions: [],
    target: 'w1',
    attempts: 4,
    failures: 4,
    lastCommand: given({ verb: 'start', outcome: 'failed', exitCode: 64, endedAt: iso(NOW_MS - MINUTE) }),
  };
  const plan = planWorker(
    view({ worker: worker({ status, metadata: { generation: 2 } }), observation: sees(record('stopped')) }),
  );
  expect(plan.command?.token).toBe('cr:uid-w1:2:5:start');
});
