/** Runs a small program that tells something, for a moment only. */
import { execFile } from 'node:child_process';

export type ProbeAnswer =
  | { kind: 'ok'; stdout: string }
  /** There is no such program. */
  | { kind: 'absent' }
  | { kind: 'failed'; problem: string };

const OUTPUT_BYTES_MAX = 1024 * 1024;

/** Never rejects. A program that hangs is killed after `timeoutMs`, and is not waited for. */
export function probe(file: string, args: readonly string[], timeoutMs: number): Promise<ProbeAnswer> {
  return new Promise((resolve) => {
    const options = { timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: OUTPUT_BYTES_MAX } as const;
    execFile(file, [...args], options, (error, stdout) => {
      if (error === null) return resolve({ kind: 'ok', stdout });
      const { code, killed, message } = error;
      if (code === ('ENOENT' as unknown)) return resolve({ kind: 'absent' });
      const problem = killed ? `no answer within ${timeoutMs / 1000} s` : (message.split('\n')[0] ?? message);
      resolve({ kind: 'failed', problem });
    });
    // A child in uninterruptible sleep, as a broken GPU driver makes them, dies of nothing: do not wait for its end.
    setTimeout(
      () => resolve({ kind: 'failed', problem: `no answer within ${timeoutMs / 1000} s` }),
      timeoutMs + 500,
    ).unref();
  });
}
