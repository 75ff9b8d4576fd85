import type { Clock } from '@carrierarr/platform';

/** Resolves after `ms`, or as soon as the signal is given. Leaves nothing at the signal. */
export function pause(clock: Pick<Clock, 'setTimeout'>, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const finish = () => {
      timer.cancel();
      signal.removeEventListener('abort', finish);
      resolve();
    };
    const timer = clock.setTimeout(finish, ms);
    signal.addEventListener('abort', finish, { once: true });
  });
}
