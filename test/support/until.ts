/** Waiting for a condition of another process, which has no event to wait for. */

const POLL_MS = 15;

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
  for (;;) {
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
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
