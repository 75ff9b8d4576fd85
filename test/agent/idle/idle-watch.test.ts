import { Writable } from 'node:stream';
import { createLogger, FakeClock } from '@carrierarr/platform';
import { expect, it } from 'vitest';
import { IdleWatch, LOOK_EVERY_MS } from '../../../apps/agent/src/idle/idle-watch.js';
import type { IdleSight } from '../../../apps/agent/src/idle/idle.js';
import { temporaryFolder } from '../../support/temporary-folder.js';

const MINUTE = 60_000;
const QUIET: IdleSight = { commands: 0, gpuPercents: [], loaded: [], connections: 0 };

interface Made {
  watch: IdleWatch;
  clock: FakeClock;
  sight: { now: IdleSight };
  offs: number[];
  fails: { left: number };
}

async function made(stateDir: string, flagMs: number, clock = new FakeClock(), boot = 'boot-1'): Promise<Made> {
  const sight = { now: QUIET };
  const offs: number[] = [];
  const fails = { left: 0 };
  const watch = new IdleWatch({
    ...{ stateDir, flagMs, clock, bounds: { gpuPercent: 5, countConnections: true } },
    look: () => Promise.resolve(sight.now),
    powerOff: (idleMs) => {
      offs.push(idleMs);
      return fails.left-- > 0 ? Promise.reject(new Error('not allowed')) : Promise.resolve();
    },
    logger: createLogger({ program: 'test', level: 'silent', destination: new Writable() }),
    bootId: () => Promise.resolve(boot),
  });
  await watch.start();
  return { watch, clock, sight, offs, fails };
}

/** Time passes, with the looks that fall into it. */
async function pass({ watch, clock }: Made, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += LOOK_EVERY_MS) {
    clock.advance(LOOK_EVERY_MS);
    await watch.look();
  }
}

it('powers the machine off after the idle time, and not before', async () => {
  const one = await made(temporaryFolder('agent-'), 30 * MINUTE);
  await pass(one, 29 * MINUTE);
  expect(one.offs).toEqual([]);
  await pass(one, MINUTE);
  expect(one.offs).toEqual([30 * MINUTE]);
});

it('begins to count anew whenever the machine was busy', async () => {
  const one = await made(temporaryFolder('agent-'), 30 * MINUTE);
  await pass(one, 20 * MINUTE);
  one.sight.now = { ...QUIET, commands: 1 };
  await pass(one, 60 * MINUTE);
  expect(one.watch.idleMs).toBe(0);
  one.sight.now = QUIET;
  await pass(one, 29 * MINUTE);
  expect(one.offs).toEqual([]);
  await pass(one, MINUTE);
  expect(one.offs).toHaveLength(1);
});

it('counts a command that was too short for a look', async () => {
  const one = await made(temporaryFolder('agent-'), 30 * MINUTE);
  await pass(one, 29 * MINUTE);
  one.watch.touch();
  await pass(one, 29 * MINUTE);
  expect(one.offs).toEqual([]);
});

it('tries again when the machine could not be powered off', async () => {
  const one = await made(temporaryFolder('agent-'), 10 * MINUTE);
  one.fails.left = 2;
  await pass(one, 11 * MINUTE);
  expect(one.offs.length).toBeGreaterThanOrEqual(3);
});

it('is off without an idle time', async () => {
  const one = await made(temporaryFolder('agent-'), 0);
  await pass(one, 600 * MINUTE);
  expect(one.offs).toEqual([]);
});

it('does what a control plane orders, also after a restart', async () => {
  const folder = temporaryFolder('agent-');
  const one = await made(folder, 30 * MINUTE);
  await one.watch.order(0);
  await pass(one, 60 * MINUTE);
  expect(one.offs).toEqual([]);
  await one.watch.order(5 * MINUTE);
  await one.watch.stop();
  const next = await made(folder, 30 * MINUTE, one.clock);
  expect(next.watch.limitMs).toBe(5 * MINUTE);
  await pass(next, LOOK_EVERY_MS);
  expect(next.offs).toHaveLength(1);
});

it('does not let an agent that restarts again and again keep the machine alive', async () => {
  const folder = temporaryFolder('agent-');
  const clock = new FakeClock();
  for (let restart = 0; restart < 5; restart++) {
    const one = await made(folder, 30 * MINUTE, clock);
    await pass(one, 7 * MINUTE);
    await one.watch.stop();
    expect(one.offs.length > 0).toBe(restart === 4);
  }
});

it('never powers off a machine of which it does not know whether it is busy', async () => {
  const one = await made(temporaryFolder('agent-'), 30 * MINUTE);
  await pass(one, 20 * MINUTE);
  one.sight.now = { ...QUIET, gpuPercents: undefined };
  await pass(one, 600 * MINUTE);
  expect(one.offs).toEqual([]);
  expect(one.watch.unknown).toEqual(['gpu']);
  one.sight.now = QUIET;
  await pass(one, 29 * MINUTE);
  expect(one.offs).toEqual([]);
  expect(one.watch.unknown).toEqual([]);
  await pass(one, MINUTE);
  expect(one.offs).toHaveLength(1);
});

it('takes an answer that comes a moment late neither for idleness nor for work', async () => {
  const one = await made(temporaryFolder('agent-'), 30 * MINUTE);
  await pass(one, 20 * MINUTE);
  one.sight.now = { ...QUIET, loaded: undefined };
  await pass(one, MINUTE);
  one.sight.now = QUIET;
  await pass(one, 9 * MINUTE);
  expect(one.offs).toHaveLength(1);
});

it('begins anew after a boot', async () => {
  const folder = temporaryFolder('agent-');
  const one = await made(folder, 30 * MINUTE);
  await pass(one, 29 * MINUTE);
  const next = await made(folder, 30 * MINUTE, one.clock, 'boot-2');
  await pass(next, 29 * MINUTE);
  expect(next.offs).toEqual([]);
});

it('does not take a clock that is set for idleness', async () => {
  const one = await made(temporaryFolder('agent-'), 30 * MINUTE);
  await pass(one, MINUTE);
  // Times on disk are of the epoch clock, those that are counted are not.
  one.clock.now = () => Date.UTC(2040, 0, 1);
  await pass(one, MINUTE);
  expect(one.offs).toEqual([]);
  expect(one.watch.idleMs).toBe(2 * MINUTE);
});

it('does not power off because of time in which no agent ran', async () => {
  const folder = temporaryFolder('agent-');
  const one = await made(folder, 30 * MINUTE);
  await pass(one, MINUTE);
  await one.watch.stop();
  one.clock.advance(40 * MINUTE);
  const next = await made(folder, 30 * MINUTE, one.clock);
  await pass(next, 20 * MINUTE);
  expect(next.offs).toEqual([]);
  await pass(next, 10 * MINUTE);
  expect(next.offs[0]).toBe(30 * MINUTE);
});

it('does not power off because of time in which the process stood still', async () => {
  const one = await made(temporaryFolder('agent-'), 30 * MINUTE);
  await pass(one, MINUTE);
  // As when a machine sleeps whose monotonic clock goes on: timers that fell due meanwhile fire once.
  const awoke = one.clock.monotonicMs() + 60 * MINUTE;
  one.clock.monotonicMs = () => awoke;
  await one.watch.look();
  expect(one.offs).toEqual([]);
});

it('has it on disk soon that the machine is busy again', async () => {
  const folder = temporaryFolder('agent-');
  const one = await made(folder, 30 * MINUTE);
  await pass(one, 29 * MINUTE);
  one.watch.touch();
  await pass(one, LOOK_EVERY_MS);
  // No stop: the process was killed.
  const next = await made(folder, 30 * MINUTE, one.clock);
  await pass(next, 25 * MINUTE);
  expect(next.offs).toEqual([]);
});
