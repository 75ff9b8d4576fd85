/**
 * Announced ends of instances, as the events queue tells of them. Polls do not show them, so they are remembered here and
 * shown with what the next poll finds. Bounded and forgotten with time.
 */
import type { Interruption } from '@carrierarr/protocol';

/** Instances that are remembered at once; the oldest is forgotten first. */
export const INTERRUPTIONS_MAX = 10_000;
/** An announced end is forgotten after this long: it has come by then, or it will not, ms. */
const KEPT_MS = { spot: 15 * 60_000, rebalance: 6 * 3_600_000, 'scheduled-event': 24 * 3_600_000 } as const;

export class Interruptions {
  readonly #byInstance = new Map<string, { interruption: Interruption; untilMs: number }>();

  /** Remembers one. A warning of the end itself is never replaced by mere advice to move. */
  note(instanceId: string, interruption: Interruption, nowMs: number): void {
    const known = this.of(instanceId, nowMs);
    if (known?.kind === 'spot' && interruption.kind !== 'spot') return;
    this.#byInstance.delete(instanceId);
    this.#byInstance.set(instanceId, { interruption, untilMs: nowMs + KEPT_MS[interruption.kind] });
    if (this.#byInstance.size <= INTERRUPTIONS_MAX) return;
    for (const oldest of this.#byInstance.keys()) {
      this.#byInstance.delete(oldest);
      return;
    }
  }

  of(instanceId: string, nowMs: number): Interruption | undefined {
    const known = this.#byInstance.get(instanceId);
    if (!known) return undefined;
    if (nowMs < known.untilMs) return known.interruption;
    this.#byInstance.delete(instanceId);
    return undefined;
  }
}
