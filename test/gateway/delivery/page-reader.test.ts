import type { PlacedEntry } from '@carrierarr/protocol';
import type { LogPage } from '@carrierarr/store';
import { expect, it } from 'vitest';
import { PageReader } from '../../../apps/gateway/src/delivery/page-reader.js';

const MEBIBYTE = Buffer.alloc(1024 * 1024, 'x');

/** Logs whose entries are one line of a mebibyte each; a page has one of them. */
function reader() {
  const reads: string[] = [];
  const pages = new PageReader({
    read(target, after): Promise<LogPage> {
      reads.push(`${target} ${after}`);
      const last = after + 1;
      const entry: PlacedEntry = {
        ...{ target, epoch: 'e', last, count: 1, partitionSequence: last, loggedMs: 1 },
        entry: {
          ...{ kind: 'lines', execution: 'x', sequence: last, timeMs: 1, body: MEBIBYTE },
          runs: [{ stream: 'o', lines: 1 }],
        },
      };
      return Promise.resolve({ epoch: 'e', first: 1, last: 1_000, entries: [entry] });
    },
  });
  return { pages, reads };
}

it('keeps the newest pages of all targets together, within a bound of bytes', async () => {
  const { pages, reads } = reader();
  for (let after = 0; after < 10; after++) for (const target of ['a', 'b', 'c']) await pages.read(target, after, 'e');
  expect(reads).toHaveLength(30);
  // Fifteen fit: the last five of each.
  for (const target of ['c', 'b', 'a']) for (let after = 9; after >= 5; after--) await pages.read(target, after, 'e');
  expect(reads).toHaveLength(30);
  await pages.read('a', 4, 'e');
  expect(reads).toHaveLength(31);
});

it('reads again for another epoch, and after all was forgotten', async () => {
  const { pages, reads } = reader();
  await pages.read('a', 0, 'e');
  await pages.read('a', 0, 'e');
  expect(reads).toHaveLength(1);
  await pages.read('a', 0, 'f');
  expect(reads).toHaveLength(2);
  pages.clear();
  await pages.read('a', 0, 'e');
  expect(reads).toHaveLength(3);
});

it('does not keep what was being read when all was forgotten', async () => {
  const { pages, reads } = reader();
  const reading = pages.read('a', 0, 'e');
  pages.clear();
  await reading;
  await pages.read('a', 0, 'e');
  expect(reads).toHaveLength(2);
});
