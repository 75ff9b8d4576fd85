/** Who is told of the entries of the followed targets, of each target in order. */
import type { PlacedEntry } from '@carrierarr/protocol';
import type { Gap } from '../encode.js';

export interface TailListener {
  /** It is known where a target's log ends: entries follow from there. */
  placed(target: string, epoch: string, last: number): void;
  entry(placed: PlacedEntry): void;
  /** Entries are lost to this gateway; what follows comes after `gap.to`, in epoch `gap.epoch`. */
  gap(gap: Gap): void;
  /** In `all` mode: a target not followed by name has an entry, after `after`. True to follow it from there. */
  discovered(target: string, epoch: string, after: number): boolean;
}
