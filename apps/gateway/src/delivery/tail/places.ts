/**
 * The followed targets, each with its place: hands their entries on in order and without holes.
 *
 * A live entry that follows its place is handed on at once. Any other starts a *repair*, which reads the log from
 * the place until its end. What comes live meanwhile is only noticed: the repair finds it in the log.
 */
import { type Clock, type Logger, sleep } from '@carrierarr/platform';
import type { PlacedEntry } from '@carrierarr/protocol';
import type { LogPage, OutputLog } from '@carrierarr/store';
import { Turns } from '../turns.js';
import { isFresh, newPlace, type Place, relation } from './place.js';
import { retryDelayMs } from './retry-delay.js';
import type { TailListener } from './tail-listener.js';

export type RepairReason = 'hole' | 'epoch' | 'audit' | 'reconnect' | 'start';

export interface RepairMetrics {
  repairs(reason: RepairReason): void;
  gaps(lines: number): void;
}

export interface PlacesOptions {
  log: OutputLog;
  listener: TailListener;
  clock: Clock;
  logger: Logger;
  metrics: RepairMetrics;
  stopping: AbortSignal;
}

/** Entries of the first page: how large they are is not known yet. */
const FIRST_PAGE_ENTRIES = 64;
const PAGE_BYTES = 512 * 1024;
const PAGE_ENTRIES_MAX = 512;
/** Repairs that read at once: after a reconnect every followed target wants one. */
const REPAIRS_AT_ONCE_MAX = 16;

export class Places {
  readonly #o: PlacesOptions;
  readonly #places = new Map<string, Place>();
  readonly #turns = new Turns(REPAIRS_AT_ONCE_MAX);

  constructor(options: PlacesOptions) {
    this.#o = options;
  }

  get(target: string): Place | undefined {
    return this.#places.get(target);
  }

  all(): Iterable<Place> {
    return this.#places.values();
  }

  /** Adds a target: from a position that is known, or one that the first repair finds. */
  add(target: string, servedTo: number | undefined, from?: { epoch: string; after: number }): Place {
    const place = newPlace(target, servedTo);
    if (from !== undefined) {
      place.epoch = from.epoch;
      place.last = from.after;
      place.placed = true;
    }
    this.#places.set(target, place);
    return place;
  }

  /** False if the target was not followed. */
  delete(target: string): boolean {
    return this.#places.delete(target);
  }

  // --- live ------------------------------------------------------------------------------------------------------

  /** Takes a live entry. */
  pass(placed: PlacedEntry): void {
    const place = this.#places.get(placed.target);
    if (place === undefined) return;
    place.noticed = placed.partitionSequence;
    place.news += 1;
    if (place.repairing !== undefined || !place.placed) return;
    const how = relation(place, placed);
    if (how === 'next') this.#hand(place, placed);
    else if (how !== 'known') void this.repair(place, how);
  }

  #hand(place: Place, placed: PlacedEntry): void {
    if (placed.epoch !== place.epoch) place.epoch = placed.epoch;
    place.last = placed.last;
    place.sequence = placed.partitionSequence;
    this.#o.listener.entry(own(placed, place));
  }

  // --- when live entries are not enough --------------------------------------------------------------------------

  /** Watchers of everything are served from now on: targets whose place is still looked for must begin no later. */
  everythingBegins(servedTo: (partition: number) => number | undefined): void {
    for (const place of this.#places.values()) if (!place.placed) place.servedTo ??= servedTo(place.partition);
  }

  /** Reads every log: what was published while nobody listened is there. */
  reconnected(): void {
    for (const place of this.#places.values()) if (place.placed) void this.repair(place, 'reconnect');
  }

  /** Redis has forgotten the end of a partition's logs: compares each place with its log. */
  rewound(partition: number): void {
    for (const place of this.#places.values()) {
      if (place.partition !== partition) continue;
      place.sequence = 0;
      place.noticed = 0;
      if (place.placed) void this.repair(place, 'audit');
    }
  }

  /** Reads what the log has beyond the target's place, now. */
  async refresh(target: string): Promise<void> {
    const place = this.#places.get(target);
    if (place === undefined) return;
    // A read that is under way may have begun too early: it reads once more.
    place.news += 1;
    await this.repair(place, 'start');
  }

  // --- repair ----------------------------------------------------------------------------------------------------

  /** Reads the log from the place to its end. One at a time for each target; failures are tried again. */
  repair(place: Place, reason: RepairReason): Promise<void> {
    if (place.repairing === undefined) {
      this.#o.metrics.repairs(reason);
      place.repairing = this.#readToEnd(place).finally(() => {
        place.repairing = undefined;
      });
      place.repairing.catch(() => undefined);
    }
    return place.repairing;
  }

  async #readToEnd(place: Place): Promise<void> {
    let entriesMax = FIRST_PAGE_ENTRIES;
    for (let attempt = 0; ;) {
      if (this.#places.get(place.target) !== place || this.#o.stopping.aborted) return;
      let page: LogPage;
      const { servedTo } = place;
      let { news } = place;
      try {
        if (!place.placed && servedTo !== undefined) {
          const start = await this.#turns.take(() => this.#o.log.sequenceStart(place.target, servedTo));
          if (this.#places.get(place.target) !== place) return;
          this.#put(place, start.epoch ?? '', start.after);
          continue;
        }
        // A turn is for one read: one that fails waits outside, lest a lost shard hold up the targets of the others.
        page = await this.#turns.take(() => {
          ({ news } = place);
          return this.#o.log.read(place.target, place.placed ? place.last : Number.MAX_SAFE_INTEGER, entriesMax);
        });
      } catch (error) {
        attempt += 1;
        if (attempt === 1)
          this.#o.logger.warn({ err: error, target: place.target }, 'cannot read an output log; trying again');
        await sleep(this.#o.clock, retryDelayMs(attempt));
        continue;
      }
      attempt = 0;
      if (this.#places.get(place.target) !== place) return;
      if (!place.placed && place.servedTo !== servedTo) continue;
      this.#handPage(place, page);
      if (page.entries.length > 0) entriesMax = nextEntriesMax(page);
      // Entries published since the read began are in the log by now: one more read finds them.
      if (page.last <= place.last && place.news === news) return;
    }
  }

  #put(place: Place, epoch: string, last: number): void {
    place.placed = true;
    place.epoch = epoch;
    place.last = last;
    this.#o.listener.placed(place.target, epoch, last);
  }

  #handPage(place: Place, page: LogPage): void {
    const epoch = page.epoch ?? '';
    if (!place.placed) {
      this.#put(place, epoch, page.last);
      return;
    }
    if (epoch !== place.epoch || page.last < place.last) {
      this.#beginAnew(place, page);
      return;
    }
    for (const placed of page.entries) {
      if (placed.last <= place.last) continue;
      const first = placed.last - placed.count + 1;
      if (first > place.last + 1) this.#tellTrimmed(place, first - 1);
      this.#hand(place, placed);
    }
    if (page.entries.length === 0 && page.last > place.last) {
      this.#tellTrimmed(place, page.last);
      place.last = page.last;
    }
  }

  /** Another epoch, or a log that is shorter than what was handed on: Redis lost it, in whole or its newest part. */
  #beginAnew(place: Place, page: LogPage): void {
    const epoch = page.epoch ?? '';
    const fresh = isFresh(place);
    // Of another epoch all is new; of the same one what is left has been handed on.
    place.last = epoch === '' ? 0 : epoch === place.epoch ? page.last : page.first - 1;
    place.epoch = epoch;
    place.sequence = 0;
    place.noticed = 0;
    if (fresh) return;
    this.#o.metrics.gaps(0);
    this.#o.listener.gap({ target: place.target, epoch, from: 0, to: place.last, reason: 'epoch' });
  }

  /** What follows the place, up to `to`, is no longer in the log. */
  #tellTrimmed({ target, epoch, last }: Place, to: number): void {
    this.#o.metrics.gaps(to - last);
    this.#o.listener.gap({ target, epoch, from: last + 1, to, reason: 'trimmed' });
  }
}

/** Entries to ask for after a page: as many as make a page of the usual size. */
function nextEntriesMax({ entries }: LogPage): number {
  const bytes = entries.reduce((sum, { entry }) => sum + (entry.kind === 'lines' ? entry.body.length : 100), 1);
  return Math.max(16, Math.min(PAGE_ENTRIES_MAX, Math.ceil((entries.length * PAGE_BYTES) / bytes)));
}

/**
 * Gives an entry memory of its own. What the Redis client hands out is a slice of the chunk it read (64 KiB for a line
 * of 50 bytes); kept in memory for a while, such slices would hold a thousand times their size. The texts that all
 * entries of a target have in common are kept once.
 */
function own(placed: PlacedEntry, place: Place): PlacedEntry {
  const { entry } = placed;
  if (entry.kind === 'lines' && entry.body.length * 2 < entry.body.buffer.byteLength)
    entry.body = Buffer.from(entry.body);
  placed.target = place.target;
  placed.epoch = place.epoch;
  return placed;
}
