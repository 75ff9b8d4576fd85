/** Promise P1 over versions: the previous release and this one run side by side under load, in any order, and nothing is lost. */
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { Installation } from '../support/installation.js';
import { previousRelease, previousReleaseMissing } from '../support/previous-release.js';
import { type Program, type Release, WORKSPACE } from '../support/programs.js';
import { until } from '../support/until.js';

const TARGETS = ['worker-1', 'worker-2', 'worker-3'];
/** A worker that its owner wants to run. */
const KEPT = 'kept';
const BUILD_MS = 5 * 60_000;
/** On a busy machine. */
const SLOW_MS = 30_000;
const ROLES = ['gateway', 'runner', 'monitor'] as const;
type Role = (typeof ROLES)[number];

let previous: Release;
beforeAll(async () => {
  if (previousReleaseMissing === undefined) previous = await previousRelease();
}, BUILD_MS);

/** One of each program of a release, with a Worker that its gateway was given. Both releases run together while they are replaced. */
async function start(release: Release | undefined): Promise<Installation> {
  const it = await Installation.start({
    ...{ gateways: 1, runners: 1, monitors: 1, monitorFlags: ['--resync', '10s'] },
    script: join(WORKSPACE, 'test/fixtures/witness-worker.sh'),
    scriptEnv: { MOCK_WORKER_SPEED: '0' },
    ...(release && { release }),
  });
  const answer = await fetch(`${it.gateway(0).url}/api/v1/workers/${KEPT}`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ apiVersion: 'carrierarr.io/v1', kind: 'Worker', metadata: { name: KEPT }, spec: {} }),
  });
  expect([answer.status, await answer.text()]).toEqual([201, expect.stringContaining(KEPT)]);
  return it;
}

/** Of a Worker what this test looks at. */
interface Shown {
  metadata: { generation: number };
  status?: {
    observedGeneration: number;
    phase: string;
    lastCommand?: { verb: string; execution?: string; effect?: string };
  };
}

/** Whether the Worker runs by a start that was given after this execution, as a gateway shows it, and its generation was seen. */
async function isKept(it: Installation, after = ''): Promise<boolean> {
  const answer = await fetch(`${it.gateway(0).url}/api/v1/workers/${KEPT}`);
  const { metadata, status } = (await answer.json()) as Shown;
  const { verb, execution = '', effect } = status?.lastCommand ?? {};
  const isStarted = verb === 'start' && execution > after && effect === 'seen';
  return status?.phase === 'Running' && status.observedGeneration === metadata.generation && isStarted;
}

test.skipIf(previousReleaseMissing !== undefined).each<[what: string, order: readonly Role[], isBack?: true]>([
  ['an upgrade that begins with the gateways', ['gateway', 'runner', 'monitor']],
  ['an upgrade that begins with the monitors', ['monitor', 'runner', 'gateway']],
  ['a way back to the previous release', ['runner', 'gateway', 'monitor'], true],
])('%s loses nothing under load, and workers are kept', async (what, order, isBack) => {
  const [from, to] = isBack ? [undefined, previous] : [previous, undefined];
  const it = await start(from);
  const clients = [
    await it.newClient('client 1', { gateway: it.gateway(0), targets: TARGETS }),
    await it.newClient('client 2', { gateway: it.gateway(0), targets: TARGETS }),
  ];
  let isStopped = false;
  const load = TARGETS.map(async (target, index) => {
    const client = clients[index % clients.length];
    while (!isStopped) {
      // One at a time: what waits at the end is waited for.
      const accepted = await client?.submitUntilAccepted(target, 'write', 100, 10, 0.02);
      const execution = accepted?.execution ?? '';
      await until(`the outcome of ${execution}`, () => client?.session.outcomeOf(execution) !== undefined, SLOW_MS);
    }
  });
  // A test that fails before it waits for them fails for its own reason.
  Promise.all(load).catch(() => undefined);
  const goOn = async () => {
    const before = clients.map(({ session }) => session.lineCount('worker-1'));
    await until(
      'lines',
      () => clients.every(({ session }, i) => session.lineCount('worker-1') > (before[i] ?? 0) + 60),
      SLOW_MS,
    );
  };
  const add = {
    gateway: () => it.addGateway({ release: to }),
    runner: () => it.addRunner({ release: to }),
    monitor: () => it.addMonitor({ release: to }),
  };
  const programs: Record<Role, Program[]> = { gateway: it.gateways, runner: it.runners, monitor: it.monitors };
  await until('the worker to run', () => isKept(it));

  for (const role of order) {
    for (const old of [...programs[role]]) {
      await add[role]();
      await goOn();
      it.retire(old);
      expect({ name: old.name, ...(await old.stop()) }).toEqual({ name: old.name, code: 0, signal: null });
    }
    // With this mix of versions a worker that somebody stops is started again.
    const stop = await fetch(`${it.gateway(0).url}/api/v1/targets/${KEPT}/commands`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ command: 'stop' }),
    });
    const { execution_id: stopped } = (await stop.json()) as { execution_id: string };
    await until(
      `${KEPT} to be started again after the ${role}s`,
      async () => {
        const list = await fetch(`${it.gateway(0).url}/api/v1/executions?target=${KEPT}&limit=20`);
        const { executions } = (await list.json()) as {
          executions: { id: string; command: string; outcome?: string }[];
        };
        return executions.some(
          ({ id, command, outcome }) => id > stopped && command === 'start' && outcome === 'succeeded',
        );
      },
      SLOW_MS,
    );
    await until('it to run', () => isKept(it, stopped), SLOW_MS);
  }
  isStopped = true;
  await Promise.all(load);
  const report = await it.verdict(what, { timeoutMs: 60_000 });
  expect(report.executions).toBeGreaterThan(10);
  for (const client of clients) expect(client.connections).toBeGreaterThan(1);
  const outcomes = clients.flatMap(({ messages }) =>
    messages.filter(({ type }) => type === 'result').map(({ outcome }) => outcome as string),
  );
  expect(new Set(outcomes)).toEqual(new Set(['succeeded']));
});
