/**
 * Finds loss that nothing follows up: the last line before a silence. At each interval it asks Redis which targets
 * have news and compares, after giving messages on their way the time to the next audit. It also has the probe sent.
 */
import type { Clock, Logger, Timer } from '@carrierarr/platform';
import { PARTITIONS } from '@carrierarr/protocol';
import type { OutputLog } from '@carrierarr/store';
import { CHANGED_TARGETS_MAX, type Partitions } from './partitions.js';
import { heardTo, type Place } from './place.js';
import type { Places } from './places.js';
import type { Probe } from './probe.js';

export interface AuditOptions {
  probe: Pick<Probe, 'check' | 'send'>;
  partitions: Pick<Partitions, 'isHeard' | 'audit' | 'rewound'>;
  places: Pick<Places, 'all' | 'get' | 'repair'>;
  log: OutputLog;
  clock: Clock;
  logger: Logger;
  stopping: AbortSignal;
}

const INTERVAL_MS = 1_500;

export class Audit {
  readonly #o: AuditOptions;
  #interval: Timer | undefined;
  #running = false;
  /** For `target` mode: what the last audit of each partition has looked at. */
  readonly #audited: (number | undefined)[] = Array.from({ length: PARTITIONS }, () => undefined);
  /** Partition sequence of a target's newest entry that the last audit saw in Redis; must be reached by the next one. */
  readonly #expected = new WeakMap<Place, number>();

  constructor(options: AuditOptions) {
    this.#o = options;
  }

  start(): void {
    this.#interval = this.#o.clock.setInterval(() => void this.#run(), INTERVAL_MS);
    // The first probe at once: until it comes back nobody knows that the subscription works.
    void this.#run();
  }

  stop(): void {
    this.#interval?.cancel();
  }

  async #run(): Promise<void> {
    if (this.#running || this.#o.stopping.aborted) return;
    this.#running = true;
    try {
      const { probe, partitions } = this.#o;
      probe.check();
      await Promise.all([probe.send(), partitions.isHeard ? partitions.audit() : this.#auditTargets()]);
    } catch (error) {
      this.#o.logger.debug({ err: error }, 'audit failed');
    } finally {
      this.#running = false;
    }
  }

  async #auditTargets(): Promise<void> {
    const followed = new Set<number>();
    for (const place of this.#o.places.all()) followed.add(place.partition);
    await Promise.all([...followed].map((p) => this.#auditPartition(p)));
  }

  async #auditPartition(p: number): Promise<void> {
    const { log, places, partitions } = this.#o;
    // The sequence first: what is written between the two is looked at again, not left out.
    const [sequence, changed] = await Promise.all([
      log.partitionSequence(p),
      log.changedSince(p, this.#audited[p] ?? 0, CHANGED_TARGETS_MAX),
    ]);
    // Asked for only now: after an audit that failed in another partition, the next one may have overtaken this.
    const audited = this.#audited[p];
    if (audited !== undefined && sequence < audited) partitions.rewound(p, sequence);
    // Look once more at what changed since the audit before this: a message may have been on its way.
    this.#audited[p] = changed.length === CHANGED_TARGETS_MAX ? changed.at(-1)?.sequence : sequence;
    for (const place of places.all()) {
      const expected = this.#expected.get(place);
      if (place.partition !== p || !place.placed || expected === undefined) continue;
      if (heardTo(place) < expected) void places.repair(place, 'audit');
      this.#expected.delete(place);
    }
    for (const { target, sequence: newest } of changed) {
      const place = places.get(target);
      if (place !== undefined && heardTo(place) < newest) this.#expected.set(place, newest);
    }
  }
}
