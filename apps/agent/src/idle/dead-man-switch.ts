/**
 * Powers the machine off when it has been idle for long enough, whether or not any control plane is there. What it
 * decides from is kept on disk, so that an agent which is restarted again and again does not keep the machine alive.
 * Pure: the shell tells it times and does what it says.
 */

/** As it lies on disk. */
export interface SwitchState {
  /** Of the machine's boot in which this was written: idleness begins anew with each. */
  bootId: string;
  /** How long the machine had been idle at `seenMs`, ms. */
  idleMs: number;
  /** Epoch ms. */
  seenMs: number;
  /** Set by a control plane, ms; 0 is off. It counts as long as the flag is what it was then. */
  ordered?: { idleShutdownMs: number; flagMs: number };
}

export type SwitchAnswer = { kind: 'off' } | { kind: 'wait'; leftMs: number } | { kind: 'power-off'; idleMs: number };

/**
 * Of time in which nobody looked (the agent was away, the machine slept, its clock was set) no more counts as idle: what
 * went on meanwhile is not known. Not none, or an agent that ends again and again would keep the machine alive.
 */
export const UNSEEN_CREDIT_MS = 3 * 60_000;

/** Idle time after another `passedMs` in which nobody looked. */
export function idleAfter(idleMs: number, passedMs: number): number {
  return idleMs + Math.min(Math.max(0, passedMs), UNSEEN_CREDIT_MS);
}

/** How long the machine has been idle: what was kept and a part of the time since then, unless the machine began anew. */
export function idleMsAtStart(kept: Partial<SwitchState> | undefined, bootId: string, nowMs: number): number {
  // What older agents wrote says only since when, which is not how long somebody looked.
  if (kept?.bootId !== bootId || !(kept.idleMs !== undefined && kept.idleMs >= 0) || kept.seenMs === undefined)
    return 0;
  return idleAfter(kept.idleMs, nowMs - kept.seenMs);
}

/** What counts now: what a control plane ordered, until somebody changes the flag. */
export function idleShutdownMs(flagMs: number, ordered: SwitchState['ordered']): number {
  return ordered !== undefined && ordered.flagMs === flagMs ? ordered.idleShutdownMs : flagMs;
}

export function decideSwitch(limitMs: number, idleMs: number): SwitchAnswer {
  if (limitMs <= 0) return { kind: 'off' };
  return idleMs >= limitMs ? { kind: 'power-off', idleMs } : { kind: 'wait', leftMs: limitMs - idleMs };
}
