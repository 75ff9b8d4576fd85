/**
 * How long to wait until the next poll. Faster while something moves, slower the longer nothing does, and after errors
 * ever longer, spread by chance so that many who failed together do not return together. Pure.
 */

/** Polls come no faster than this, ms, unless the configured interval itself is shorter. */
export const FAST_POLL_MS_MIN = 5_000;
/** A fleet in transition is polled this many times as often. */
export const FAST_FACTOR = 6;
/** A fleet in which nothing changed for this many intervals is quiet. */
export const QUIET_AFTER_POLLS = 10;
/** Longest wait after errors, ms. */
export const ERROR_BACKOFF_MS_MAX = 300_000;

export interface Rhythm {
  /** Configured time between two polls, ms. */
  readonly pollMs: number;
  /** Bound for a quiet fleet, ms. */
  readonly pollMsMax: number;
  /** A worker is on its way from one state to another, or a command was given just now. */
  readonly isInTransition: boolean;
  /** How long nothing has changed, ms. */
  readonly quietForMs: number;
  /** Failed polls in a row. */
  readonly failures: number;
  /** Uniform in [0, 1). */
  readonly jitter: number;
}

/** Milliseconds from the begin of a poll to the begin of the next; after an error, from its end. */
export function nextPollMs({ pollMs, pollMsMax, isInTransition, quietForMs, failures, jitter }: Rhythm): number {
  if (failures > 0) {
    const boundMs = Math.min(ERROR_BACKOFF_MS_MAX, pollMs * 2 ** Math.min(failures - 1, 20));
    // The lower half is certain: an API that has just failed gets some rest.
    return Math.round(boundMs / 2 + (jitter * boundMs) / 2);
  }
  if (isInTransition) return Math.min(pollMs, Math.max(FAST_POLL_MS_MIN, Math.round(pollMs / FAST_FACTOR)));
  const quietAfterMs = QUIET_AFTER_POLLS * pollMs;
  // Twice as slow after twice the time, and so on up to the bound.
  const stretched = (pollMs * quietForMs) / quietAfterMs;
  return Math.round(Math.max(pollMs, Math.min(pollMsMax, stretched)));
}

/** States in which a worker does not stay, in the words of EC2, ECS and scripts, lower case. */
const TRANSITIONS = new Set([
  ...['pending', 'stopping', 'shutting-down', 'starting', 'terminating', 'rebooting'],
  ...['provisioning', 'activating', 'deactivating', 'deprovisioning'],
]);

/** True for a state that will be another one soon. */
export function isTransition(state: string): boolean {
  return TRANSITIONS.has(state.toLowerCase());
}
