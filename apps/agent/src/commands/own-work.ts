/**
 * Work that the agent does itself, written as a function that says lines and can be aborted. Why it failed is its last line: a
 * control plane that takes lines shows nothing else of it.
 */
import { deferred } from '@carrierarr/execution';
import type { Clock, Timer } from '@carrierarr/platform';
import type { Work, WorkOutput } from './work.js';

/** Resolves when it is done. Rejects with what went wrong. */
export type OwnTask = (say: (line: string) => void, signal: AbortSignal) => Promise<void>;

const FAILED = 1;
const TERMINATED = 143;
const LINE_CHARS_MAX = 10_000;

export function startOwn(task: OwnTask, output: WorkOutput, clock: Clock): Work {
  const abort = new AbortController();
  const exited = deferred<{ code: number; problem?: string }>();
  let timer: Timer | undefined;
  const write = (stream: 'o' | 'e', line: string) => output.bytes(stream, Buffer.from(`${line}\n`));
  const say = (line: string) => write('o', shortened(line));
  const end = (how: { code: number; problem?: string }) => {
    timer?.cancel();
    exited.resolve(how);
  };
  task(say, abort.signal).then(
    () => end({ code: 0 }),
    (error: Error) => {
      if (abort.signal.aborted) return end({ code: TERMINATED });
      const problem = shortened(error.message);
      write('e', problem);
      end({ code: FAILED, problem });
    },
  );
  return {
    exited: exited.promise,
    async finish() {
      output.end('o');
      output.end('e');
    },
    beat() {
      // It lives as long as this process does.
    },
    terminate(graceMs) {
      abort.abort();
      timer ??= clock.setTimeout(() => end({ code: TERMINATED }), graceMs);
    },
    kill() {
      abort.abort();
      end({ code: TERMINATED });
    },
    pause() {
      // It says a few lines only.
    },
    resume() {
      // As above.
    },
  };
}

/** As one line of a bounded length: it may hold what somebody else wrote. */
function shortened(text: string): string {
  return text.slice(0, LINE_CHARS_MAX).replaceAll('\n', ' ');
}
