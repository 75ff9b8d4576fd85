/** How far one target has been handed on, and how a live entry relates to that. */
import { partitionOf, type PlacedEntry } from '@carrierarr/protocol';

/** Changed by {@link Places} alone. */
export interface Place {
  readonly target: string;
  readonly partition: number;
  epoch: string;
  last: number;
  /** Partition sequence of the last entry handed on. */
  sequence: number;
  /** Set while the log is read; live entries only raise `noticed`. */
  repairing: Promise<void> | undefined;
  noticed: number;
  /** Counts live entries met, to see that some came while the log was read. */
  news: number;
  /**
   * While it is not placed, in `all` mode: the partition sequence up to which watchers of everything have been served.
   * They must get what came after, whoever wanted the target by name.
   */
  servedTo: number | undefined;
  /** True once its position in the log is known. */
  placed: boolean;
}

/** A place that is not known yet. */
export function newPlace(target: string, servedTo: number | undefined): Place {
  return {
    ...{ target, partition: partitionOf(target), epoch: '', last: 0, sequence: 0 },
    ...{ repairing: undefined, noticed: 0, news: 0, servedTo, placed: false },
  };
}

/** The partition sequence up to which a place has heard of entries, whether or not they have been handed on. */
export function heardTo(place: Place): number {
  return Math.max(place.sequence, place.noticed);
}

/** Whether an entry comes `next`, is `known` already, or shows that the log must be read: a `hole`, another `epoch`. */
export function relation(place: Place, placed: PlacedEntry): 'next' | 'known' | 'hole' | 'epoch' {
  if (placed.epoch !== place.epoch && !isFresh(place)) return 'epoch';
  if (placed.last <= place.last) return 'known';
  return placed.last - placed.count > place.last ? 'hole' : 'next';
}

/** True if nothing of any log has been handed on, so that no epoch is another than before. */
export function isFresh(place: Place): boolean {
  return place.last === 0 && place.epoch === '';
}
