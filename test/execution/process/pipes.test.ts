import { write } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type OutputPipes, PipeFolder } from '../../../libs/execution/src/process/pipes.js';

let temporary: string;
const before = process.env['TMPDIR'];
beforeEach(async () => {
  temporary = await mkdtemp(join(before ?? tmpdir(), 'carrierarr-test-'));
  process.env['TMPDIR'] = temporary;
});
afterEach(async () => {
  if (before === undefined) delete process.env['TMPDIR'];
  else process.env['TMPDIR'] = before;
  await rm(temporary, { recursive: true, force: true });
});

/** Writes to both pipes and reads it back. */
async function echo(pipes: OutputPipes): Promise<string[]> {
  const texts = [pipes.stdout, pipes.stderr].map(async ({ reader }) => {
    let text = '';
    for await (const chunk of reader) text += String(chunk);
    return text;
  });
  await promisify(write)(pipes.stdout.writeFd, 'out');
  await promisify(write)(pipes.stderr.writeFd, 'err');
  await pipes.closeWriters();
  return Promise.all(texts);
}

const files = async () => (await readdir(temporary, { recursive: true })).filter((name) => /\.(out|err)$/.test(name));

describe('PipeFolder', () => {
  it('uses pipes again that are drained, and no others', async () => {
    const folder = new PipeFolder('runner');
    await folder.open();
    for (let i = 0; i < 3; i++) {
      const pipes = await folder.take();
      expect(await echo(pipes)).toEqual(['out', 'err']);
      await pipes.release(true);
    }
    expect(await files()).toHaveLength(2);
    const held = await folder.take();
    await held.release(false);
    expect(await files()).toEqual([]);
    await folder.close();
    expect(await readdir(temporary)).toEqual([]);
  });

  it('begins anew when its folder was tidied away', async () => {
    const folder = new PipeFolder('runner');
    await folder.open();
    await (await folder.take()).release(true);
    for (const name of await readdir(temporary)) await rm(join(temporary, name), { recursive: true });
    const pipes = await folder.take();
    expect(await echo(pipes)).toEqual(['out', 'err']);
    await pipes.release(true);
    await folder.close();
    await expect(folder.take()).rejects.toThrow(/stopped/);
  });

  it('removes the folders of runners that were killed', async () => {
    const dead = join(temporary, 'carrierarr-runner-4194305-abc');
    await mkdir(dead);
    const folder = new PipeFolder('runner');
    await folder.open();
    expect(await readdir(temporary)).toEqual([expect.stringContaining(`carrierarr-runner-${process.pid}-`)]);
    await folder.close();
  });
});
