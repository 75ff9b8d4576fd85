import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FakeClock } from '@carrierarr/platform';
import { expect, it } from 'vitest';
import { POWER_OFF_WAIT_MS, runPowerOff } from '../../../apps/agent/src/idle/power-off.js';
import { isRunning } from '../../support/processes.js';
import { temporaryFolder } from '../../support/temporary-folder.js';
import { until } from '../../support/until.js';

const sh = (script: string, clock = new FakeClock()) =>
  runPowerOff({ argv: ['sh', '-c', script], env: process.env, clock });

it('resolves once the program has ended with 0', async () => {
  await sh('exit 0');
});

it('says with what the program ended, and what it wrote', async () => {
  await expect(sh('echo "Access denied" >&2; exit 4')).rejects.toThrow(/ended with 4: Access denied/);
  const missing = runPowerOff({ argv: ['/nonexistent/off'], env: {}, clock: new FakeClock() });
  await expect(missing).rejects.toThrow(/could not be started: .*ENOENT/);
});

it('kills a program that hangs, and what that has started', async () => {
  const file = join(temporaryFolder('agent-'), 'pid');
  const clock = new FakeClock();
  const off = sh(`sleep 1000 & echo $! >${file}; wait`, clock);
  const pid = await until('the program', async () => Number(await readFile(file, 'utf8').catch(() => '')));
  clock.advance(POWER_OFF_WAIT_MS);
  await expect(off).rejects.toThrow('within 60 s; it was killed');
  await until('the end of what it started', () => !isRunning(pid));
});
