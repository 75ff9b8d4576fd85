/** One agent for one state folder: the second is refused, and nobody is by what a dead one left. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { StateLock } from '../../apps/agent/src/state/state-lock.js';
import { endAgents, startAgent } from './support/agent-process.js';
import { temporaryFolder } from '../support/temporary-folder.js';

/** Enough to do. */
const FLAGS = ['--idle-shutdown', '10h'];

afterEach(endAgents);

it('refuses an agent whose state folder another agent has, until that one has stopped', async () => {
  const stateDir = temporaryFolder('agent-');
  const first = await startAgent({ flags: FLAGS, stateDir });
  const lock = new StateLock(stateDir);
  await expect(lock.take()).rejects.toThrow(`Another agent that runs here has the state folder ${stateDir}.`);
  await first.stop();
  await lock.take();
  await expect(startAgent({ flags: FLAGS, stateDir })).rejects.toThrow('--state-dir');
  await lock.release();
});

it('is held in a folder with a name longer than those of sockets may be', async () => {
  const stateDir = join(temporaryFolder('agent-'), 'x'.repeat(120), 'y'.repeat(120));
  const lock = new StateLock(stateDir);
  await lock.take();
  await expect(new StateLock(stateDir).take()).rejects.toThrow('Another agent');
  await lock.release();
});

it('takes over what a process left that was killed', async () => {
  const stateDir = temporaryFolder('agent-');
  const script = 'net.createServer().listen(process.argv[1], () => process.kill(process.pid, "SIGKILL"))';
  const child = spawn(process.execPath, ['-e', script, join(stateDir, 'lock')], { stdio: 'ignore' });
  await once(child, 'exit');
  const lock = new StateLock(stateDir);
  await lock.take();
  await expect(new StateLock(stateDir).take()).rejects.toThrow('Another agent');
  await lock.release();
});

it('is taken once, also by two who ask at the same time', async () => {
  const lock = new StateLock(temporaryFolder('agent-'));
  await Promise.all([lock.take(), lock.take()]);
  await lock.take();
  await lock.release();
});

it('says which folder cannot be used, and what to do', async () => {
  const folder = temporaryFolder('agent-');
  await writeFile(join(folder, 'file'), '');
  await expect(new StateLock(join(folder, 'file')).take()).rejects.toThrow(/file cannot be used: .*--state-dir/);
});
