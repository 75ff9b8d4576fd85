import { describe, expect, it } from 'vitest';
import {
  decideSwitch,
  idleMsAtStart,
  idleShutdownMs,
  UNSEEN_CREDIT_MS,
} from '../../../apps/agent/src/idle/dead-man-switch.js';
import { busyBecause } from '../../../apps/agent/src/idle/idle.js';

const NOW = Date.UTC(2026, 0, 1);
const BOUNDS = { gpuPercent: 5, countConnections: true };
const QUIET = { commands: 0, gpuPercents: [0, 5], loaded: [], connections: 0 };
const model = (expiresMs: number) => ({ name: 'm', expiresMs });

describe('a node is busy', () => {
  it.each([
    ['not at all', QUIET, [], undefined],
    ['while a command runs', { ...QUIET, commands: 1 }, [], 'command'],
    ['while a GPU is used more than the bound', { ...QUIET, gpuPercents: [0, 6] }, [], 'gpu'],
    ['while somebody is connected to Ollama', { ...QUIET, connections: 1 }, [], 'connection'],
    ['if a model came into memory', { ...QUIET, loaded: [model(NOW + 300_000)] }, [], 'model'],
    ['if a model was used since', { ...QUIET, loaded: [model(NOW + 300_000)] }, [model(NOW + 280_000)], 'model'],
    [
      'while a request keeps a model beyond its time',
      { ...QUIET, loaded: [model(NOW - 20_000)] },
      [model(NOW - 20_000)],
      'model',
    ],
    [
      'not because a model lies in memory',
      { ...QUIET, loaded: [model(NOW + 300_000)] },
      [model(NOW + 300_000)],
      undefined,
    ],
    [
      'not because Ollama is slow to unload one',
      { ...QUIET, loaded: [model(NOW - 5_000)] },
      [model(NOW - 5_000)],
      undefined,
    ],
    [
      'not at the first look because a model is there',
      { ...QUIET, loaded: [model(NOW + 300_000)] },
      undefined,
      undefined,
    ],
  ])('%s', (_when, sight, before, because) => {
    expect(busyBecause(sight, before, BOUNDS, NOW)).toBe(because);
  });

  it('not because of a connection if connections are not to count', () => {
    const bounds = { ...BOUNDS, countConnections: false };
    expect(busyBecause({ ...QUIET, connections: 1 }, [], bounds, NOW)).toBeUndefined();
  });
});

describe('the dead-man switch', () => {
  it('is off at 0, waits, and pulls at its time', () => {
    expect(decideSwitch(0, 1e9)).toEqual({ kind: 'off' });
    expect(decideSwitch(1000, 400)).toEqual({ kind: 'wait', leftMs: 600 });
    expect(decideSwitch(1000, 1000)).toEqual({ kind: 'power-off', idleMs: 1000 });
  });

  it('goes on counting after a restart of the agent, and begins anew with the machine', () => {
    const kept = { bootId: 'a', idleMs: 60_000, seenMs: NOW - 5_000 };
    expect(idleMsAtStart(kept, 'a', NOW)).toBe(65_000);
    expect(idleMsAtStart(kept, 'b', NOW)).toBe(0);
    expect(idleMsAtStart(undefined, 'a', NOW)).toBe(0);
    // The clock was set back.
    expect(idleMsAtStart({ ...kept, seenMs: NOW + 1 }, 'a', NOW)).toBe(60_000);
    // An older agent wrote it.
    expect(idleMsAtStart({ bootId: 'a' }, 'a', NOW)).toBe(0);
  });

  it('takes only a little of the time in which no agent ran for idle', () => {
    const kept = { bootId: 'a', idleMs: 60_000, seenMs: NOW - 40 * 60_000 };
    expect(idleMsAtStart(kept, 'a', NOW)).toBe(60_000 + UNSEEN_CREDIT_MS);
  });

  it('obeys what a control plane ordered until the flag is changed', () => {
    expect(idleShutdownMs(1000, undefined)).toBe(1000);
    expect(idleShutdownMs(1000, { idleShutdownMs: 0, flagMs: 1000 })).toBe(0);
    expect(idleShutdownMs(2000, { idleShutdownMs: 0, flagMs: 1000 })).toBe(2000);
  });
});
