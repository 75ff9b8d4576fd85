/**
 * Which runners are dead, told from their leases alone: a living runner renews each of its leases every second, so a
 * lease whose renewal count stood still for ten seconds belongs to a dead one. Pure; the clock is the caller's.
 *
 * What must never happen is that a living runner is declared lost because *we* did not look, or because Redis was away
 * and nobody could renew. So silence counts only while observations follow each other closely: after a longer gap all
 * that was seen before is forgotten, and ten new seconds of looking are needed.
 */
import type { Lease } from '@carrierarr/store';

/** A lease that stood still for this long is lost, ms. Renewals come each second. */
export const LOST_AFTER_MS = 10_000;
/** Longest pause between two observations that still counts as looking, ms. */
export const OBSERVATION_GAP_MS_MAX = 4_000;

interface Sighting {
  execution: string;
  incarnation: string;
  beat: string;
  /** When this beat had been seen for the first time. */
  sinceMs: number;
}

/** One look at every lease. Times are of one monotonic clock, ms. */
export interface Observation {
  leases: readonly Lease[];
  /** Before Redis was asked. */
  askedMs: number;
  /** When the last answer was there. */
  answeredMs: number;
}

export class LostDetector {
  #sightings = new Map<string, Sighting>();
  #lastMs: number | undefined;

  /** Takes a look into account; returns the leases that are lost, with how long their runner was silent at least. */
  observe({ leases, askedMs, answeredMs }: Observation): { lease: Lease; silentMs: number }[] {
    // The look itself counts as a gap too: what was read at its begin may be old at its end.
    const isContinuous = this.#lastMs !== undefined && answeredMs - this.#lastMs <= OBSERVATION_GAP_MS_MAX;
    this.#lastMs = answeredMs;
    const before = isContinuous ? this.#sightings : new Map<string, Sighting>();
    const now = new Map<string, Sighting>();
    const lost: { lease: Lease; silentMs: number }[] = [];
    for (const lease of leases) {
      if (lease.state !== 'running') continue;
      const seen = before.get(lease.target);
      const isStill =
        seen !== undefined &&
        seen.execution === lease.execution &&
        seen.incarnation === lease.incarnation &&
        seen.beat === lease.beat;
      const sighting = isStill ? seen : { ...lease, sinceMs: answeredMs };
      now.set(lease.target, sighting);
      // Silent from when the beat had been read first until the question that found it unchanged was sent.
      const silentMs = askedMs - sighting.sinceMs;
      if (silentMs >= LOST_AFTER_MS) lost.push({ lease, silentMs });
    }
    this.#sightings = now;
    return lost;
  }
}
