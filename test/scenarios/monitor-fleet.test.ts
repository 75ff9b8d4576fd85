/** Monitors that keep pretend workers as their owners asked, whatever is done to the workers and to the monitors (S1, S2). */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { doubled, type TestFleet, fleetOf } from '../support/fleet.js';
import { Installation } from '../support/installation.js';
import { type Program, WORKSPACE } from '../support/programs.js';
import { until } from '../support/until.js';

/** From the death of a leader until another one leads. */
const FAILOVER_MS = 5_000;
/** The same when it ends by itself. */
const HANDOVER_MS = 250;

async function startFleet(monitors: number): Promise<{ it: Installation; fleet: TestFleet }> {
  const it = await Installation.start({
    ...{ gateways: 1, runners: 1, monitors },
    script: join(WORKSPACE, 'test/fixtures/fleet-worker.sh'),
    scriptEnv: { MOCK_WORKER_SPEED: '0' },
  });
  return { it, fleet: fleetOf(it.redis) };
}

/** The program of the monitor that leads. */
async function leaderOf(it: Installation, fleet: TestFleet, butNot?: Program): Promise<Program> {
  return until('a monitor to lead', async () => {
    const leader = await fleet.leader();
    return it.monitors.find((program) => program.name === leader?.monitor && program !== butNot);
  });
}

/** When somebody took the lead or gave it back, by the channel that says so. */
async function watchLeaders(
  it: Installation,
  fleet: TestFleet,
): Promise<{ atMs: number; fence: number | undefined }[]> {
  const notices: { atMs: number; fence: number | undefined }[] = [];
  const subscriber = it.redis.client();
  subscriber.on('smessage', (_channel: string, message: string) =>
    notices.push({ atMs: performance.now(), fence: message === '' ? undefined : Number(message) }),
  );
  await subscriber.ssubscribe(fleet.keys.leaderChannel());
  return notices;
}

/** What the scripts themselves testify: every run of a verb that changes something. */
async function testimony(it: Installation): Promise<{ verb: string; target: string; token: string }[]> {
  const text = await readFile(join(it.folder, 'commands'), 'utf8');
  return text
    .trim()
    .split('\n')
    .map((line) => {
      const [verb = '', target = '', token = ''] = line.split(' ');
      return { verb, target, token };
    });
}

/** Starts a worker past all control. */
async function startedByHand({ folder }: Installation, target: string): Promise<void> {
  const env = { PATH: process.env['PATH'], MOCK_WORKER_SPEED: '0', MOCK_WORKER_STATE_DIR: join(folder, 'mock-worker') };
  const script = join(WORKSPACE, 'scripts/mock-worker.sh');
  await promisify(execFile)('bash', [script, 'start'], { env: { ...env, CARRIERARR_TARGET: target } });
}

const named = (pool: string, count: number) => Array.from({ length: count }, (_, n) => `${pool}-${n}`);

test('workers come up as declared, and one that is stopped by hand is started again', async () => {
  const { it, fleet } = await startFleet(1);
  const names = ['w1', 'w2', 'w3', 'w4', 'w5'];
  for (const name of names) await fleet.worker(name);
  await fleet.settled(names, 'Running');
  const client = await it.newClient('somebody', { targets: '*' });
  const { execution } = await client.submit('w3', 'stop');
  await until('the stop to end', () => client.session.outcomeOf(execution) === 'succeeded');
  await until('it to be started again', async () =>
    (await fleet.executions()).some(
      ({ target, command, subject, id }) =>
        target === 'w3' && command === 'start' && subject === 'system:reconciler' && id > execution,
    ),
  );
  await fleet.settled(names, 'Running');

  const executions = await fleet.executions();
  expect(doubled(executions)).toEqual([]);
  const starts = executions.filter(({ command }) => command === 'start').map(({ target }) => target);
  expect(starts.toSorted()).toEqual(['w1', 'w2', 'w3', 'w3', 'w4', 'w5']);
});

test('when the leader of three is killed in the middle of a roll-out another one finishes it, and no command is given twice', async () => {
  const { it, fleet } = await startFleet(3);
  const names = named('gpu', 6);
  const spec = { replicas: 6, maxUnavailable: 2 };
  // They run already, and are taken over: a machine that was just made would be replaced after a minute at the earliest.
  await Promise.all(names.map((name) => startedByHand(it, name)));
  await fleet.pool('gpu', spec, { args: { provision: ['v1'] } });
  const before = await fleet.settled(names, 'Running');
  const oldHash = before[0]?.metadata.templateHash;
  const notices = await watchLeaders(it, fleet);

  await fleet.pool('gpu', spec, { args: { provision: ['v2'] } });
  await until('the roll-out to be half way', async () => {
    const workers = await fleet.workers();
    const isReplaced = workers.some(({ metadata }) => metadata.templateHash !== oldHash);
    return isReplaced && workers.some(({ metadata }) => metadata.templateHash === oldHash);
  });
  const leader = await leaderOf(it, fleet);
  it.retire(leader);
  const killedMs = performance.now();
  await leader.kill();
  const heir = await leaderOf(it, fleet, leader);
  expect(heir.name).not.toBe(leader.name);
  const taken = await until('the new leader to be announced', () => notices.find(({ fence }) => fence !== undefined));
  expect(taken.atMs - killedMs).toBeLessThan(FAILOVER_MS);

  const after = await until(
    'the roll-out to end',
    async () => {
      const workers = await fleet.workers();
      return workers.length === 6 && workers.every(({ metadata }) => metadata.templateHash !== oldHash) && workers;
    },
    60_000,
  );
  expect(new Set(after.map(({ metadata }) => metadata.templateHash)).size).toBe(1);
  await fleet.settled(names, 'Running');
  const executions = await fleet.executions();
  expect(doubled(executions)).toEqual([]);
  expect(executions.filter(({ outcome }) => outcome !== undefined && outcome !== 'succeeded')).toEqual([]);
  // Each machine was ended and made again, once each.
  const runs = await testimony(it);
  expect(new Set(runs.map(({ token }) => token)).size).toBe(runs.length);
  const targets = (...verbs: string[]) => runs.filter(({ verb }) => verbs.includes(verb)).map(({ target }) => target);
  expect(targets('terminate').toSorted()).toEqual(names);
  expect(targets('provision', 'start').toSorted()).toEqual(names);
});

test('a leader that is told to stop hands over within a quarter of a second', async () => {
  const { it, fleet } = await startFleet(2);
  await fleet.worker('w1');
  await fleet.settled(['w1'], 'Running');
  const notices = await watchLeaders(it, fleet);
  const leader = await leaderOf(it, fleet);
  it.retire(leader);
  expect(await leader.stop()).toMatchObject({ code: 0 });
  const [released, taken] = await until('the handover', () => notices.length >= 2 && notices);
  expect(released?.fence).toBeUndefined();
  expect((taken?.atMs ?? Infinity) - (released?.atMs ?? 0)).toBeLessThan(HANDOVER_MS);
  expect((await fleet.leader())?.fence).toBe(taken?.fence);

  // And the heir leads in earnest.
  await fleet.worker('w2');
  await fleet.settled(['w1', 'w2'], 'Running');
});

test('when Redis freezes the leader stops by itself, and after the thaw one leads and brings the fleet on, each command once', async () => {
  const { it, fleet } = await startFleet(2);
  const names = named('gpu', 4);
  await fleet.pool('gpu', { replicas: 4 });
  // One whose claim is cut off is lost, and then nothing is done for a minute: that is not what this is about.
  await until(
    'the first commands to have ended',
    async () => (await fleet.executions()).filter(({ outcome }) => outcome === 'succeeded').length >= names.length,
  );
  const before = await fleet.leader();
  const leader = await leaderOf(it, fleet);
  it.redis.freeze();
  // Nobody has told it anything: its own clock has.
  await until('the leader to stop by itself', () => leader.output().includes('leads no more'));
  await until('its connection to be given up', () => leader.output().includes('Redis connection'), 20_000);
  it.redis.thaw();
  await fleet.settled(names, 'Running', 60_000);
  const executions = await fleet.executions();
  expect(doubled(executions)).toEqual([]);
  expect((await fleet.leader())?.fence).toBeGreaterThan(before?.fence ?? Infinity);
  const started = executions.filter(({ command, outcome }) => command === 'start' && outcome === 'succeeded');
  expect([...new Set(started.map(({ target }) => target))].toSorted()).toEqual(names);
});
