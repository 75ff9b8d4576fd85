/**
 * Powers the machine off when it has been idle for long enough, whether or not any control plane is there. What it
 * decides from is kept on disk, so that an agent which is restarted again and again does not keep the machine alive.
 * Pure: the shell tells it times and does what it says.
 */

/** As it lies on disk. Times are epoch ms. */
export interface SwitchState {
  /** Of the machine's boot in which this was written: idleness begins anew with each. */
  bootId: string;
  busyMs: number;
  /** Set by a control plane, ms; 0 is off. It counts as long as the flag is what it was then. */
  ordered?: { idleShutdownMs: number; flagMs: number };
}

export type SwitchAnswer = { kind: 'off' } | { kind: 'wait'; leftMs: number } | { kind: 'power-off'; idleMs: number };

/** When the machine was last busy, on the epoch clock: what was kept, unless the machine or the clock began anew. */
export function busyMsAtStart(kept: SwitchState | undefined, bootId: string, nowMs: number): number {
  if (kept === undefined || kept.bootId !== bootId || !(kept.busyMs <= nowMs)) return nowMs;
  return kept.busyMs;
}

/** What counts now: what a control plane ordered, until somebody changes the flag. */
export function idleShutdownMs(flagMs: number, ordered: SwitchState['ordered']): number {
  return ordered !== undefined && ordered.flagMs === flagMs ? ordered.idleShutdownMs : flagMs;
}

export function decideSwitch(limitMs: number, idleMs: number): SwitchAnswer {
  if (limitMs <= 0) return { kind: 'off' };
  return idleMs >= limitMs ? { kind: 'power-off', idleMs } : { kind: 'wait', leftMs: limitMs - idleMs };
}
