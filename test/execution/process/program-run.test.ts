/** A real program under the real watchdog. */
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { access, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deferred, PipeFolder, ProgramRun } from '@carrierarr/execution';
import { systemClock } from '@carrierarr/platform';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { until } from '../../support/until.js';

const pipes = new PipeFolder('test');
let folder: string;
beforeAll(async () => {
  await pipes.open();
  folder = await mkdtemp(join(tmpdir(), 'carrierarr-program-run-'));
});
afterAll(async () => {
  await pipes.close();
  await rm(folder, { recursive: true, force: true });
});

it('hands over no output before whoever started it can tell it to pause, and all of it afterwards', async () => {
  const mayClose = deferred<void>();
  let read = 0;
  const slow = {
    take: async () => {
      const taken = await pipes.take();
      const closeWriters = () => mayClose.promise.then(() => taken.closeWriters());
      return { ...taken, closeWriters };
    },
  };
  const written = join(folder, 'written');
  const starting = ProgramRun.start({
    ...{ script: '/bin/sh', args: ['-c', `head -c 10000 /dev/zero; : >'${written}'; head -c 1000000 /dev/zero`] },
    ...{ env: { PATH: process.env['PATH'] ?? '' }, clock: systemClock, folder: slow },
    onOutput: (_stream, chunk) => void (read += chunk.length),
    onOutputEnd: () => undefined,
  });
  await until('it to write', () => access(written).then(() => true));
  expect(read).toBe(0);
  mayClose.resolve();
  const run = await starting;
  run.pause();
  const beat = systemClock.setInterval(() => run.beat(), 1_000);
  // It cannot end: more is to come than a pipe holds.
  expect(await Promise.race([run.exited, new Promise((resolve) => setImmediate(() => resolve('runs')))])).toBe('runs');
  expect(read).toBe(0);
  run.resume();
  expect(await run.exited).toEqual({ code: 0 });
  await run.finish();
  beat.cancel();
  expect(read).toBe(1_010_000);
});

it('sees the end of a stream on which nothing came, however early that is known', async () => {
  // The program has ended, and one of its streams with it, before the other end of the second is closed.
  const uneven = {
    take: async () => {
      const taken = await pipes.take();
      const closeWriters = async () => {
        closeSync(taken.stdout.writeFd);
        await once(taken.stdout.reader, 'end');
        closeSync(taken.stderr.writeFd);
      };
      return { ...taken, closeWriters, release: async () => void taken.stdout.reader.destroy() };
    },
  };
  const ends: string[] = [];
  const escapes: string[] = [];
  const run = await ProgramRun.start({
    ...{ script: '/bin/sh', args: ['-c', 'exit 3'], env: { PATH: process.env['PATH'] ?? '' } },
    ...{ clock: systemClock, folder: uneven },
    onOutput: () => undefined,
    onOutputEnd: (stream) => ends.push(stream),
    onEscape: () => escapes.push('escape'),
  });
  expect(await run.exited).toEqual({ code: 3 });
  await run.finish();
  expect([ends.toSorted(), escapes]).toEqual([['e', 'o'], []]);
});
