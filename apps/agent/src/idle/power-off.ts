/**
 * Runs what powers the machine off, for a bounded time: one that hangs would else be the last attempt ever.
 *
 * It needs no file of its own, as the programs of commands do: a full disk is no reason to leave a machine on.
 */
import { spawn } from 'node:child_process';
import type { Clock } from '@carrierarr/platform';

export interface PowerOffOptions {
  argv: readonly string[];
  /** The whole environment. */
  env: NodeJS.ProcessEnv;
  clock: Clock;
}

/** `systemctl poweroff` returns at once. */
export const POWER_OFF_WAIT_MS = 60_000;
const OUTPUT_CHARS_MAX = 4_000;

/** Resolves once it has ended with 0. Rejects with what it said instead, or when it was killed as it took too long. */
export function runPowerOff({ argv, env, clock }: PowerOffOptions): Promise<void> {
  const [file = '', ...args] = argv;
  const expected = `Expected \`${argv.join(' ')}\` to power off`;
  return new Promise((resolve, reject) => {
    // In a group of its own, so that what it has started is killed with it.
    const child = spawn(file, args, { env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    const hear = (chunk: Buffer) => (said = (said + chunk.toString()).slice(0, OUTPUT_CHARS_MAX));
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    const timer = clock.setTimeout(() => {
      killGroup(child.pid);
      // Not waited for: in uninterruptible sleep it dies of nothing.
      child.unref();
      reject(new Error(`${expected} within ${POWER_OFF_WAIT_MS / 1000} s; it was killed: ${said.trim()}`));
    }, POWER_OFF_WAIT_MS);
    child.once('error', (cause) => {
      timer.cancel();
      reject(new Error(`${expected}, it could not be started: ${cause.message}`, { cause }));
    });
    // What it left behind may still hold its output.
    child.once('exit', (code) => {
      if (code !== 0) return;
      timer.cancel();
      resolve();
    });
    // By now everything that it said is here.
    child.once('close', (code, signal) => {
      timer.cancel();
      reject(new Error(`${expected}, it ended with ${code ?? signal}: ${said.trim()}`));
    });
  });
}

function killGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // It has just ended.
  }
}
