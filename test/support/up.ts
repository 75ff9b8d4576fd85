/** `carrierarr up` as a newcomer starts it, on ports and in folders of its own. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFailed, onTestFinished } from 'vitest';
import { type Program, startProgram } from './programs.js';

/** Resolves once it is ready. Ends with the test, and shows what it wrote if that failed. */
export async function startUp(): Promise<Program> {
  const folder = await mkdtemp(join(tmpdir(), 'carrierarr-up-'));
  const addresses = ['--addr', '127.0.0.1:0', '--grpc-addr', '127.0.0.1:0'];
  const up = startProgram({
    name: 'carrierarr up',
    listens: /http:\/\/127\.0\.0\.1:(\d+)\D/,
    args: ['up', ...addresses, '--script', 'scripts/mock-worker.sh', '--state-dir', join(folder, 'redis')],
    env: { MOCK_WORKER_STATE_DIR: join(folder, 'workers'), MOCK_WORKER_SPEED: '5' },
  });
  onTestFinished(async () => {
    await up.stop();
    await rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }, 30_000);
  onTestFailed(() => void process.stderr.write(`\n--- carrierarr up wrote:\n${up.output().slice(-5000)}\n`));
  await up.ready();
  return up;
}
