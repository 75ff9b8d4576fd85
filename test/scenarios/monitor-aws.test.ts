/**
 * Monitors, gateway, runner and `scripts/ec2-worker.sh` against moto: the desired state of a pool becomes machines, each
 * of them once, whatever is done to the machines and to the monitors (S1, S2, and at most one machine for a command).
 *
 * The account is the witness. It keeps machines that were terminated, with the token that each was made by, so at the
 * end it tells of every machine that ever was; and it is asked all along for machines that live beside each other.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { Execution, ResourceEvent, WorkerPoolResource } from '@carrierarr/protocol';
import { doubled, fleetOf, type TestFleet } from '../support/fleet.js';
import { Installation } from '../support/installation.js';
import { isLiving, type Machine, machinesOf, MANAGED_TAG, watchForTwins } from '../support/machines.js';
import { type Moto, motoMissing, startMoto } from '../support/moto.js';
import { type Program, WORKSPACE } from '../support/programs.js';
import { until } from '../support/until.js';
import { startWithholdingProxy } from '../support/withholding-proxy.js';

const MONITOR_FLAGS = ['--ec2-tags', `{"${MANAGED_TAG}":"true"}`, '--ec2-regions', 'us-east-1'];
const SUBJECT = 'system:reconciler';
/** For a pool to become what it is to be: some commands, a failover, and a minute in which a cloud may tell the past. */
const CONVERGES_MS = 120_000;

vi.setConfig({ testTimeout: 300_000, hookTimeout: 120_000 });

let moto: Moto;
beforeAll(async () => {
  if (motoMissing === undefined) moto = await startMoto();
});
beforeEach(() => moto?.reset());
afterAll(() => moto?.stop());

const machines = () => machinesOf(moto);

async function startFleet(monitors: number): Promise<{ it: Installation; fleet: TestFleet }> {
  const it = await Installation.start({
    ...{ gateways: 1, runners: 1, monitors, monitorFlags: MONITOR_FLAGS, monitorEnv: { ...moto.env } },
    script: join(WORKSPACE, 'scripts/ec2-worker.sh'),
    scriptEnv: {
      ...moto.env,
      EC2_WORKER_AMI: 'ami-12c6146b',
      EC2_WORKER_INSTANCE_TYPES: 't3.small',
      // moto, unlike EC2, wants to know.
      EC2_WORKER_ROOT_GIB: '8',
      EC2_WORKER_POLL_S: '0',
      EC2_WORKER_WAIT_S: '30',
    },
  });
  return { it, fleet: fleetOf(it.redis) };
}

/** A request to the gateway about the pool; its answer. */
async function ask<T>(it: Installation, method: 'GET' | 'PUT' | 'PATCH', path: string, body?: unknown): Promise<T> {
  const response = await fetch(`${it.gateway(0).url}/api/v1/${path}`, {
    method,
    headers: { 'Content-Type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/json' },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path} was answered ${response.status} ${text}`);
  return JSON.parse(text) as T;
}

/** Applies a pool as `carrierarr apply` does. */
function applyPool(it: Installation, pool: string, replicas: number): Promise<WorkerPoolResource> {
  return ask(it, 'PUT', `workerpools/${pool}`, {
    ...{ apiVersion: 'carrierarr.io/v1', kind: 'WorkerPool', metadata: { name: pool } },
    spec: { replicas, template: { spec: { source: 'ec2' } } },
  });
}

const named = (pool: string, count: number) => Array.from({ length: count }, (_, n) => `${pool}-${n}`);

/** Resolves when pool, Workers and the account agree with what was applied. */
async function converged(fleet: TestFleet, pool: string, generation: number, count: number): Promise<void> {
  let seen = '';
  await until(
    () => `${pool} to have ${count} workers of generation ${generation}; there is ${seen}`,
    async () => {
      const resource = await fleet.resources.get('WorkerPool', pool);
      const workers = (await fleet.workers()).filter(({ metadata }) => metadata.owner?.name === pool);
      const living = (await machines()).filter((each) => isLiving(each) && each.target.startsWith(`${pool}-`));
      seen = JSON.stringify({ status: resource?.status, workers: workers.map(({ status }) => status), living });
      const { observedGeneration, replicas, ready, updated } = resource?.status ?? {};
      return (
        observedGeneration === generation &&
        [replicas, ready, updated, workers.length].every((each) => each === count) &&
        workers.every(({ status }) => status?.phase === 'Running') &&
        living.every(({ state }) => state === 'running') &&
        living
          .map(({ target }) => target)
          .toSorted()
          .join() === named(pool, count).join()
      );
    },
    CONVERGES_MS,
  );
}

async function leaderOf(it: Installation, fleet: TestFleet, butNot?: Program): Promise<Program> {
  return until('a monitor to lead', async () => {
    const leader = await fleet.leader();
    return it.monitors.find((program) => program.name === leader?.monitor && program !== butNot);
  });
}

/** What the script hands to EC2 as ClientToken: of the command, not of its execution. */
const clientTokenOf = ({ subject, target, client_id }: Execution) =>
  createHash('sha256').update(`${subject}\n${target}\n${client_id}`).digest('hex');

/** Worker and attempt, out of the token under which the reconciler gave a command. */
function attemptOf({ client_id = '' }: Execution): string {
  const [, uid, , attempt] = client_id.split(':');
  expect(client_id).toMatch(/^cr:[^:]+:\d+:\d+:\w+$/);
  return `${uid}:${attempt}`;
}

/** Fails unless each command was accepted once, and each machine that ever was came of a command that made no other. */
async function expectEachOnce(fleet: TestFleet): Promise<{ executions: Execution[]; all: Machine[] }> {
  const executions = await fleet.executions();
  expect(executions.filter(({ subject }) => subject !== SUBJECT)).toEqual([]);
  expect(doubled(executions)).toEqual([]);
  const attempts = executions.map(attemptOf);
  expect(attempts.filter((attempt, index) => attempts.indexOf(attempt) !== index)).toEqual([]);
  const all = await machines();
  const makers = new Map(executions.map((execution) => [clientTokenOf(execution), execution]));
  const made = all.map(({ id, token, target }) => {
    const maker = makers.get(token);
    if (maker === undefined) throw new Error(`Machine ${id} of ${target} came of no command that is known: ${token}`);
    expect(maker).toMatchObject({ target, command: 'provision' });
    return attemptOf(maker);
  });
  expect(made.filter((attempt, index) => made.indexOf(attempt) !== index)).toEqual([]);
  return { executions, all };
}

describe.skipIf(motoMissing !== undefined)(`monitors on EC2${motoMissing ? ` (${motoMissing})` : ''}`, () => {
  test('a pool of three becomes three machines, one that is terminated behind its back is replaced, and of none none is left', async () => {
    const { it, fleet } = await startFleet(1);
    const twins = watchForTwins(moto);
    const { metadata } = await applyPool(it, 'gpu', 3);
    await converged(fleet, 'gpu', metadata.generation, 3);
    const three = await machines();
    expect(three.map(({ target }) => target).toSorted()).toEqual(named('gpu', 3));
    expect(three.every(({ managed, state }) => managed === 'true' && state === 'running')).toBe(true);

    const victim = three.find(({ target }) => target === 'gpu-1');
    await moto.cli('ec2', 'terminate-instances', '--instance-ids', victim?.id ?? '');
    await until('it to be replaced', async () => (await machines()).filter(isLiving).length === 3, CONVERGES_MS);
    await converged(fleet, 'gpu', metadata.generation, 3);
    const four = await machines();
    expect(four.filter((machine) => !isLiving(machine)).map(({ id }) => id)).toEqual([victim?.id]);
    const { items } = await ask<{ items: ResourceEvent[] }>(it, 'GET', 'workers/gpu-1/events');
    const told = items.map(({ reason, message }) => `${reason}: ${message}`);
    expect(told).toContainEqual(expect.stringMatching(`^NotRunning: .*${victim?.id} is terminated`));
    expect(told).toContainEqual(expect.stringMatching('^Provisioning: '));

    const { metadata: now } = await ask<WorkerPoolResource>(it, 'PATCH', 'workerpools/gpu', { spec: { replicas: 0 } });
    await converged(fleet, 'gpu', now.generation, 0);
    const { executions } = await expectEachOnce(fleet);
    expect(executions.filter(({ outcome }) => outcome !== 'succeeded')).toEqual([]);
    expect((await machines()).map(({ id }) => id).toSorted()).toEqual(four.map(({ id }) => id).toSorted());
    expect((await twins.stop()).twins).toEqual([]);
  });

  test('ten leaders are killed in the middle of roll-outs of four, and each ends as wanted, with no machine too many', async () => {
    const { it, fleet } = await startFleet(3);
    const twins = watchForTwins(moto);
    // Names are not used again: a name whose last machine is young waits for a minute, in case the cloud tells the past.
    const rounds = ['a 4', 'a 2', 'a 0', 'b 4', 'b 2', 'b 0', 'c 4', 'c 2', 'c 0', 'd 4'].map((round) =>
      round.split(' '),
    );
    for (const [round, [pool = '', wanted]] of rounds.entries()) {
      const replicas = Number(wanted);
      const before = (await fleet.executions()).length;
      const { metadata } = await applyPool(it, pool, replicas);
      // Each time at another point: before the first command, or when some have been given.
      const given = round % 3;
      await until('the roll-out to be under way', async () => (await fleet.executions()).length >= before + given);
      const leader = await leaderOf(it, fleet);
      it.retire(leader);
      await leader.kill();
      const heir = it.addMonitor();
      await converged(fleet, pool, metadata.generation, replicas);
      await heir;
      expect((await leaderOf(it, fleet)).name).not.toBe(leader.name);
    }
    const { executions, all } = await expectEachOnce(fleet);
    expect(executions.filter(({ outcome }) => outcome !== 'succeeded')).toEqual([]);
    expect(all.map(({ target }) => target).toSorted()).toEqual(['a', 'b', 'c', 'd'].flatMap((pool) => named(pool, 4)));
    const { twins: seen, looks } = await twins.stop();
    expect(seen).toEqual([]);
    expect(looks).toBeGreaterThan(50);
  });

  test('a leader that was frozen and thaws when another leads changes nothing, not even by what it had sent before', async () => {
    const { it, fleet } = await startFleet(0);
    const twins = watchForTwins(moto);
    const proxy = await startWithholdingProxy(it.redis.port);
    onTestFinished(() => proxy.stop());
    const first = await it.addMonitor({ redisUrl: proxy.url });
    await leaderOf(it, fleet);
    await Promise.all([it.addMonitor(), it.addMonitor()]);
    const one = await applyPool(it, 'gpu', 1);
    await converged(fleet, 'gpu', one.metadata.generation, 1);

    // The command is written down and sent, and does not arrive.
    const late = proxy.withhold(SUBJECT);
    const three = await applyPool(it, 'gpu', 3);
    await late.caught;
    first.freeze();
    const second = await leaderOf(it, fleet, first);
    await converged(fleet, 'gpu', three.metadata.generation, 3);
    expect(await late.release()).toContain('deposed');
    first.thaw();
    await until('the first leader to know', () => first.output().includes('this monitor leads no more'));

    // And once more with nothing but a pause, in the middle of taking machines away.
    const before = (await fleet.executions()).length;
    const none = await applyPool(it, 'gpu', 0);
    await until('the first command', async () => (await fleet.executions()).length > before);
    second.freeze();
    const third = await leaderOf(it, fleet, second);
    const { fence } = await until('a leader', () => fleet.leader());
    const ofSecond = async () => (await fleet.executions()).filter(({ gateway }) => gateway === second.name);
    const given = await ofSecond();
    second.thaw();
    await until('the second leader to know', () => second.output().includes('this monitor leads no more'));
    await converged(fleet, 'gpu', none.metadata.generation, 0);
    expect(await ofSecond()).toHaveLength(given.length);
    expect(await fleet.leader()).toEqual({ monitor: third.name, fence });

    const { executions, all } = await expectEachOnce(fleet);
    expect(executions.filter(({ outcome }) => outcome !== 'succeeded')).toEqual([]);
    // It may lead again by the end, and take machines away; of those that it made there is one.
    const made = executions.filter(({ gateway, command }) => gateway === first.name && command === 'provision');
    expect(made).toHaveLength(1);
    expect(all).toHaveLength(3);
    expect((await twins.stop()).twins).toEqual([]);
  });
});
