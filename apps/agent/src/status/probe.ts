/** Runs a small program that tells something, for a moment only. */
import { type ChildProcess, execFile } from 'node:child_process';
import { systemClock } from '@carrierarr/platform';
import { StartGap } from './start-gap.js';

export type ProbeAnswer =
  | { kind: 'ok'; stdout: string }
  /** There is no such program. */
  | { kind: 'absent' }
  /** `exitCode`: it ended by itself, with that. */
  | { kind: 'failed'; problem: string; exitCode?: number };

const OUTPUT_BYTES_MAX = 1024 * 1024;
/** Of all probes of this process: a look begins five or so, and a command that comes then must not wait for all of them. */
const starts = new StartGap(systemClock, 50);

/** Never rejects. A program that hangs is killed after `timeoutMs`, and is not waited for. `onGone`: it is no more. */
export async function probe(
  file: string,
  args: readonly string[],
  timeoutMs: number,
  onGone: () => void = () => undefined,
): Promise<ProbeAnswer> {
  await starts.turn();
  return new Promise((resolve) => {
    const options = { timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: OUTPUT_BYTES_MAX } as const;
    let child: ChildProcess;
    try {
      child = execFile(file, [...args], options, (error, stdout) => {
        if (error === null) return resolve({ kind: 'ok', stdout });
        const { code, killed, message } = error;
        if (code === ('ENOENT' as unknown)) return resolve({ kind: 'absent' });
        const problem = killed ? `no answer within ${timeoutMs / 1000} s` : (message.split('\n')[0] ?? message);
        resolve({ kind: 'failed', problem, ...(typeof code === 'number' && { exitCode: code }) });
      });
    } catch (error) {
      // Node tells of few errors of a start by an event (EACCES, EAGAIN, EMFILE, ENFILE, ENOENT), and throws all others.
      onGone();
      return resolve({ kind: 'failed', problem: (error as Error).message });
    }
    child.once('exit', onGone);
    child.once('error', () => child.pid === undefined && onGone());
    // A child in uninterruptible sleep, as a broken GPU driver makes them, dies of nothing: do not wait for its end.
    setTimeout(
      () => resolve({ kind: 'failed', problem: `no answer within ${timeoutMs / 1000} s` }),
      timeoutMs + 500,
    ).unref();
  });
}

/** Runs one program again and again, never beside itself: those that a broken driver holds for ever would pile up. */
export class RepeatedProbe {
  readonly #file: string;
  #isRunning = false;

  constructor(file: string) {
    this.#file = file;
  }

  /** As {@link probe}. Fails at once while the one before has not ended. */
  async run(args: readonly string[], timeoutMs: number): Promise<ProbeAnswer> {
    if (this.#isRunning) return { kind: 'failed', problem: 'the one before has not ended yet' };
    this.#isRunning = true;
    return probe(this.#file, args, timeoutMs, () => (this.#isRunning = false));
  }
}
