import type { Execution, GivenCommand } from '@carrierarr/protocol';
import type { TargetCommands } from '@carrierarr/store';
import { expect, it } from 'vitest';
import { worker } from '../../reconcile/builders.js';
import { GivenCommands } from '../../../apps/gateway/src/resources/given-commands.js';

const AT = '2026-01-01T00:00:00.000Z';
const COMMAND: GivenCommand = {
  ...{ verb: 'start', token: 't1', generation: 1, attempt: 1, reason: '', requestedAt: AT },
};
const own = { subject: 'system:reconciler', client_id: 't1' };

const commandOf = ({ subject = '', client_id: token, state, ended_at }: Partial<Execution>) => ({
  ...{ subject, token, hasEnded: state === 'ended' },
  endedAtMs: ended_at === undefined ? undefined : Date.parse(ended_at),
});

function setUp(
  executions: Partial<Execution>[] = [],
  tokens: Record<string, string> = {},
  work: Omit<TargetCommands, 'commands'> = { nowMs: Date.parse(AT), queued: 0, closedUntilMs: undefined },
) {
  const asked: string[] = [];
  const commands = new GivenCommands({
    store: {
      executionOfToken: async (_target, subject, token) => tokens[`${subject} ${token}`],
      commandsOn: async () => ({ ...work, commands: executions.map(commandOf) }),
    },
    history: {
      async get(id) {
        asked.push(id);
        return executions.find((each) => each.id === id) as Execution | undefined;
      },
    },
  });
  return { commands, asked };
}

it('a command is found by the token under which the reconciler gave it', async () => {
  const { commands } = setUp([{ id: 'e1', state: 'running' }], { 'system:reconciler t1': 'e1', 'alice t2': 'e1' });
  expect(await commands.viewOf('w1', COMMAND)).toEqual({ state: 'running', id: 'e1' });
  expect(await commands.viewOf('w1', { ...COMMAND, token: 't2' })).toEqual({ state: 'none' });
  expect(await commands.viewOf('w1', undefined)).toEqual({ state: 'none' });
});

it('a command whose record is gone was lost when it was given', async () => {
  const view = await setUp().commands.viewOf('w1', { ...COMMAND, execution: 'e1' });
  expect(view).toEqual({ state: 'ended', id: 'e1', outcome: 'lost', exitCode: -1, endedAtMs: Date.parse(AT) });
});

it('nobody is asked about a command whose end is in the status', async () => {
  const { commands, asked } = setUp();
  const command = { ...COMMAND, outcome: 'succeeded', exitCode: 0, endedAt: AT };
  expect(await commands.viewOf('w1', command)).toMatchObject({ state: 'ended', outcome: 'succeeded' });
  expect(asked).toEqual([]);
});

it('of the newest commands on a target those of others count', async () => {
  const status = {
    observedGeneration: 1,
    phase: 'Pending' as const,
    conditions: [],
    target: 'w1',
    attempts: 1,
    failures: 0,
  };
  const w1 = worker({ status: { ...status, lastCommand: COMMAND } });
  const othersOn = (executions: Partial<Execution>[]) => setUp(executions).commands.othersOn('w1', w1);
  const ended = (ended_at: string, more: Partial<Execution>) => ({ state: 'ended' as const, ended_at, ...more });
  const over = [ended('2026-01-01T00:00:09.000Z', own), ended('2026-01-01T00:00:05.000Z', { subject: 'alice' })];
  expect(await othersOn([{ ...own, state: 'running' }])).toEqual({ busy: false });
  expect(await othersOn(over)).toEqual({ busy: false, othersEndedAtMs: Date.parse(AT) + 5_000 });
  expect(await othersOn([{ subject: 'alice', state: 'queued' }, ...over])).toMatchObject({ busy: true });
});
