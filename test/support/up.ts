/** `carrierarr up` as a newcomer starts it, on ports and in folders of its own. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFailed, onTestFinished } from 'vitest';
import { type Program, startProgram } from './programs.js';

export interface Up {
  program: Program;
  /** Where agents connect to. */
  agentsPort: number;
  stop: () => Promise<void>;
}

/** Resolves once it is ready. `redisUrl`: a Redis to use instead of one of its own. */
export async function launchUp({ redisUrl }: { redisUrl?: string } = {}): Promise<Up> {
  const folder = await mkdtemp(join(tmpdir(), 'carrierarr-up-'));
  const addresses = ['--addr', '127.0.0.1:0', '--grpc-addr', '127.0.0.1:0'];
  const redis = redisUrl === undefined ? ['--state-dir', join(folder, 'redis')] : ['--redis-url', redisUrl];
  const program = startProgram({
    name: 'carrierarr up',
    listens: /http:\/\/127\.0\.0\.1:(\d+)\D/,
    args: ['up', ...addresses, '--script', 'scripts/mock-worker.sh', ...redis],
    env: { MOCK_WORKER_STATE_DIR: join(folder, 'workers'), MOCK_WORKER_SPEED: '5' },
  });
  const stop = async () => {
    await program.stop();
    await rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  };
  try {
    await program.ready();
  } catch (error) {
    await stop();
    throw error;
  }
  const agentsPort = Number(/Agents connect to 127\.0\.0\.1:(\d+)/.exec(program.output())?.[1]);
  return { program, agentsPort, stop };
}

/** The same. Ends with the test, and shows what it wrote if that failed. */
export async function startUp(): Promise<Program> {
  const { program, stop } = await launchUp();
  onTestFinished(stop, 30_000);
  onTestFailed(() => void process.stderr.write(`\n--- carrierarr up wrote:\n${program.output().slice(-5000)}\n`));
  return program;
}
