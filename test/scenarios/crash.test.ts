/** Gateways and runners that die or freeze in the middle of their work (promises O4, C1, C2, C3). */
import { expect, test } from 'vitest';
import { Installation } from '../support/installation.js';
import { isRunning, processesOf } from '../support/processes.js';
import type { Program } from '../support/programs.js';
import { until } from '../support/until.js';
import type { Accepted, NewClient } from '../support/ws-clients.js';

const OUTAGE_GRACE = ['--redis-outage-grace', '5s'];
/** From the death of a runner until the outcome is told. */
const LOST_WITHIN_MS = 15_000;

interface Held extends Accepted {
  target: string;
  runner: Program;
}

/** Long commands on ever more targets, until each runner has one at least. */
async function occupyRunners(it: Installation, client: NewClient, verbs: readonly string[]): Promise<Held[]> {
  const held: Held[] = [];
  for (let n = 1; n < 40; n += 1) {
    const target = `worker-${n}`;
    const accepted = await client.submit(target, verbs[n % verbs.length] ?? 'hold');
    await it.started(accepted.commandId);
    held.push({ ...accepted, target, runner: await it.runnerOf(accepted.execution) });
    const covered = it.runners.every((runner) =>
      verbs.every((verb) =>
        held.some((one, index) => one.runner === runner && verbs[(index + 1) % verbs.length] === verb),
      ),
    );
    if (covered) return held;
  }
  throw new Error('Expected forty commands to reach every runner.');
}

test('when a gateway is killed in the middle of the stream its clients go on at another one without a missing line', async () => {
  const it = await Installation.start();
  const [doomed, other] = [it.gateway(0), it.gateway(1)];
  const moving = await it.newClient('moving', { gateway: doomed, targets: ['worker-1', 'worker-2'] });
  const wide = await it.newClient('moving wide', { gateway: doomed, targets: '*' });
  const still = await it.newClient('still', { gateway: other, targets: '*' });
  const old = await it.oldClient('old', doomed);
  const held = [await moving.submit('worker-1', 'hold', 50, 0.01), await wide.submit('worker-2', 'hold', 3, 0.005)];
  await until(
    'the streams to run',
    () => moving.session.lineCount('worker-1') > 300 && old.session.lineCount('worker-2') > 20,
  );

  old.session.cut();
  it.retire(doomed);
  await doomed.kill();
  const { code } = await old.socket.closed;
  expect(code).toBe(1006);
  const oldAgain = await it.oldClient('old again', other);
  await moving.submit('worker-1', 'write', 77);
  const seen = still.session.lineCount('worker-1');
  await until('more lines', () => still.session.lineCount('worker-1') > seen + 200);
  for (const { commandId } of held) await it.release(commandId);
  await it.verdict('SIGKILL of a gateway');
  expect([moving.connections, wide.connections, still.connections]).toEqual([2, 2, 1]);
  expect(oldAgain.session.lineCount('worker-1')).toBeGreaterThan(77);
});

test('when a runner is killed its commands end as lost, its scripts die, nothing runs twice and the target goes on', async () => {
  const it = await Installation.start({ runnerFlags: OUTAGE_GRACE });
  const client = await it.newClient('client', { targets: '*' });
  const old = await it.oldClient('old', it.gateway(1));
  const held = await occupyRunners(it, client, ['hold', 'fork']);
  const doomed = it.runner(0);
  const [victims, others] = [
    held.filter(({ runner }) => runner === doomed),
    held.filter(({ runner }) => runner !== doomed),
  ];
  for (const { target } of victims) await client.submit(target, 'write', 20);

  it.retire(doomed);
  await doomed.kill();
  const killedMs = Date.now();
  const pids = victims.flatMap(({ execution }) => ({ execution })).map(({ execution }) => execution);
  const journal = await it.journal();
  const processes = pids.flatMap((execution) => processesOf(journal, execution));
  expect(processes.length).toBeGreaterThan(victims.length);
  await until(
    () => `the scripts of the dead runner to end; ${processes.filter(isRunning).join(' ')} live`,
    () => !processes.some(isRunning),
    9_000,
  );
  for (const { execution } of victims) {
    await until(`${execution} to be lost`, () => client.session.outcomeOf(execution) === 'lost', LOST_WITHIN_MS);
  }
  expect(Date.now() - killedMs).toBeLessThan(LOST_WITHIN_MS);
  expect(others.map(({ execution }) => client.session.outcomeOf(execution))).toEqual(others.map(() => undefined));
  for (const { commandId, target } of others) {
    await it.release(commandId);
    client.kill(target);
  }
  await it.verdict('SIGKILL of a runner', { timeoutMs: 40_000 });
  expect(old.socket.isOpen).toBe(true);
});

test('a runner that was frozen past its lease finds its commands lost and its scripts ended, and changes nothing', async () => {
  const it = await Installation.start({ runnerFlags: OUTAGE_GRACE });
  const client = await it.newClient('client', { targets: '*' });
  const held = await occupyRunners(it, client, ['hold']);
  const frozen = it.runner(0);
  const [victims, others] = [
    held.filter(({ runner }) => runner === frozen),
    held.filter(({ runner }) => runner !== frozen),
  ];
  const later: Accepted[] = [];
  for (const { target } of victims) later.push(await client.submit(target, 'write', 20));

  frozen.freeze();
  const journal = await it.journal();
  const processes = victims.flatMap(({ execution }) => processesOf(journal, execution));
  await until('the watchdog to end the scripts', () => !processes.some(isRunning), 12_000);
  for (const { execution } of victims) {
    await until(`${execution} to be lost`, () => client.session.outcomeOf(execution) === 'lost', LOST_WITHIN_MS);
  }
  for (const { commandId } of later) await it.started(commandId, 30_000);
  frozen.thaw();
  for (const { commandId } of others) await it.release(commandId);
  await until('the woken runner to be ready', async () => (await fetch(`${frozen.url}/ready`)).ok);
  for (const { target } of held) await client.submit(target, 'write', 30);
  await it.verdict('SIGSTOP of a runner');
  expect(victims.map(({ execution }) => client.session.outcomeOf(execution))).toEqual(victims.map(() => 'lost'));
  expect(frozen.hasEnded).toBe(false);
});
