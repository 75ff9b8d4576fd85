/**
 * All nodes as this gateway knows them, brought up to date when somebody asks. Requests within half a second share one
 * look, and a look reads only what changed. While Redis is away what was known before is served for a minute.
 */
import type { Clock } from '@carrierarr/platform';
import { type Liveness, livenessOf, type NodeRecord, type WorkerRecord } from '@carrierarr/protocol';
import type { NodeFollow } from '@carrierarr/store';
import { RedisAwayError, type RedisHealth } from '../redis-health.js';

/** A look counts for so long, ms. */
export const NODES_FRESH_MS = 500;
/** Before a name is held for unknown, what is older than this is looked at again, ms: a node may just have come. */
const UNKNOWN_FRESH_MS = 50;
/** Without Redis a look counts for so long, ms. */
export const NODES_KEPT_MS = 60_000;

/** A node, and what is known of it beside its record. */
export interface SeenNode {
  record: NodeRecord;
  liveness: Liveness;
  /** That of the worker record with its instance id, else its name. */
  target: string;
  /** A stream is open, and the monitor that serves it lives. */
  isStreaming: boolean;
}

export interface NodeViewOptions {
  follow: NodeFollow;
  /** The workers that monitors see; a node of the cloud is one of them, by its instance id. */
  workers: {
    workerOf(id: string): WorkerRecord | undefined;
    workersWithTarget(target: string): readonly WorkerRecord[];
  };
  redis: RedisHealth;
  clock: Clock;
}

export class NodeView {
  readonly #o: NodeViewOptions;
  /** When the last look that succeeded began, monotonic ms. */
  #lookedMs: number | undefined;
  #looking: Promise<void> | undefined;
  #all: { nodes: readonly SeenNode[]; lookedMs: number } | undefined;

  constructor(options: NodeViewOptions) {
    this.#o = options;
  }

  /** Every node, by name. Throws RedisAwayError if nothing is known that counts. */
  async nodes(): Promise<readonly SeenNode[]> {
    await this.#look(NODES_FRESH_MS);
    const lookedMs = this.#lookedMs as number;
    if (this.#all?.lookedMs !== lookedMs) {
      const nodes = [...this.#o.follow.nodes.values()]
        .map((record) => this.#seen(record))
        .toSorted((a, b) => (a.record.name < b.record.name ? -1 : 1));
      this.#all = { nodes, lookedMs };
    }
    return this.#all.nodes;
  }

  /** A node by any name it was called by. Throws RedisAwayError as {@link NodeView.nodes}. */
  async byName(name: string): Promise<SeenNode | undefined> {
    return this.#found(() => this.#o.follow.find(name));
  }

  /** The node that a target is: by the worker record that has the target, else by any name. Throws RedisAwayError. */
  async byTarget(target: string): Promise<SeenNode | undefined> {
    const { follow, workers } = this.#o;
    return this.#found(() => {
      for (const { id } of workers.workersWithTarget(target)) {
        const node = follow.nodes.get(id);
        if (node !== undefined) return node;
      }
      return follow.find(target);
    });
  }

  /** How long it has had no stream, ms; undefined if it never had one. */
  streamlessMs({ record, isStreaming }: SeenNode): number | undefined {
    if (isStreaming) return 0;
    const { stream, streamEndedMs, seenMs } = record;
    // Of a monitor that died: until then it was heard.
    const endedMs = streamEndedMs ?? (stream && Math.max(stream.since_ms, seenMs.grpc ?? 0));
    return endedMs === undefined ? undefined : Math.max(0, this.#o.follow.nowMs - endedMs);
  }

  async #found(find: () => NodeRecord | undefined): Promise<SeenNode | undefined> {
    await this.#look(NODES_FRESH_MS);
    let record = find();
    if (record === undefined) {
      await this.#look(UNKNOWN_FRESH_MS);
      record = find();
    }
    return record && this.#seen(record);
  }

  #seen(record: NodeRecord): SeenNode {
    const { follow, workers } = this.#o;
    return {
      record,
      liveness: livenessOf(record, follow.listening, follow.limits, follow.nowMs),
      target: workers.workerOf(record.key)?.target ?? record.name,
      isStreaming: follow.isStreaming(record),
    };
  }

  async #look(freshMs: number): Promise<void> {
    const { clock, redis } = this.#o;
    const age = () => (this.#lookedMs === undefined ? Number.POSITIVE_INFINITY : clock.monotonicMs() - this.#lookedMs);
    if (age() < freshMs) return;
    try {
      await redis.bounded(() => this.#refresh());
    } catch (error) {
      if (!(error instanceof RedisAwayError) || age() > NODES_KEPT_MS) throw error;
    }
  }

  /** A look that takes longer than a request may wait goes on for the next one. */
  #refresh(): Promise<void> {
    const beganMs = this.#o.clock.monotonicMs();
    this.#looking ??= this.#o.follow
      .refresh()
      .then(() => {
        this.#lookedMs = beganMs;
      })
      .finally(() => {
        this.#looking = undefined;
      });
    return this.#looking;
  }
}
