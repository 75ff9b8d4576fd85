/**
 * What listening to every target needs beside the places: each partition's own sequence, which every entry of its
 * targets raises. A hole in it means that news of some target was missed; Redis then says which targets changed. Here
 * unknown targets are met, live or by such a repair.
 */
import type { Logger } from '@carrierarr/platform';
import { PARTITIONS, partitionOf, type PlacedEntry } from '@carrierarr/protocol';
import type { OutputLog } from '@carrierarr/store';
import type { Place } from './place.js';
import type { Places, RepairReason } from './places.js';
import type { TailListener } from './tail-listener.js';

interface Partition {
  /** Sequence of the last entry seen in order; undefined until known. */
  sequence: number | undefined;
  /** Sequence that the last audit saw in Redis; must be reached by the next one. */
  expected: number;
  /** While its targets are looked for: the sequence after which. */
  repairingSince: number | undefined;
  /** Unknown targets that had entries meanwhile. */
  readonly met: Set<string>;
}

export interface PartitionsOptions {
  places: Places;
  log: OutputLog;
  listener: Pick<TailListener, 'discovered'>;
  logger: Logger;
}

/** Changed targets asked for at once. */
export const CHANGED_TARGETS_MAX = 5_000;
/** By how much a partition's sequence must go back to be taken for data loss at once, not for a late reply. */
const REWOUND = 10_000;
const ALL_PARTITIONS = Array.from({ length: PARTITIONS }, (_, p) => p);

export class Partitions {
  readonly #o: PartitionsOptions;
  readonly #partitions: Partition[] = ALL_PARTITIONS.map(() => ({
    sequence: undefined,
    expected: 0,
    repairingSince: undefined,
    met: new Set(),
  }));
  #isHeard = false;

  constructor(options: PartitionsOptions) {
    this.#o = options;
  }

  /** True while entries of every target come, or are about to: in `all` mode. */
  get isHeard(): boolean {
    return this.#isHeard;
  }

  /** The `all` mode begins: from now on what comes is taken account of. */
  open(): void {
    this.#isHeard = true;
  }

  /** The partitions' channels are subscribed to, and Redis was asked after that: nothing from here on is missed. */
  begin(sequences: readonly number[]): void {
    for (const [p, sequence] of sequences.entries()) {
      const partition = this.#of(p);
      partition.sequence ??= sequence;
      partition.expected = 0;
    }
    this.#o.places.everythingBegins((p) => this.servedTo(p));
  }

  /** The `all` mode ends. */
  close(): void {
    this.#isHeard = false;
    for (const partition of this.#partitions) partition.sequence = undefined;
  }

  /** Up to where watchers of everything have had a partition's entries; undefined if they have not begun. */
  servedTo(p: number): number | undefined {
    if (!this.#isHeard) return undefined;
    const partition = this.#of(p);
    return partition.repairingSince ?? partition.sequence;
  }

  /** The partitions' sequences in Redis now. */
  askRedis(): Promise<number[]> {
    return Promise.all(ALL_PARTITIONS.map((p) => this.#o.log.partitionSequence(p)));
  }

  /** Takes a live entry: keeps account of its partition's sequence, and meets new targets. */
  pass(placed: PlacedEntry): void {
    const p = partitionOf(placed.target);
    const partition = this.#of(p);
    const before = partition.sequence;
    const sequence = placed.partitionSequence;
    const inOrder = before === undefined || sequence <= before + 1;
    if (!inOrder && partition.repairingSince === undefined) void this.#repair(p, before, 'hole');
    if (before === undefined || sequence > before || sequence < before - REWOUND) partition.sequence = sequence;
    if (this.#o.places.get(placed.target) !== undefined) return;
    if (partition.repairingSince !== undefined) partition.met.add(placed.target);
    else this.#discover(placed.target, placed.epoch, placed.last - placed.count);
  }

  #discover(target: string, epoch: string, after: number): Place | undefined {
    if (!this.#o.listener.discovered(target, epoch, after)) return undefined;
    return this.#o.places.add(target, this.servedTo(partitionOf(target)), { epoch, after });
  }

  // --- repair ----------------------------------------------------------------------------------------------------

  /** Looks in each partition for what was published while nobody listened. */
  reconnected(): void {
    if (!this.#isHeard) return;
    for (const [p, { sequence }] of this.#partitions.entries())
      if (sequence !== undefined) void this.#repair(p, sequence, 'reconnect');
  }

  /** Compares with what Redis says: what it said at the last audit must have come by now. */
  async audit(): Promise<void> {
    // What was seen before Redis is asked is in its answer, unless Redis has forgotten it.
    const seen = this.#partitions.map((partition) => partition.sequence);
    const sequences = await this.askRedis();
    for (const [p, sequence] of sequences.entries()) {
      const partition = this.#of(p);
      const known = partition.sequence;
      const before = seen[p];
      if (known === undefined || before === undefined) continue;
      if (sequence < before) {
        this.rewound(p, sequence);
        partition.expected = 0;
      } else if (known < partition.expected) {
        void this.#repair(p, known, 'audit');
        partition.expected = 0;
      } else {
        partition.expected = sequence;
      }
    }
  }

  /** Redis has forgotten the end of this partition's logs. */
  rewound(p: number, sequence: number): void {
    this.#of(p).sequence = sequence;
    this.#o.places.rewound(p);
  }

  /** Finds the targets of a partition that had entries after `since`, and repairs each. */
  async #repair(p: number, since: number, reason: RepairReason): Promise<void> {
    const partition = this.#of(p);
    if (partition.repairingSince !== undefined) return;
    partition.repairingSince = since;
    try {
      const { log, places } = this.#o;
      let from = since;
      for (;;) {
        const changed = await log.changedSince(p, from, CHANGED_TARGETS_MAX);
        for (const { target, sequence } of changed) {
          const place = places.get(target);
          if (place === undefined) await this.#meet(target, since, reason);
          else if (place.placed && place.sequence < sequence) void places.repair(place, reason);
          from = sequence;
        }
        if (changed.length < CHANGED_TARGETS_MAX) break;
      }
      for (const target of partition.met) await this.#meet(target, since, reason);
      if (partition.sequence !== undefined) partition.sequence = Math.max(partition.sequence, from);
    } catch (error) {
      // The next audit finds the same difference and tries again.
      if (partition.sequence !== undefined) partition.sequence = since;
      this.#o.logger.warn({ err: error, partition: p }, 'cannot repair a partition; the next audit tries again');
    } finally {
      partition.repairingSince = undefined;
      partition.met.clear();
    }
  }

  /** A target that is not followed had entries after `since`. */
  async #meet(target: string, since: number, reason: RepairReason): Promise<void> {
    const { log, places } = this.#o;
    if (places.get(target) !== undefined) return;
    const start = await log.sequenceStart(target, since);
    if (!this.#isHeard || places.get(target) !== undefined) return;
    const place = this.#discover(target, start.epoch ?? '', start.after);
    if (place !== undefined) void places.repair(place, reason);
  }

  #of(p: number): Partition {
    return this.#partitions[p] as Partition;
  }
}
