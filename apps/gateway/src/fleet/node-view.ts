/**
 * Nodes as this gateway knows them. All of them are brought up to date when somebody asks for all: requests within half a
 * second share one look, and a look reads only what changed. Who asks for one, as each command for an agent does, has that
 * one read by itself: a look at all may take seconds where there are many and nobody has looked for long. While Redis is
 * away, and only then, what was known before is served for a minute.
 */
import type { Clock } from '@carrierarr/platform';
import { type Liveness, livenessOf, type NodeRecord, type WorkerRecord } from '@carrierarr/protocol';
import type { NodeFollow, NodeLookup, NodeSighting } from '@carrierarr/store';
import { RedisAwayError, type RedisHealth } from '../redis-health.js';

/** A look counts for so long, ms. */
export const NODES_FRESH_MS = 500;
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
  /** How long it has had no stream, ms; undefined if it never had one. */
  streamlessMs: number | undefined;
  /** It is stale when nothing is heard of it for so long, ms. */
  staleMs: number;
}

export interface NodeViewOptions {
  follow: NodeFollow;
  lookup: NodeLookup;
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
    await this.#look();
    const { follow } = this.#o;
    const lookedMs = this.#lookedMs as number;
    if (this.#all?.lookedMs !== lookedMs) {
      const nodes = [...follow.nodes.values()]
        .map((record) => this.#followed(record))
        .toSorted((a, b) => (a.record.name < b.record.name ? -1 : 1));
      this.#all = { nodes, lookedMs };
    }
    return this.#all.nodes;
  }

  /** A node by any name it was called by. Throws RedisAwayError as {@link NodeView.nodes}. */
  async byName(name: string): Promise<SeenNode | undefined> {
    return this.#found(name, []);
  }

  /** The node that a target is: by the worker record that has the target, else by any name. Throws RedisAwayError. */
  async byTarget(target: string): Promise<SeenNode | undefined> {
    return this.#found(
      target,
      this.#o.workers.workersWithTarget(target).map(({ id }) => id),
    );
  }

  /**
   * How long ago the node that a target was said that it goes, ms; undefined if it did not lately. Throws RedisAwayError.
   */
  async leftAgoMs(target: string): Promise<number | undefined> {
    const ids = this.#o.workers.workersWithTarget(target).map(({ id }) => id);
    return this.#o.redis.bounded(() => this.#o.lookup.leftAgoMs([target, ...ids]));
  }

  async #found(name: string, nodeKeys: readonly string[]): Promise<SeenNode | undefined> {
    const { redis, lookup, follow } = this.#o;
    try {
      const sighting = await redis.bounded(() => lookup.find(name, nodeKeys));
      return sighting && this.#seen(sighting);
    } catch (error) {
      if (!(error instanceof RedisAwayError) || this.#ageMs() > NODES_KEPT_MS) throw error;
      const known = nodeKeys.map((key) => follow.nodes.get(key)).find((node) => node !== undefined);
      const record = known ?? follow.find(name);
      return record && this.#followed(record);
    }
  }

  #followed(record: NodeRecord): SeenNode {
    const { listening, limits, nowMs } = this.#o.follow;
    return this.#seen({ record, listening, limits, nowMs, isStreaming: this.#o.follow.isStreaming(record) });
  }

  #seen({ record, listening, limits, nowMs, isStreaming }: NodeSighting): SeenNode {
    return {
      ...{ record, isStreaming, liveness: livenessOf(record, listening, limits, nowMs) },
      target: this.#o.workers.workerOf(record.key)?.target ?? record.name,
      streamlessMs: streamlessMs(record, isStreaming, nowMs),
      staleMs: limits.staleMs,
    };
  }

  #ageMs(): number {
    return this.#lookedMs === undefined ? Number.POSITIVE_INFINITY : this.#o.clock.monotonicMs() - this.#lookedMs;
  }

  async #look(): Promise<void> {
    if (this.#ageMs() < NODES_FRESH_MS) return;
    try {
      await this.#o.redis.whileAvailable(() => this.#refresh());
    } catch (error) {
      if (!(error instanceof RedisAwayError) || this.#ageMs() > NODES_KEPT_MS) throw error;
    }
  }

  /** Shared. It takes seconds where there are thousands and nobody has looked for long; what was known before would be wrong. */
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

function streamlessMs(
  { stream, streamEndedMs, seenMs }: NodeRecord,
  isStreaming: boolean,
  nowMs: number,
): number | undefined {
  if (isStreaming) return 0;
  // Of a monitor that died: until then it was heard.
  const endedMs = streamEndedMs ?? (stream && Math.max(stream.since_ms, seenMs.grpc ?? 0));
  return endedMs === undefined ? undefined : Math.max(0, nowMs - endedMs);
}
