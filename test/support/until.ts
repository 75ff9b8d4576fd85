/** Waiting for a condition of another process, which has no event to wait for. */

/** Between two looks: at first, and at most. What takes long is looked at less often, for each look is work for all. */
const PAUSE_MS_FIRST = 15;
const PAUSE_MS_MAX = 50;

/**
 * Resolves with the first value of `look` that is neither undefined nor false. Rejects with what was waited for after
 * `timeoutMs`. An error that `look` throws counts as "not yet", and is the cause of that rejection.
 */
export async function until<T>(
  what: string | (() => string),
  look: () => T | Promise<T>,
  timeoutMs = 15_000,
): Promise<Exclude<T, undefined | false>> {
  const deadline = Date.now() + timeoutMs;
  for (let pauseMs = PAUSE_MS_FIRST; ; pauseMs = Math.min(PAUSE_MS_MAX, pauseMs * 1.5)) {
    let cause: unknown;
    try {
      const found = await look();
      if (found !== undefined && found !== false) return found as Exclude<T, undefined | false>;
    } catch (error) {
      cause = error;
    }
    if (Date.now() >= deadline) {
      const text = typeof what === 'string' ? what : what();
      throw new Error(`Waited ${timeoutMs / 1000} s in vain: ${text}`, { cause });
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}
