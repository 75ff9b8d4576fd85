/**
 * Follows output logs: pub/sub is their live edge, the log itself the truth.
 *
 * Pub/sub forgets: a reconnect is a hole, and a subscription can be dead while its socket looks well. So each
 * target that is followed has a *place* (the last offset handed on), and an entry is handed on only if it follows
 * its place without a hole; anything else starts a *repair*, which reads the log from the place until its end.
 * Live entries that arrive during a repair are not kept, only noticed: the repair finds them in the log.
 *
 * Two ways to listen. `target`: one channel for each followed target. `all`: the 64 partition channels, from when
 * some client watches everything or a pattern; then unknown targets are met too, and each partition's own sequence
 * shows whether news of one was missed.
 *
 * Loss that nothing follows up (the last line before a silence) is found by the *audit*, every 1.5 s: it asks Redis
 * which targets have news and compares, after giving messages on their way the time to the next audit. It also
 * sends itself a *probe* through the subscription; two unanswered ones make it connect anew.
 */
import type { Keys, PlacedEntry } from '@carrierarr/protocol';
import { decodePublished, PARTITIONS, partitionOf } from '@carrierarr/protocol';
import type { Clock, Logger } from '@carrierarr/platform';
import type { LogPage, OutputLog, RedisConnection } from '@carrierarr/store';

import type { Gap } from './encode.js';

/** Who is told of the entries of a target, in order. */
export interface TailListener {
  /** It is known where a target's log ends: entries follow from there. */
  placed(target: string, epoch: string, last: number): void;
  entry(placed: PlacedEntry): void;
  /** Entries are lost to this gateway; what follows comes after `gap.to`, in epoch `gap.epoch`. */
  gap(gap: Gap): void;
  /** In `all` mode: a target not followed by name has an entry, after `after`. True to follow it from there. */
  discovered(target: string, epoch: string, after: number): boolean;
}

/** How far one target has been handed on. */
interface Place {
  target: string;
  partition: number;
  epoch: string;
  last: number;
  /** Partition sequence of the last entry handed on. */
  sequence: number;
  /** Set while the log is read; live entries only raise `noticed`. */
  repairing: Promise<void> | undefined;
  noticed: number;
  /** Partition sequence that the last audit saw in Redis; must be reached by the next one. */
  expected: number;
  /** True once its position in the log is known. */
  placed: boolean;
}

interface PartitionPlace {
  /** Sequence of the last entry seen in order; undefined until known. */
  sequence: number | undefined;
  expected: number;
  repairing: boolean;
  /** For `target` mode: what the last audit has looked at. */
  audited: number | undefined;
}

export interface LogTailOptions {
  /** Subscriber connection: nothing else may use it. */
  subscriber: RedisConnection;
  commands: RedisConnection;
  log: OutputLog;
  keys: Keys;
  clock: Clock;
  logger: Logger;
  gatewayId: string;
  listener: TailListener;
  metrics: TailMetrics;
  /** Told when the tail begins or ceases to be known as complete. */
  onHealth(ok: boolean, detail: string): void;
}

export interface TailMetrics {
  repairs(reason: 'hole' | 'epoch' | 'audit' | 'reconnect' | 'start'): void;
  gaps(lines: number): void;
  probeFailed(): void;
  roundTripSeconds(seconds: number): void;
  unreadable(): void;
}

const AUDIT_INTERVAL_MS = 1_500;
/** Unanswered probes after which the subscription is taken for dead: found within 3 x 1.5 s. */
const PROBES_UNANSWERED_MAX = 2;
const CHANGED_TARGETS_MAX = 5_000;
const PAGE_BYTES = 512 * 1024;
const ALL_PARTITIONS = Array.from({ length: PARTITIONS }, (_, p) => p);

export class LogTail {
  readonly #o: LogTailOptions;
  readonly #places = new Map<string, Place>();
  readonly #partitions: PartitionPlace[] = ALL_PARTITIONS.map(() => ({
    sequence: undefined,
    expected: 0,
    repairing: false,
    audited: undefined,
  }));
  #all = false;
  #allReady: Promise<void> | undefined;
  #hearsAll = false;
  /** Channels that should be subscribed to now. */
  readonly #channels = new Set<string>();
  readonly #outputPrefix: Map<string, string> = new Map();
  #audit: { cancel(): void } | undefined;
  #auditing = false;
  #probeSent = 0;
  #probeSeen = 0;
  #probeAtMs = 0;
  #stopped = false;

  constructor(options: LogTailOptions) {
    this.#o = options;
  }

  /** Begins to listen. The subscriber must be connected or connecting. */
  async start(): Promise<void> {
    const { subscriber, clock } = this.#o;
    subscriber.on('smessageBuffer', (channel: Buffer | string, message: Buffer) => this.#message(channel, message));
    subscriber.on('ready', () => void this.#resubscribe());
    subscriber.on('close', () => this.#o.onHealth(false, 'the Redis subscription is down'));
    for (const partition of this.#probedPartitions()) this.#channels.add(this.#probeChannel(partition));
    await this.#resubscribe();
    this.#audit = clock.setInterval(() => void this.#runAudit(), AUDIT_INTERVAL_MS);
  }

  stop(): void {
    this.#stopped = true;
    this.#audit?.cancel();
  }

  /** Number of channels subscribed to, for metrics. */
  get channelCount(): number {
    return this.#channels.size;
  }

  /** Where a followed target is now. */
  place(target: string): { epoch: string; last: number } | undefined {
    const place = this.#places.get(target);
    return place?.placed ? { epoch: place.epoch, last: place.last } : undefined;
  }

  /** Follows a target from the present end of its log. Resolves to that position. */
  async follow(target: string): Promise<{ epoch: string; last: number }> {
    let place = this.#places.get(target);
    if (place === undefined) {
      place = this.#newPlace(target, '', 0);
      if (!this.#all) await this.#subscribe([this.#o.keys.outputChannel(target)]);
      else await this.#allReady;
    }
    if (!place.placed) await this.#repair(place, 'start');
    return { epoch: place.epoch, last: place.last };
  }

  /** Ceases to follow a target. In `all` mode it may be discovered again at its next entry. */
  async unfollow(target: string): Promise<void> {
    if (!this.#places.delete(target)) return;
    await this.#unsubscribe([this.#o.keys.outputChannel(target)]);
  }

  /** Reads what the log has beyond the target's place, now. */
  async refresh(target: string): Promise<void> {
    const place = this.#places.get(target);
    if (place) await this.#repair(place, 'start');
  }

  /** Listens to every target, now and in future. Resolves when nothing that is written from now on will be missed. */
  followAll(): Promise<void> {
    if (this.#allReady === undefined) {
      this.#all = true;
      this.#allReady = this.#enterAll();
      this.#allReady.catch(() => undefined);
    }
    return this.#allReady;
  }

  /** Goes back to one channel for each followed target. */
  async leaveAll(): Promise<void> {
    if (!this.#all) return;
    await this.#subscribe([...this.#places.keys()].map((target) => this.#o.keys.outputChannel(target)));
    this.#all = false;
    this.#hearsAll = false;
    this.#allReady = undefined;
    await this.#unsubscribe(ALL_PARTITIONS.map((p) => this.#o.keys.partitionChannel(p)));
    for (const partition of this.#partitions) partition.sequence = undefined;
  }

  /** True once {@link followAll} has come into effect. */
  get hearsAll(): boolean {
    return this.#hearsAll;
  }

  async #enterAll(): Promise<void> {
    const { keys, log } = this.#o;
    for (let attempt = 0; ; attempt++) {
      try {
        await this.#subscribe(ALL_PARTITIONS.map((p) => keys.partitionChannel(p)));
        const sequences = await Promise.all(ALL_PARTITIONS.map((p) => log.partitionSequence(p)));
        for (const [p, sequence] of sequences.entries()) {
          const partition = this.#partitions[p] as PartitionPlace;
          partition.sequence ??= sequence;
          partition.expected = 0;
        }
        break;
      } catch (error) {
        if (this.#stopped || !this.#all) throw error;
        await this.#pause(Math.min(1_000, 50 * 2 ** attempt));
      }
    }
    this.#hearsAll = true;
    await this.#unsubscribe([...this.#places.keys()].map((target) => keys.outputChannel(target)));
  }

  // --- live ------------------------------------------------------------------------------------------------------

  #message(channel: Buffer | string, message: Buffer): void {
    const name = channel.toString();
    if (this.#outputPrefix.has(name)) {
      this.#probeAnswered(Number(message.toString('latin1')));
      return;
    }
    let placed: PlacedEntry;
    try {
      placed = decodePublished(message);
    } catch (error) {
      this.#o.metrics.unreadable();
      this.#o.logger.error({ err: error, channel: name }, 'unreadable message on an output channel');
      return;
    }
    if (this.#all) this.#passPartition(placed);
    this.#pass(placed);
  }

  /** Keeps account of a partition's sequence, and meets new targets. */
  #passPartition(placed: PlacedEntry): void {
    const p = partitionOf(placed.target);
    const partition = this.#partitions[p] as PartitionPlace;
    const before = partition.sequence;
    const sequence = placed.partitionSequence;
    const inOrder = before === undefined || sequence <= before + 1;
    if (!inOrder && !partition.repairing) void this.#repairPartition(p, before, 'hole');
    if (before === undefined || sequence > before || sequence < before - REWOUND) partition.sequence = sequence;
    if (!this.#places.has(placed.target) && !partition.repairing && inOrder) {
      this.#discover(placed.target, placed.epoch, placed.last - placed.count);
    }
  }

  #discover(target: string, epoch: string, after: number): Place | undefined {
    if (!this.#o.listener.discovered(target, epoch, after)) return undefined;
    const place = this.#newPlace(target, epoch, after);
    place.placed = true;
    return place;
  }

  #pass(placed: PlacedEntry): void {
    const place = this.#places.get(placed.target);
    if (place === undefined) return;
    place.noticed = Math.max(place.noticed, placed.partitionSequence);
    if (place.repairing !== undefined || !place.placed) return;
    if (placed.epoch !== place.epoch && !(place.last === 0 && place.epoch === '')) {
      void this.#repair(place, 'epoch');
      return;
    }
    if (placed.last <= place.last) return;
    if (placed.last - placed.count > place.last) {
      void this.#repair(place, 'hole');
      return;
    }
    this.#hand(place, placed);
  }

  #hand(place: Place, placed: PlacedEntry): void {
    place.epoch = placed.epoch;
    place.last = placed.last;
    place.sequence = Math.max(place.sequence, placed.partitionSequence);
    this.#o.listener.entry(own(placed));
  }

  // --- repair ----------------------------------------------------------------------------------------------------

  #newPlace(target: string, epoch: string, last: number): Place {
    const place: Place = {
      ...{ target, partition: partitionOf(target), epoch, last, sequence: 0, repairing: undefined },
      ...{ noticed: 0, expected: 0, placed: false },
    };
    this.#places.set(target, place);
    return place;
  }

  /** Reads the log from the place to its end. One at a time for each target; failures are tried again. */
  #repair(place: Place, reason: Parameters<TailMetrics['repairs']>[0]): Promise<void> {
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
    let entriesMax = 64;
    for (let attempt = 0; ;) {
      if (this.#places.get(place.target) !== place || this.#stopped) return;
      let page: LogPage;
      const noticed = place.noticed;
      try {
        page = await this.#o.log.read(place.target, place.placed ? place.last : Number.MAX_SAFE_INTEGER, entriesMax);
      } catch (error) {
        attempt += 1;
        if (attempt === 1)
          this.#o.logger.warn({ err: error, target: place.target }, 'cannot read an output log; trying again');
        await this.#pause(Math.min(1_000, 50 * 2 ** attempt));
        continue;
      }
      attempt = 0;
      this.#handPage(place, page);
      if (page.entries.length > 0) {
        const bytes = page.entries.reduce(
          (sum, { entry }) => sum + (entry.kind === 'lines' ? entry.body.length : 100),
          1,
        );
        entriesMax = Math.max(16, Math.min(4096, Math.ceil((page.entries.length * PAGE_BYTES) / bytes)));
      }
      // Entries published since the read began are in the log by now: one more read finds them.
      if (page.last <= place.last && place.noticed === noticed) return;
    }
  }

  #handPage(place: Place, page: LogPage): void {
    const epoch = page.epoch ?? '';
    if (!place.placed) {
      place.placed = true;
      place.epoch = epoch;
      place.last = page.last;
      this.#o.listener.placed(place.target, epoch, page.last);
      return;
    }
    if (epoch !== place.epoch || page.last < place.last) {
      // Another epoch, or a log that is shorter than what was handed on: Redis lost it, in whole or its newest part.
      const fresh = place.epoch === '' && place.last === 0;
      place.epoch = epoch;
      place.last = epoch === '' ? 0 : page.first - 1;
      if (!fresh) {
        this.#o.metrics.gaps(0);
        this.#o.listener.gap({ target: place.target, epoch, from: 0, to: place.last, reason: 'epoch' });
      }
      return;
    }
    for (const placed of page.entries) {
      if (placed.last <= place.last) continue;
      const from = place.last + 1;
      const first = placed.last - placed.count + 1;
      if (first > from) {
        this.#o.metrics.gaps(first - from);
        this.#o.listener.gap({ target: place.target, epoch, from, to: first - 1, reason: 'trimmed' });
      }
      this.#hand(place, placed);
    }
    if (page.entries.length === 0 && page.last > place.last) {
      this.#o.metrics.gaps(page.last - place.last);
      this.#o.listener.gap({ target: place.target, epoch, from: place.last + 1, to: page.last, reason: 'trimmed' });
      place.last = page.last;
    }
  }

  /** Finds the targets of a partition that had entries after `since`, and repairs each. */
  async #repairPartition(p: number, since: number, reason: 'hole' | 'audit' | 'reconnect'): Promise<void> {
    const partition = this.#partitions[p] as PartitionPlace;
    if (partition.repairing) return;
    partition.repairing = true;
    try {
      const { log, listener } = this.#o;
      let from = since;
      for (;;) {
        const changed = await log.changedSince(p, from, CHANGED_TARGETS_MAX);
        for (const { target, sequence } of changed) {
          let place = this.#places.get(target);
          if (place === undefined) {
            const start = await log.sequenceStart(target, since);
            if (this.#places.has(target) || !listener.discovered(target, start.epoch ?? '', start.after)) continue;
            place = this.#newPlace(target, start.epoch ?? '', start.after);
            place.placed = true;
          }
          if (place.sequence < sequence) void this.#repair(place, reason);
          from = sequence;
        }
        if (changed.length < CHANGED_TARGETS_MAX) break;
      }
      partition.sequence = Math.max(partition.sequence ?? 0, from);
    } catch (error) {
      // The next audit finds the same difference and tries again.
      partition.sequence = since;
      this.#o.logger.warn({ err: error, partition: p }, 'cannot repair a partition; the next audit tries again');
    } finally {
      partition.repairing = false;
    }
  }

  // --- audit -----------------------------------------------------------------------------------------------------

  async #runAudit(): Promise<void> {
    if (this.#auditing || this.#stopped) return;
    this.#auditing = true;
    try {
      this.#checkProbe();
      await Promise.all([this.#sendProbe(), this.#all ? this.#auditAll() : this.#auditTargets()]);
    } catch (error) {
      this.#o.logger.debug({ err: error }, 'audit failed');
    } finally {
      this.#auditing = false;
    }
  }

  async #auditAll(): Promise<void> {
    const sequences = await Promise.all(ALL_PARTITIONS.map((p) => this.#o.log.partitionSequence(p)));
    for (const [p, sequence] of sequences.entries()) {
      const partition = this.#partitions[p] as PartitionPlace;
      const known = partition.sequence;
      if (known === undefined) continue;
      if (sequence < known - REWOUND || (sequence < known && partition.expected < 0)) {
        this.#rewound(p, sequence);
        partition.expected = 0;
      } else if (known < partition.expected) {
        void this.#repairPartition(p, known, 'audit');
        partition.expected = 0;
      } else {
        // A little lower than known may be a reply that a newer message overtook: only the second time counts.
        partition.expected = sequence < known ? -1 : sequence;
      }
    }
  }

  /** Redis has forgotten the end of this partition's logs: compare each place with its log. */
  #rewound(p: number, sequence: number): void {
    (this.#partitions[p] as PartitionPlace).sequence = sequence;
    for (const place of this.#places.values())
      if (place.partition === p && place.placed) void this.#repair(place, 'audit');
  }

  async #auditTargets(): Promise<void> {
    const followed = new Set<number>();
    for (const place of this.#places.values()) followed.add(place.partition);
    await Promise.all([...followed].map((p) => this.#auditPartitionTargets(p)));
  }

  async #auditPartitionTargets(p: number): Promise<void> {
    const partition = this.#partitions[p] as PartitionPlace;
    const [changed, sequence] = await Promise.all([
      this.#o.log.changedSince(p, partition.audited ?? 0, CHANGED_TARGETS_MAX),
      this.#o.log.partitionSequence(p),
    ]);
    if (partition.audited !== undefined && sequence < partition.audited) this.#rewound(p, sequence);
    // Look once more at what changed since the audit before this: a message may have been on its way.
    partition.audited = changed.length === CHANGED_TARGETS_MAX ? changed.at(-1)?.sequence : sequence;
    for (const place of this.#places.values()) {
      if (place.partition !== p || !place.placed || place.expected === 0) continue;
      if (Math.max(place.sequence, place.noticed) < place.expected) void this.#repair(place, 'audit');
      place.expected = 0;
    }
    for (const { target, sequence: newest } of changed) {
      const place = this.#places.get(target);
      if (place !== undefined && Math.max(place.sequence, place.noticed) < newest) place.expected = newest;
    }
  }

  // --- the subscription itself -----------------------------------------------------------------------------------

  /** On Cluster each shard has a connection of its own, and so each partition a probe. */
  #probedPartitions(): number[] {
    return this.#o.subscriber.isCluster ? ALL_PARTITIONS : [0];
  }

  #probeChannel(partition: number): string {
    const channel = this.#o.keys.probeChannel(partition, this.#o.gatewayId);
    this.#outputPrefix.set(channel, channel);
    return channel;
  }

  async #sendProbe(): Promise<void> {
    this.#probeSent += 1;
    this.#probeAtMs = this.#o.clock.monotonicMs();
    const partitions = this.#probedPartitions();
    this.#probesMissing = partitions.length;
    await Promise.all(partitions.map((p) => this.#o.commands.spublish(this.#probeChannel(p), String(this.#probeSent))));
  }

  #probesMissing = 0;
  #probesUnanswered = 0;

  #probeAnswered(number: number): void {
    if (number !== this.#probeSent) return;
    this.#probesMissing -= 1;
    if (this.#probesMissing > 0) return;
    this.#probeSeen = number;
    this.#probesUnanswered = 0;
    this.#o.metrics.roundTripSeconds((this.#o.clock.monotonicMs() - this.#probeAtMs) / 1000);
    this.#o.onHealth(true, 'the Redis subscription answers');
  }

  #checkProbe(): void {
    if (this.#probeSent === this.#probeSeen) return;
    this.#probesUnanswered += 1;
    this.#o.metrics.probeFailed();
    if (this.#probesUnanswered < PROBES_UNANSWERED_MAX) return;
    this.#probesUnanswered = 0;
    this.#o.onHealth(false, 'the Redis subscription is silent; connecting anew');
    this.#o.logger.warn('the Redis subscription is silent; connecting anew');
    this.#o.subscriber.disconnect(true);
  }

  async #resubscribe(): Promise<void> {
    try {
      await this.#ssubscribe([...this.#channels]);
    } catch (error) {
      this.#o.logger.warn({ err: error }, 'cannot subscribe; trying again when Redis is back');
      return;
    }
    // What was published while nobody listened is in the logs.
    for (const place of this.#places.values()) if (place.placed) void this.#repair(place, 'reconnect');
    if (this.#all) {
      for (const p of ALL_PARTITIONS) {
        const known = (this.#partitions[p] as PartitionPlace).sequence;
        if (known !== undefined) void this.#repairPartition(p, known, 'reconnect');
      }
    }
  }

  async #subscribe(channels: string[]): Promise<void> {
    for (const channel of channels) this.#channels.add(channel);
    await this.#ssubscribe(channels);
  }

  async #ssubscribe(channels: string[]): Promise<void> {
    if (channels.length === 0) return;
    // One slot a call, as Cluster wants it.
    const calls = this.#o.subscriber.isCluster ? channels.map((channel) => [channel]) : chunks(channels, 500);
    await Promise.all(calls.map((call) => this.#o.subscriber.ssubscribe(...call)));
  }

  async #unsubscribe(channels: string[]): Promise<void> {
    const subscribed = channels.filter((channel) => this.#channels.delete(channel));
    if (subscribed.length === 0) return;
    const calls = this.#o.subscriber.isCluster ? subscribed.map((channel) => [channel]) : chunks(subscribed, 500);
    try {
      await Promise.all(calls.map((call) => this.#o.subscriber.sunsubscribe(...call)));
    } catch {
      // Not connected: after a reconnect only wanted channels are subscribed to.
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => void this.#o.clock.setTimeout(resolve, ms));
  }
}

/** By how much a partition's sequence must go back to be taken for data loss at once, not for a late reply. */
const REWOUND = 10_000;

function chunks<T>(items: T[], size: number): T[][] {
  const result: T[][] = [];
  for (let i = 0; i < items.length; i += size) result.push(items.slice(i, i + size));
  return result;
}

/**
 * Gives an entry memory of its own. What the Redis client hands out is a slice of the chunk it read (64 KiB for a line
 * of 50 bytes); kept in memory for a while, such slices would hold a thousand times their size.
 */
function own(placed: PlacedEntry): PlacedEntry {
  const { entry } = placed;
  if (entry.kind === 'lines' && entry.body.length * 2 < entry.body.buffer.byteLength)
    entry.body = Buffer.from(entry.body);
  return placed;
}
