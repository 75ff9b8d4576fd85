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
import { Turns } from './turns.js';

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
  /** Counts live entries met, to see that some came while the log was read. */
  news: number;
  /**
   * While it is not placed, in `all` mode: the partition sequence up to which watchers of everything have been served.
   * They must get what came after, whoever wanted the target by name.
   */
  servedTo: number | undefined;
  /** The first look for its place, shared by all who want the target. */
  following: Promise<void> | undefined;
  /** Partition sequence that the last audit saw in Redis; must be reached by the next one. */
  expected: number;
  /** True once its position in the log is known. */
  placed: boolean;
}

interface PartitionPlace {
  /** Sequence of the last entry seen in order; undefined until known. */
  sequence: number | undefined;
  expected: number;
  /** While its targets are looked for: the sequence after which. */
  repairingSince: number | undefined;
  /** Unknown targets that had entries meanwhile. */
  readonly met: Set<string>;
  /** For `target` mode: what the last audit has looked at. */
  audited: number | undefined;
}

export interface LogTailOptions {
  /** A new subscriber connection, connecting or connected: nothing else may use it. The tail closes it. */
  subscribe(): RedisConnection;
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
const PAGE_ENTRIES_MAX = 512;
/** Repairs that read at once: after a reconnect every followed target wants one. */
const REPAIRS_AT_ONCE_MAX = 16;
const ALL_PARTITIONS = Array.from({ length: PARTITIONS }, (_, p) => p);

export class LogTail {
  readonly #o: LogTailOptions;
  readonly #places = new Map<string, Place>();
  readonly #partitions: PartitionPlace[] = ALL_PARTITIONS.map(() => ({
    sequence: undefined,
    expected: 0,
    repairingSince: undefined,
    met: new Set(),
    audited: undefined,
  }));
  #all = false;
  #allReady: Promise<void> | undefined;
  #hearsAll = false;
  /** Goes up each time that listening to everything begins or ends. */
  #entries = 0;
  /** Channels that should be subscribed to now. */
  readonly #channels = new Set<string>();
  /** Channels that the present subscriber is subscribed to, on Cluster. */
  #held = new Set<string>();
  readonly #probeChannels = new Set<string>();
  #audit: { cancel(): void } | undefined;
  #auditing = false;
  #probeSent = 0;
  #probeSeen = 0;
  #probeAtMs = 0;
  /** Probe channels that have yet to answer. */
  readonly #probesMissing = new Set<string>();
  #probesUnanswered = 0;
  #stopped = false;
  #subscriber!: RedisConnection;
  readonly #repairTurns = new Turns(REPAIRS_AT_ONCE_MAX);

  constructor(options: LogTailOptions) {
    this.#o = options;
  }

  /** Begins to listen. The subscriber must be connected or connecting. */
  async start(): Promise<void> {
    const { clock } = this.#o;
    this.#connect();
    for (const partition of this.#probedPartitions()) this.#channels.add(this.#probeChannel(partition));
    await this.#resubscribe();
    this.#audit = clock.setInterval(() => void this.#runAudit(), AUDIT_INTERVAL_MS);
    // The first probe at once: until it comes back nobody knows that the subscription works.
    void this.#runAudit();
  }

  stop(): void {
    this.#stopped = true;
    this.#audit?.cancel();
    // Stopped before it was started: there is none.
    (this.#subscriber as RedisConnection | undefined)?.disconnect();
  }

  #connect(): void {
    const subscriber = this.#o.subscribe();
    this.#subscriber = subscriber;
    this.#held = new Set();
    subscriber.on('smessageBuffer', (channel: Buffer | string, message: Buffer) => {
      if (this.#subscriber === subscriber) this.#message(channel, message);
    });
    subscriber.on('ready', () => {
      if (this.#subscriber === subscriber) void this.#resubscribe();
    });
    subscriber.on('close', () => {
      if (this.#subscriber === subscriber) this.#o.onHealth(false, 'the Redis subscription is down');
    });
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
      place.following = this.#begin(place);
      place.following.catch(() => undefined);
    }
    await place.following;
    return { epoch: place.epoch, last: place.last };
  }

  /** Listens to a target and finds where its log ends. A place that stayed unknown would swallow the target's entries. */
  async #begin(place: Place): Promise<void> {
    const channel = this.#o.keys.outputChannel(place.target);
    try {
      if (this.#all) await this.#allReady;
      else await this.#subscribe([channel]);
      await this.#repair(place, 'start');
    } catch (error) {
      if (this.#places.get(place.target) === place) await this.unfollow(place.target);
      throw error;
    }
  }

  /** Ceases to follow a target. In `all` mode it may be discovered again at its next entry. */
  async unfollow(target: string): Promise<void> {
    if (!this.#places.delete(target)) return;
    await this.#unsubscribe([this.#o.keys.outputChannel(target)]);
  }

  /** Reads what the log has beyond the target's place, now. */
  async refresh(target: string): Promise<void> {
    const place = this.#places.get(target);
    if (place === undefined) return;
    // A read that is under way may have begun too early: it reads once more.
    place.news += 1;
    await this.#repair(place, 'start');
  }

  /** Listens to every target, now and in future. Resolves when nothing that is written from now on will be missed. */
  followAll(): Promise<void> {
    if (this.#allReady === undefined) {
      this.#all = true;
      this.#allReady = this.#enterAll(++this.#entries);
      this.#allReady.catch(() => undefined);
    }
    return this.#allReady;
  }

  /** Goes back to one channel for each followed target. */
  async leaveAll(): Promise<void> {
    if (!this.#all) return;
    // All at once, so that whoever follows or wants everything from now on starts afresh.
    this.#all = false;
    this.#hearsAll = false;
    this.#allReady = undefined;
    this.#entries += 1;
    for (const partition of this.#partitions) partition.sequence = undefined;
    await this.#subscribe([...this.#places.keys()].map((target) => this.#o.keys.outputChannel(target))).catch(
      () => undefined, // Not connected: after a reconnect the wanted channels are subscribed to.
    );
    if (this.#all) return;
    await this.#unsubscribe(ALL_PARTITIONS.map((p) => this.#o.keys.partitionChannel(p)));
  }

  /** True once {@link followAll} has come into effect. */
  get hearsAll(): boolean {
    return this.#hearsAll;
  }

  async #enterAll(entry: number): Promise<void> {
    const { keys, log } = this.#o;
    for (let attempt = 0; ; attempt++) {
      try {
        await this.#subscribe(ALL_PARTITIONS.map((p) => keys.partitionChannel(p)));
        const sequences = await Promise.all(ALL_PARTITIONS.map((p) => log.partitionSequence(p)));
        if (entry !== this.#entries) throw new Error('Nobody wanted everything any more.');
        for (const [p, sequence] of sequences.entries()) {
          const partition = this.#partitions[p] as PartitionPlace;
          partition.sequence ??= sequence;
          partition.expected = 0;
        }
        for (const place of this.#places.values())
          if (!place.placed) place.servedTo ??= this.#servedTo(place.partition);
        break;
      } catch (error) {
        if (this.#stopped || entry !== this.#entries) throw error;
        if (attempt === 0) this.#o.logger.warn({ err: error }, 'cannot listen to every target; trying again');
        await this.#pause(Math.min(1_000, 50 * 2 ** attempt));
      }
    }
    this.#hearsAll = true;
    await this.#unsubscribe([...this.#places.keys()].map((target) => keys.outputChannel(target)));
  }

  // --- live ------------------------------------------------------------------------------------------------------

  #message(channel: Buffer | string, message: Buffer): void {
    const name = channel.toString();
    if (this.#probeChannels.has(name)) {
      this.#probeAnswered(name, Number(message.toString('latin1')));
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
    if (!inOrder && partition.repairingSince === undefined) void this.#repairPartition(p, before, 'hole');
    if (before === undefined || sequence > before || sequence < before - REWOUND) partition.sequence = sequence;
    if (this.#places.has(placed.target)) return;
    if (partition.repairingSince !== undefined) partition.met.add(placed.target);
    else this.#discover(placed.target, placed.epoch, placed.last - placed.count);
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
    place.noticed = placed.partitionSequence;
    place.news += 1;
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
    place.sequence = placed.partitionSequence;
    this.#o.listener.entry(own(placed));
  }

  // --- repair ----------------------------------------------------------------------------------------------------

  #newPlace(target: string, epoch: string, last: number): Place {
    const place: Place = {
      ...{ target, partition: partitionOf(target), epoch, last, sequence: 0, repairing: undefined },
      ...{ noticed: 0, news: 0, expected: 0, placed: false, following: undefined, servedTo: undefined },
    };
    if (this.#all) place.servedTo = this.#servedTo(place.partition);
    this.#places.set(target, place);
    return place;
  }

  /** Up to where watchers of everything have had a partition's entries; undefined if they have not begun. */
  #servedTo(p: number): number | undefined {
    const partition = this.#partitions[p] as PartitionPlace;
    return partition.repairingSince ?? partition.sequence;
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
      const { servedTo } = place;
      let { news } = place;
      try {
        if (!place.placed && servedTo !== undefined) {
          const start = await this.#repairTurns.take(() => this.#o.log.sequenceStart(place.target, servedTo));
          if (this.#places.get(place.target) !== place) return;
          this.#put(place, start.epoch ?? '', start.after);
          continue;
        }
        // A turn is for one read: one that fails waits outside, lest a lost shard hold up the targets of the others.
        page = await this.#repairTurns.take(() => {
          ({ news } = place);
          return this.#o.log.read(place.target, place.placed ? place.last : Number.MAX_SAFE_INTEGER, entriesMax);
        });
      } catch (error) {
        attempt += 1;
        if (attempt === 1)
          this.#o.logger.warn({ err: error, target: place.target }, 'cannot read an output log; trying again');
        await this.#pause(Math.min(1_000, 50 * 2 ** attempt));
        continue;
      }
      attempt = 0;
      if (this.#places.get(place.target) !== place) return;
      if (!place.placed && place.servedTo !== servedTo) continue;
      this.#handPage(place, page);
      if (page.entries.length > 0) {
        const bytes = page.entries.reduce(
          (sum, { entry }) => sum + (entry.kind === 'lines' ? entry.body.length : 100),
          1,
        );
        entriesMax = Math.max(16, Math.min(PAGE_ENTRIES_MAX, Math.ceil((page.entries.length * PAGE_BYTES) / bytes)));
      }
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
      // Another epoch, or a log that is shorter than what was handed on: Redis lost it, in whole or its newest part.
      const fresh = place.epoch === '' && place.last === 0;
      // Of another epoch all is new; of the same one what is left has been handed on.
      place.last = epoch === '' ? 0 : epoch === place.epoch ? page.last : page.first - 1;
      place.epoch = epoch;
      place.sequence = 0;
      place.noticed = 0;
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
    if (partition.repairingSince !== undefined) return;
    partition.repairingSince = since;
    try {
      const { log } = this.#o;
      let from = since;
      for (;;) {
        const changed = await log.changedSince(p, from, CHANGED_TARGETS_MAX);
        for (const { target, sequence } of changed) {
          const place = this.#places.get(target);
          if (place === undefined) await this.#meet(target, since, reason);
          else if (place.placed && place.sequence < sequence) void this.#repair(place, reason);
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
  async #meet(target: string, since: number, reason: 'hole' | 'audit' | 'reconnect'): Promise<void> {
    if (this.#places.has(target)) return;
    const start = await this.#o.log.sequenceStart(target, since);
    if (!this.#all || this.#places.has(target)) return;
    const place = this.#discover(target, start.epoch ?? '', start.after);
    if (place !== undefined) void this.#repair(place, reason);
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
    // What was seen before Redis is asked is in its answer, unless Redis has forgotten it.
    const seen = this.#partitions.map((partition) => partition.sequence);
    const sequences = await Promise.all(ALL_PARTITIONS.map((p) => this.#o.log.partitionSequence(p)));
    for (const [p, sequence] of sequences.entries()) {
      const partition = this.#partitions[p] as PartitionPlace;
      const known = partition.sequence;
      const before = seen[p];
      if (known === undefined || before === undefined) continue;
      if (sequence < before) {
        this.#rewound(p, sequence);
        partition.expected = 0;
      } else if (known < partition.expected) {
        void this.#repairPartition(p, known, 'audit');
        partition.expected = 0;
      } else {
        partition.expected = sequence;
      }
    }
  }

  /** Redis has forgotten the end of this partition's logs: compare each place with its log. */
  #rewound(p: number, sequence: number): void {
    (this.#partitions[p] as PartitionPlace).sequence = sequence;
    for (const place of this.#places.values()) {
      if (place.partition !== p) continue;
      place.sequence = 0;
      place.noticed = 0;
      if (place.placed) void this.#repair(place, 'audit');
    }
  }

  async #auditTargets(): Promise<void> {
    const followed = new Set<number>();
    for (const place of this.#places.values()) followed.add(place.partition);
    await Promise.all([...followed].map((p) => this.#auditPartitionTargets(p)));
  }

  async #auditPartitionTargets(p: number): Promise<void> {
    const partition = this.#partitions[p] as PartitionPlace;
    // The sequence first: what is written between the two is looked at again, not left out.
    const [sequence, changed] = await Promise.all([
      this.#o.log.partitionSequence(p),
      this.#o.log.changedSince(p, partition.audited ?? 0, CHANGED_TARGETS_MAX),
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
    return this.#subscriber.isCluster ? ALL_PARTITIONS : [0];
  }

  #probeChannel(partition: number): string {
    const channel = this.#o.keys.probeChannel(partition, this.#o.gatewayId);
    this.#probeChannels.add(channel);
    return channel;
  }

  async #sendProbe(): Promise<void> {
    this.#probeSent += 1;
    this.#probeAtMs = this.#o.clock.monotonicMs();
    const partitions = this.#probedPartitions();
    const channels = partitions.map((p) => this.#probeChannel(p));
    this.#probesMissing.clear();
    for (const channel of channels) this.#probesMissing.add(channel);
    await Promise.all(channels.map((channel) => this.#o.commands.spublish(channel, String(this.#probeSent))));
  }

  #probeAnswered(channel: string, number: number): void {
    // An answer may come twice, where a channel was subscribed to twice.
    if (number !== this.#probeSent || !this.#probesMissing.delete(channel) || this.#probesMissing.size > 0) return;
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
    // A new connection, not `disconnect(true)`: in ioredis 6.0.0 a Cluster that is disconnected while one of its sharded
    // subscribers connects never subscribes again (its `isResetting` stays true).
    const old = this.#subscriber;
    this.#connect();
    old.disconnect();
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
    const subscriber = this.#subscriber;
    if (!subscriber.isCluster) {
      await Promise.all(chunks(channels, 500).map((call) => subscriber.ssubscribe(...call)));
      return;
    }
    // On Cluster ioredis subscribes again by itself after a reconnect, and adds a channel to what it will subscribe to
    // each time that it is asked, so it is asked once. One slot a call, as Cluster wants it.
    const held = this.#held;
    const subscribe = async (channel: string) => {
      await subscriber.ssubscribe(channel);
      if (this.#channels.has(channel)) held.add(channel);
    };
    await Promise.all(channels.filter((channel) => !held.has(channel)).map(subscribe));
  }

  async #unsubscribe(channels: string[]): Promise<void> {
    const subscribed = channels.filter((channel) => this.#channels.delete(channel));
    if (subscribed.length === 0) return;
    for (const channel of subscribed) this.#held.delete(channel);
    const calls = this.#subscriber.isCluster ? subscribed.map((channel) => [channel]) : chunks(subscribed, 500);
    try {
      await Promise.all(calls.map((call) => this.#subscriber.sunsubscribe(...call)));
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
