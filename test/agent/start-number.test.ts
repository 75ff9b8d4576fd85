import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { createLogger } from '@carrierarr/platform';
import { expect, it } from 'vitest';
import { nextStartNumber } from '../../apps/agent/src/state/start-number.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const logger = createLogger({ program: 'test', level: 'silent', destination: new Writable() });

it('grows with each start, also when the clock was set back', async () => {
  const folder = temporaryFolder('agent-');
  const starts = [];
  for (const nowMs of [5_000, 6_000, 1_000, 6_002]) starts.push(await nextStartNumber(folder, nowMs, logger));
  expect(starts).toEqual([5_000, 6_000, 6_001, 6_002]);
});

it('is the time where nothing can be kept, or nobody can read what was', async () => {
  const folder = temporaryFolder('agent-');
  await writeFile(join(folder, 'start.json'), '{"number":"7"}');
  expect(await nextStartNumber(folder, 5_000, logger)).toBe(5_000);
  expect(await nextStartNumber(join(folder, 'start.json'), 6_000, logger)).toBe(6_000);
});
