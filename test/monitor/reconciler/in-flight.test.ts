import { createLogger, FakeClock } from '@carrierarr/platform';
import type { Execution, GivenCommand } from '@carrierarr/protocol';
import { expect, it } from 'vitest';
import { InFlight, LOOK_MS, LOOKUPS_MAX } from '../../../apps/monitor/src/reconciler/in-flight.js';

const COMMAND: GivenCommand = {
  ...{ verb: 'start', token: 't1', generation: 1, attempt: 1, reason: '', requestedAt: '2025-01-01T00:00:00.000Z' },
};

function setUp() {
  const clock = new FakeClock();
  const records = new Map<string, Partial<Execution>>();
  const tokens = new Map<string, string>();
  const changes: string[] = [];
  const asked: string[] = [];
  const inFlight = new InFlight({
    store: { executionOfToken: async (_target, _subject, token) => tokens.get(token) },
    history: {
      async progress(id) {
        asked.push(id);
        return records.get(id) as Execution | undefined;
      },
    },
    onChange: (worker, view) => changes.push(`${worker} ${view.state}`),
    clock,
    logger: createLogger({ program: 'test', level: 'silent' }),
  });
  return { clock, records, tokens, changes, asked, inFlight };
}

it('follows a command until it has ended, and asks for nothing after that', async () => {
  const { clock, records, changes, asked, inFlight } = setUp();
  records.set('e1', { state: 'queued' });
  inFlight.submitted('w', 't1', 'e1');
  expect(inFlight.viewOf('w', COMMAND)).toEqual({ state: 'queued', id: 'e1' });
  await clock.advanceAsync(LOOK_MS);
  records.set('e1', { state: 'running' });
  await clock.advanceAsync(LOOK_MS);
  records.set('e1', { state: 'ended', outcome: 'failed', exit_code: 3, ended_at: '2025-01-01T00:00:05.000Z' });
  await clock.advanceAsync(LOOK_MS);
  expect(changes).toEqual(['w running', 'w ended']);
  const endedAtMs = Date.parse('2025-01-01T00:00:05.000Z');
  expect(inFlight.viewOf('w', COMMAND)).toEqual({
    state: 'ended',
    id: 'e1',
    outcome: 'failed',
    exitCode: 3,
    endedAtMs,
  });
  const before = asked.length;
  await clock.advanceAsync(100 * LOOK_MS);
  expect(asked).toHaveLength(before);
  expect(clock.pendingTimers).toBe(0);
});

it('finds a command by its token, and says so when it was never submitted', async () => {
  const { clock, records, tokens, changes, inFlight } = setUp();
  expect(inFlight.viewOf('w', COMMAND)).toBeUndefined();
  expect(await inFlight.lookUp('w', 'target', COMMAND)).toEqual({ state: 'none' });
  tokens.set('t1', 'e1');
  records.set('e1', { state: 'running' });
  expect(await inFlight.lookUp('w', 'target', COMMAND)).toEqual({ state: 'running', id: 'e1' });
  expect(inFlight.viewOf('w', COMMAND)).toEqual({ state: 'running', id: 'e1' });
  records.delete('e1');
  await clock.advanceAsync(LOOK_MS);
  expect(changes).toEqual(['w ended']);
  expect(inFlight.viewOf('w', COMMAND)).toMatchObject({ state: 'ended', outcome: 'lost' });
});

it('asks nobody about a command whose end is in the status, nor answers for another one', () => {
  const { inFlight } = setUp();
  inFlight.submitted('w', 't1', 'e1');
  expect(inFlight.viewOf('w', { ...COMMAND, token: 't2' })).toBeUndefined();
  const ended = { ...COMMAND, execution: 'e1', outcome: 'succeeded', exitCode: 0, endedAt: '2025-01-01T00:00:05.000Z' };
  expect(inFlight.viewOf('w', ended)).toMatchObject({ state: 'ended', id: 'e1', outcome: 'succeeded', exitCode: 0 });
  expect(inFlight.size).toBe(0);
  expect(inFlight.viewOf('w', undefined)).toEqual({ state: 'none' });
});

it('looks at a bounded number at once, all of them in turn', async () => {
  const { clock, records, asked, inFlight } = setUp();
  for (let n = 0; n < LOOKUPS_MAX + 100; n++) {
    records.set(`e${n}`, { state: 'running' });
    inFlight.submitted(`w${n}`, 't1', `e${n}`);
  }
  await clock.advanceAsync(LOOK_MS);
  expect(asked).toHaveLength(LOOKUPS_MAX);
  await clock.advanceAsync(LOOK_MS);
  expect(new Set(asked).size).toBe(LOOKUPS_MAX + 100);
});

it('asks nothing any more once it is stopped', async () => {
  const { clock, asked, inFlight } = setUp();
  inFlight.submitted('w', 't1', 'e1');
  inFlight.stop();
  await clock.advanceAsync(10 * LOOK_MS);
  expect(asked).toEqual([]);
});
