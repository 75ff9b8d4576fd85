import { describe, expect, it } from 'vitest';
import {
  decideSwitch,
  idleMsAtStart,
  idleShutdownMs,
  UNSEEN_CREDIT_MS,
} from '../../../apps/agent/src/idle/dead-man-switch.js';
import {
  ANSWER_HOLDS_MS,
  type IdleMemory,
  type IdleSight,
  judgeIdle,
  NO_MEMORY,
} from '../../../apps/agent/src/idle/idle.js';

const NOW = Date.UTC(2026, 0, 1);
const BOUNDS = { gpuPercent: 5, countConnections: true };
const QUIET = { commands: 0, gpuPercents: [0, 5], loaded: [], connections: 0 };
const times = (monotonicMs = 0) => ({ epochMs: NOW + monotonicMs, monotonicMs });
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
    expect(judgeIdle(sight, { ...NO_MEMORY, loaded: before }, BOUNDS, times()).because).toBe(because);
  });

  it('not because of GPUs if they are not to count, nor because nobody knows of them', () => {
    const bounds = { ...BOUNDS, gpuPercent: 100 };
    for (const gpuPercents of [[100], undefined])
      expect(judgeIdle({ ...QUIET, gpuPercents }, NO_MEMORY, bounds, times()).because).toBeUndefined();
    expect(judgeIdle({ ...QUIET, gpuPercents: undefined }, NO_MEMORY, BOUNDS, times()).because).toBe('unknown');
  });

  it('not because of a connection if connections are not to count', () => {
    const bounds = { ...BOUNDS, countConnections: false };
    expect(judgeIdle({ ...QUIET, connections: 1 }, NO_MEMORY, bounds, times()).because).toBeUndefined();
    expect(judgeIdle({ ...QUIET, connections: undefined }, NO_MEMORY, bounds, times()).because).toBeUndefined();
  });
});

describe('of a source that does not answer', () => {
  /** Looks one after the other, each with its time. */
  function looks(...seen: [ms: number, sight: IdleSight][]) {
    let memory: IdleMemory = NO_MEMORY;
    return seen.map(([ms, sight]) => {
      const judgement = judgeIdle(sight, memory, BOUNDS, times(ms));
      memory = judgement.memory;
      return judgement.because;
    });
  }

  it.each([
    ['gpuPercents', [90], 'gpu'],
    ['loaded', [model(NOW - 20_000)], 'model'],
    ['connections', 1, 'connection'],
  ] as const)('the last answer holds for two minutes, then nobody knows: %s', (source, busy, because) => {
    const silent = { ...QUIET, [source]: undefined };
    const from = [0, { ...QUIET, [source]: busy }] as [number, IdleSight];
    expect(looks(from, [15_000, silent], [ANSWER_HOLDS_MS, silent], [ANSWER_HOLDS_MS + 1, silent])).toEqual([
      ...[because, because, because, 'unknown'],
    ]);
    expect(looks([0, QUIET], [ANSWER_HOLDS_MS, silent], [ANSWER_HOLDS_MS + 1, silent])).toEqual([
      ...[undefined, undefined, 'unknown'],
    ]);
    expect(looks([0, silent], [1, QUIET])).toEqual(['unknown', undefined]);
  });

  it('the next answer is compared with the last one: a hiccup is no use of a model', () => {
    const loaded = { ...QUIET, loaded: [model(NOW + 3_600_000)] };
    const silent = { ...QUIET, loaded: undefined };
    expect(looks([0, loaded], [15_000, silent], [30_000, loaded])).toEqual([undefined, undefined, undefined]);
    const used = { ...QUIET, loaded: [model(NOW + 3_620_000)] };
    expect(looks([0, loaded], [15_000, silent], [30_000, used])).toEqual([undefined, undefined, 'model']);
  });

  it('that a command runs is known all the same', () => {
    expect(looks([0, { commands: 1, gpuPercents: undefined, loaded: undefined, connections: undefined }])).toEqual([
      'command',
    ]);
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
