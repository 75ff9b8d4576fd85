/** What an agent makes of commands while the journal of those before cannot be read, and once it can. */
import { rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { agentSchema } from '@carrierarr/agent';
import { createLogger, createMetrics, FakeClock, loadConfig } from '@carrierarr/platform';
import { CancelReason, Command, CommandEnd, type CommandResult } from '@carrierarr/protocol/agent-control';
import { expect, it, onTestFinished, vi } from 'vitest';
import { Commands } from '../../../apps/agent/src/commands/commands.js';
import { Journal } from '../../../apps/agent/src/commands/journal.js';
import { emptyResult } from '../../../apps/agent/src/commands/running-command.js';
import type { Work } from '../../../apps/agent/src/commands/work.js';
import { createAgentMetrics } from '../../../apps/agent/src/metrics.js';
import { FolderTakenError } from '../../../apps/agent/src/state/state-lock.js';
import { temporaryFolder } from '../../support/temporary-folder.js';

const RETRY_MS = 30_000;

/** A folder in which an earlier life of the agent left this, and which cannot be reached yet. */
async function leftBehind(leave: (journal: Journal) => Promise<unknown>) {
  const parent = temporaryFolder('agent-');
  const real = join(parent, 'real');
  const bounds = { resultsMax: 100, resultBytesMax: 1024 * 1024 };
  const hold = () => Promise.resolve();
  const journal = new Journal({ folder: real, hold, ...bounds, onDropped: () => undefined });
  await journal.open();
  await leave(journal);
  await journal.close();
  const folder = join(parent, 'here');
  // Below a file there is no folder.
  await symlink(join(real, 'commands.jsonl'), folder);
  const reach = async () => {
    await rm(folder);
    await symlink(real, folder);
  };
  return { folder, reach };
}

async function started(folder: string) {
  const argv = ['--state-dir', folder, '--node-id', 'node-1'];
  const loaded = loadConfig({ program: 'carrierarr-agent', summary: '', schema: agentSchema, argv, env: {} });
  if (loaded.kind !== 'config') throw new Error('Expected a configuration.');
  const clock = new FakeClock();
  const said = { accepted: [] as string[], results: [] as CommandResult[] };
  let isUp = true;
  let streamsCommands = true;
  const begun: { id: string; end: () => void }[] = [];
  const hold = vi.fn<() => Promise<void>>(() => Promise.resolve());
  const none = () => undefined;
  const begin = ({ commandId: id }: Command): Promise<Work> => {
    let end: () => void = none;
    const exited = new Promise<{ code: number }>((resolve) => (end = () => resolve({ code: 0 })));
    begun.push({ id, end });
    return Promise.resolve({
      ...{ exited, finish: () => Promise.resolve(), beat: none, terminate: end, kill: end, pause: none, resume: none },
    });
  };
  const commands = new Commands({
    ...{ config: loaded.values, clock, begin, holdFolder: hold, onActivity: none, secrets: [] },
    link: () => ({
      ...{ isUp, streamsCommands, silentMs: 0, sendOutput: () => Promise.reject(new Error('no output')) },
      sendAccepted: (id) => void said.accepted.push(id),
      sendResult: (result) => said.results.push(result) > 0,
    }),
    metrics: createAgentMetrics(createMetrics({ program: 'agent', version: 'test', hasProcessMetrics: false }), {
      ...{ running: () => 0, idleSeconds: () => 0, undelivered: () => 0, spoolBytes: () => 0 },
    }),
    logger: createLogger({ program: 'test', level: 'silent', destination: new Writable() }),
  });
  await commands.start();
  onTestFinished(async () => {
    // Nobody confirms anything, and its clock stands still.
    isUp = false;
    for (const { end } of begun) end();
    await commands.stop();
  });
  const endsOf = (id: string) => said.results.flatMap(({ commandId, end }) => (commandId === id ? [end] : []));
  const take = (id: string, more: Partial<Command> = {}) =>
    commands.take(Command.fromPartial({ commandId: id, fence: 1, ...more }));
  const speaksOld = () => (streamsCommands = false);
  return { commands, clock, hold, said, begun, endsOf, take, speaksOld };
}

it('does not lose a command that begins while the journal, just read, is being written', async () => {
  const { folder, reach } = await leftBehind((journal) => journal.see('old', 1, 1));
  const { clock, hold, begun, endsOf, take } = await started(folder);
  await reach();
  let go = (): void => undefined;
  hold.mockImplementationOnce(() => new Promise((resolve) => (go = resolve)));
  hold.mockClear();
  clock.advance(RETRY_MS);
  await vi.waitFor(() => expect(hold).toHaveBeenCalled());
  take('new');
  go();
  await vi.waitFor(() => expect(begun.map(({ id }) => id)).toEqual(['new']));
  clock.advance(1_000);
  await vi.waitFor(() => expect(endsOf('old')).toEqual([CommandEnd.COMMAND_END_LOST]));
  expect(endsOf('new')).toEqual([]);
  begun[0]?.end();
  await vi.waitFor(() => expect(endsOf('new')).toEqual([CommandEnd.COMMAND_END_EXITED]));
});

it('looks at its folder once at a time', async () => {
  const { folder, reach } = await leftBehind((journal) => journal.see('old', 1, 1));
  const { clock, hold } = await started(folder);
  await reach();
  let go = (): void => undefined;
  hold.mockClear();
  hold.mockImplementationOnce(() => new Promise((resolve) => (go = resolve)));
  const load = vi.spyOn(Journal.prototype, 'repair');
  onTestFinished(() => load.mockRestore());
  clock.advance(RETRY_MS);
  await vi.waitFor(() => expect(hold).toHaveBeenCalled());
  clock.advance(2 * RETRY_MS);
  expect(load).toHaveBeenCalledTimes(1);
  go();
});

it('loses what earlier lives left also when it can be read before it can be written', async () => {
  const { folder, reach } = await leftBehind((journal) => journal.see('old', 1, 1));
  const { clock, hold, endsOf } = await started(folder);
  await reach();
  hold.mockImplementationOnce(() => Promise.reject(new Error('EROFS: read-only file system')));
  hold.mockClear();
  clock.advance(RETRY_MS);
  await vi.waitFor(() => expect(hold).toHaveBeenCalled());
  await vi.waitFor(() => {
    clock.advance(RETRY_MS);
    expect(endsOf('old')).toContain(CommandEnd.COMMAND_END_LOST);
  });
});

it('does not lose what another agent runs that has the folder', async () => {
  const { folder, reach } = await leftBehind((journal) => journal.see('old', 1, 1));
  const { clock, hold, endsOf, commands } = await started(folder);
  await reach();
  hold.mockImplementation(() => Promise.reject(new FolderTakenError('Another agent has it.')));
  clock.advance(RETRY_MS);
  await vi.waitFor(() => expect(commands.diskProblem).toBeInstanceOf(FolderTakenError));
  for (let i = 0; i < 3; i++) {
    clock.advance(1_000);
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(endsOf('old')).toEqual([]);
  hold.mockImplementation(() => Promise.resolve());
  await vi.waitFor(() => {
    clock.advance(RETRY_MS);
    expect(endsOf('old')).toContain(CommandEnd.COMMAND_END_LOST);
  });
});

it('says of no command that was sent before that it never ran while it cannot read which have run', async () => {
  const { folder } = await leftBehind((journal) => journal.see('old', 1, 1));
  const { said, begun, take } = await started(folder);
  take('old');
  expect(said.results).toMatchObject([
    { commandId: 'old', fence: 1, end: CommandEnd.COMMAND_END_LOST, error: expect.stringContaining('--state-dir') },
  ]);
  expect(said.accepted).toEqual([]);
  expect(begun).toEqual([]);
});

it('refuses what was never sent before while it cannot read which have run, and runs it once it can, if it is sent again', async () => {
  const { folder, reach } = await leftBehind((journal) => journal.see('old', 1, 1));
  const { clock, commands, said, begun, take } = await started(folder);
  take('new', { firstSending: true });
  expect(said.results).toMatchObject([
    { commandId: 'new', fence: 1, end: CommandEnd.COMMAND_END_REFUSED, error: expect.stringContaining('--state-dir') },
  ]);
  expect(begun).toEqual([]);
  await reach();
  clock.advance(RETRY_MS);
  await vi.waitFor(() => expect(commands.diskProblem).toBeUndefined());
  take('new');
  await vi.waitFor(() => expect(begun.map(({ id }) => id)).toEqual(['new']));
});

it('refuses all while it cannot read which have run, from a control plane that sends none twice', async () => {
  const { folder } = await leftBehind((journal) => journal.see('old', 1, 1));
  const { said, begun, take, speaksOld } = await started(folder);
  speaksOld();
  take('new');
  expect(said.results).toMatchObject([{ commandId: 'new', end: CommandEnd.COMMAND_END_REFUSED, success: false }]);
  expect(begun).toEqual([]);
});

it('answers no cancel while a result may lie unread, and says that result once it is read', async () => {
  const { folder, reach } = await leftBehind(async (journal) => {
    await journal.see('old', 1, 1);
    await journal.end({ ...emptyResult('old', 1), exitCode: 7, end: CommandEnd.COMMAND_END_EXITED });
  });
  const { clock, commands, said } = await started(folder);
  const cancel = { commandId: 'old', fence: 1, reason: CancelReason.CANCEL_REASON_KILL };
  commands.cancel(cancel);
  expect(said.results).toEqual([]);
  await reach();
  clock.advance(RETRY_MS);
  await vi.waitFor(() => {
    commands.cancel(cancel);
    expect(said.results[0]).toMatchObject({ commandId: 'old', exitCode: 7, end: CommandEnd.COMMAND_END_EXITED });
  });
});

it('keeps the result it finds on disk until that one is confirmed, not what it said before', async () => {
  const { folder, reach } = await leftBehind(async (journal) => {
    await journal.see('old', 1, 1);
    await journal.end({ ...emptyResult('old', 1), exitCode: 7, end: CommandEnd.COMMAND_END_EXITED });
  });
  const { clock, commands, endsOf, take } = await started(folder);
  take('old');
  await reach();
  clock.advance(RETRY_MS);
  await vi.waitFor(() => expect(commands.undelivered).toBe(1));
  commands.confirm({ messageId: 'old', received: true });
  expect(commands.undelivered).toBe(1);
  clock.advance(1_000);
  expect(endsOf('old')).toEqual([CommandEnd.COMMAND_END_LOST, CommandEnd.COMMAND_END_EXITED]);
  commands.confirm({ messageId: 'old', received: true });
  expect(commands.undelivered).toBe(0);
});
