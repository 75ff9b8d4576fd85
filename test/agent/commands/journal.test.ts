import { existsSync } from 'node:fs';
import { appendFile, type FileHandle, open, readFile, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { CommandEnd } from '@carrierarr/protocol/agent-control';
import { expect, it, onTestFinished, vi } from 'vitest';
import { Journal } from '../../../apps/agent/src/commands/journal.js';
import { emptyResult } from '../../../apps/agent/src/commands/running-command.js';
import { temporaryFolder } from '../../support/temporary-folder.js';

const BOUNDS = { resultsMax: 100, resultBytesMax: 1024 * 1024 };

async function opened(folder: string, bounds = BOUNDS) {
  const dropped: string[] = [];
  const hold = () => Promise.resolve();
  const journal = new Journal({ folder, hold, ...bounds, onDropped: ({ id }) => dropped.push(id) });
  await journal.open();
  onTestFinished(() => journal.close());
  return { journal, dropped };
}

const result = (id: string, stdout = '') => ({ ...emptyResult(id, 1), stdout, end: CommandEnd.COMMAND_END_EXITED });

it('knows after a restart what was seen, what has ended, and what is delivered', async () => {
  const folder = temporaryFolder('agent-');
  const { journal } = await opened(folder);
  for (const id of ['a', 'b', 'c']) await journal.see(id, 5, 1);
  await journal.end(result('b', 'text'));
  await journal.end(result('c', 'text'));
  await journal.deliver('c');
  // No close: the process was killed.
  const { journal: next } = await opened(folder);
  expect(next.unended().map(({ id, fence }) => [id, fence])).toEqual([['a', 5]]);
  expect(next.undelivered().map(({ id }) => id)).toEqual(['b']);
  expect(next.find('b')?.result?.stdout).toBe('text');
  expect(next.find('c')).toMatchObject({ isDelivered: true, result: { stdout: '' } });
  expect(next.find('d')).toBeUndefined();
});

it('ignores a line that was cut off, and goes on behind it', async () => {
  const folder = temporaryFolder('agent-');
  const { journal } = await opened(folder);
  await journal.see('a', 1, 1);
  await appendFile(join(folder, 'commands.jsonl'), '{"kind":"seen","id":"b"');
  const { journal: next } = await opened(folder);
  expect(next.find('a')).toBeDefined();
  expect(next.find('b')).toBeUndefined();
  await next.see('c', 1, 1);
  const { journal: last } = await opened(folder);
  expect(last.find('c')).toBeDefined();
});

/** The next append writes half of its text, as on a disk that becomes full meanwhile. */
async function fillDiskAtNextAppend(folder: string): Promise<void> {
  const some = await open(join(folder, 'some'), 'w');
  const prototype = Object.getPrototypeOf(some) as FileHandle;
  await some.close();
  vi.spyOn(prototype, 'appendFile').mockImplementationOnce(async function (this: FileHandle, text) {
    await this.write(String(text).slice(0, String(text).length / 2));
    throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
  });
  onTestFinished(() => void vi.restoreAllMocks());
}

it('remembers a command whose line follows one that a full disk cut off', async () => {
  const folder = temporaryFolder('agent-');
  const { journal } = await opened(folder);
  await journal.see('a', 1, 1);
  await fillDiskAtNextAppend(folder);
  await expect(journal.see('b', 1, 1)).rejects.toThrow('ENOSPC');
  expect(journal.find('b')).toBeUndefined();
  await journal.see('c', 1, 1);
  const { journal: next } = await opened(folder);
  expect(next.unended().map(({ id }) => id)).toEqual(['a', 'c']);
});

it('writes a result that a full disk did not take with the next line', async () => {
  const folder = temporaryFolder('agent-');
  const { journal } = await opened(folder);
  await journal.see('a', 1, 1);
  await fillDiskAtNextAppend(folder);
  await expect(journal.end(result('a', 'text'))).rejects.toThrow('ENOSPC');
  await journal.see('b', 1, 1);
  const { journal: next } = await opened(folder);
  expect(next.undelivered().map(({ id }) => id)).toEqual(['a']);
});

it.runIf(existsSync('/dev/full'))(
  'opens on a full disk, takes nothing there, and goes on once there is room',
  async () => {
    const folder = temporaryFolder('agent-');
    await (await opened(folder)).journal.see('a', 1, 1);
    await symlink('/dev/full', join(folder, 'commands.jsonl.next'));
    const { journal } = await opened(folder);
    expect(journal.problem?.message).toContain('ENOSPC');
    expect(journal.find('a')).toBeDefined();
    await expect(journal.see('b', 1, 1)).rejects.toThrow('ENOSPC');
    await rm(join(folder, 'commands.jsonl.next'));
    await journal.see('b', 1, 1);
    expect(journal.problem).toBeUndefined();
    const { journal: next } = await opened(folder);
    expect(next.unended().map(({ id }) => id)).toEqual(['a', 'b']);
  },
);

it('takes nothing, and leaves the file alone, when that cannot be read', async () => {
  const folder = temporaryFolder('agent-');
  // A folder in its place; permissions do not hold root off.
  await (await opened(join(folder, 'commands.jsonl'))).journal.close();
  const { journal } = await opened(folder);
  expect(journal.problem?.message).toContain('EISDIR');
  await expect(journal.see('a', 1, 1)).rejects.toThrow('EISDIR');
  await expect(journal.repair()).rejects.toThrow('EISDIR');
});

it('knows what earlier lives left once its folder can be read, and takes nothing before', async () => {
  const parent = temporaryFolder('agent-');
  await (await opened(join(parent, 'real'))).journal.see('a', 1, 1);
  await symlink(join(parent, 'real', 'commands.jsonl'), join(parent, 'here'));
  // Below a file there is no folder.
  const { journal } = await opened(join(parent, 'here'));
  expect(journal.problem?.message).toMatch(/^The state folder .*here cannot be used: .*--state-dir/);
  await expect(journal.see('a', 1, 1)).rejects.toThrow();
  await rm(join(parent, 'here'));
  await symlink(join(parent, 'real'), join(parent, 'here'));
  await journal.repair();
  await journal.see('b', 1, 1);
  expect(journal.unended().map(({ id }) => id)).toEqual(['a']);
  await journal.repair();
  expect(journal.problem).toBeUndefined();
  await journal.end(result('a'));
  expect(journal.unended()).toEqual([]);
});

it('writes nothing into a folder that another agent has', async () => {
  const folder = temporaryFolder('agent-');
  let isOurs = false;
  const hold = async () => {
    if (!isOurs) throw new Error('Another agent has it.');
  };
  const journal = new Journal({ folder, hold, ...BOUNDS, onDropped: () => undefined });
  onTestFinished(() => journal.close());
  await journal.open();
  await expect(journal.see('a', 1, 1)).rejects.toThrow('Another agent has it.');
  expect(existsSync(join(folder, 'commands.jsonl'))).toBe(false);
  isOurs = true;
  await journal.see('a', 1, 1);
  expect(existsSync(join(folder, 'commands.jsonl'))).toBe(true);
});

it('drops the oldest results beyond its bounds, and says which', async () => {
  const folder = temporaryFolder('agent-');
  const { journal, dropped } = await opened(folder, { ...BOUNDS, resultsMax: 3 });
  for (let i = 0; i < 5; i++) {
    await journal.see(`c${i}`, 1, i);
    await journal.end(result(`c${i}`));
  }
  expect(dropped).toEqual(['c0', 'c1']);
  expect(journal.undelivered().map(({ id }) => id)).toEqual(['c2', 'c3', 'c4']);
});

it('bounds the bytes of results, but keeps the newest whatever its size', async () => {
  const folder = temporaryFolder('agent-');
  const { journal, dropped } = await opened(folder, { resultsMax: 100, resultBytesMax: 10_000 });
  for (const [id, bytes] of [
    ['a', 4_000],
    ['b', 4_000],
    ['c', 50_000],
  ] as const) {
    await journal.see(id, 1, 1);
    await journal.end(result(id, 'x'.repeat(bytes)));
  }
  expect(dropped).toEqual(['a', 'b']);
  await journal.deliver('c');
  expect(journal.resultBytes).toBe(0);
});

it('forgets ids of delivered commands at last, and keeps its file small', async () => {
  const folder = temporaryFolder('agent-');
  const { journal } = await opened(folder);
  const work: Promise<void>[] = [];
  for (let i = 0; i < 4_000; i++)
    work.push(journal.see(`c${i}`, 1, i), journal.end(result(`c${i}`)), journal.deliver(`c${i}`));
  await Promise.all(work);
  expect(journal.find('c0')).toBeUndefined();
  expect(journal.find('c3999')).toBeDefined();
  const lines = (await readFile(join(folder, 'commands.jsonl'), 'utf8')).split('\n').length;
  expect(lines).toBeLessThan(12_000);
  await journal.close();
});
