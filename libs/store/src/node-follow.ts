/**
 * All nodes in memory, brought up to date by what changed since the last look: who asks often pays for changes only.
 */
import type { Keys, ListeningSince, LivenessLimits, NodeChannel, NodeRecord } from '@carrierarr/protocol';
import type { RedisConnection } from './connection.js';
import {
  DEFAULT_LIVENESS_LIMITS,
  limitsOf,
  listeningOf,
  msOfTime,
  NodeReader,
  nodeTextsOf,
  withNodeTexts,
} from './node-records.js';
import { LISTENING_PAUSE_MS } from './node-registry.js';
import { Rests } from './slices.js';
import { replies } from './transaction.js';

/** Nodes that are read at once: making records of more would hold up everything else that the process does. */
const KEYS_PER_CALL_MAX = 25;
/** More changes than a look every second or two finds: whoever has not looked for long, or never, has somebody waiting. */
const RESTFUL_CHANGES_MAX = 1_000;

export class NodeFollow {
  readonly #connection: RedisConnection;
  readonly #keys: Keys;
  #nodes: ReadonlyMap<string, NodeRecord> = new Map();
  readonly #reader = new NodeReader();
  #listening: ListeningSince = {};
  #monitors: ReadonlySet<string> = new Set();
  #limits: LivenessLimits = DEFAULT_LIVENESS_LIMITS;
  #epoch = '';
  #version = 0;
  #seenMs: Partial<Record<NodeChannel, number>> = {};
  #nowMs = 0;
  #refreshing: Promise<void> | undefined;

  constructor({ connection, keys }: { connection: RedisConnection; keys: Keys }) {
    this.#connection = connection;
    this.#keys = keys;
  }

  /** By key, as of the last {@link NodeFollow.refresh} that is through. The map never changes: the next look makes a new one. */
  get nodes(): ReadonlyMap<string, NodeRecord> {
    return this.#nodes;
  }

  /** Since when each channel has been listened to. */
  get listening(): ListeningSince {
    return this.#listening;
  }

  /** By which nodes live, as the leading monitor has it. */
  get limits(): LivenessLimits {
    return this.#limits;
  }

  /** Redis' time of the last refresh, epoch ms. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Grows with each change of any node; not with heartbeats. */
  get version(): number {
    return this.#version;
  }

  /** A node by its key, or by the name that it goes by now. Names that it had before are known to `NodeLookup` alone. */
  find(name: string): NodeRecord | undefined {
    const byKey = this.#nodes.get(name);
    if (byKey !== undefined) return byKey;
    for (const node of this.#nodes.values()) if (node.name === name) return node;
    return undefined;
  }

  /** There is a monitor that serves agents, whether or not it can hear any now. */
  get isServed(): boolean {
    return this.#monitors.size > 0;
  }

  /** True if commands can reach it now: a stream is open, and the monitor that serves it lives. */
  isStreaming({ stream }: NodeRecord): boolean {
    return stream !== undefined && this.#monitors.has(stream.monitor);
  }

  /** Reads what changed. Calls at the same time share one look. */
  async refresh(): Promise<void> {
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #refresh(): Promise<void> {
    const keys = this.#keys;
    const [time, meta, listening, removed, changed, grpc, amqp] = await replies<
      [[string, string], (string | null)[], Record<string, string>, string[], string[], string[], string[]]
    >(
      this.#connection
        .multi()
        .time()
        .hmget(keys.nodesMeta(), 'epoch', 'version', 'floor', 'limits')
        .hgetall(keys.listening())
        .zrangebyscore(keys.removedNodes(), `(${this.#version}`, '+inf')
        .zrangebyscore(keys.nodeVersions(), `(${this.#version}`, '+inf')
        // Inclusive: several may have been seen in the millisecond of the last look.
        .zrangebyscore(keys.nodesSeen('grpc'), this.#seenMs.grpc ?? '-inf', '+inf', 'WITHSCORES')
        .zrangebyscore(keys.nodesSeen('amqp'), this.#seenMs.amqp ?? '-inf', '+inf', 'WITHSCORES'),
    );
    const [epoch, version, floor] = [meta[0] ?? '', Number(meta[1] ?? 0), Number(meta[2] ?? 0)];
    if (epoch !== this.#epoch || version < this.#version || (this.#version > 0 && this.#version < floor)) {
      this.#nodes = new Map();
      this.#reader.clear();
      this.#version = 0;
      this.#seenMs = {};
      this.#epoch = epoch;
      // From an empty view the same look reads everything.
      if (version > 0) return this.#refresh();
    }
    const nowMs = msOfTime(time);
    const monitors = await this.#connection.zrangebyscore(keys.servingMonitors(), nowMs - LISTENING_PAUSE_MS, '+inf');
    const nodes = new Map(this.#nodes);
    for (const key of removed) {
      nodes.delete(key);
      this.#reader.forget(key);
    }
    const rests = new Rests(changed.length > RESTFUL_CHANGES_MAX ? 0 : undefined);
    for (let i = 0; i < changed.length; i += KEYS_PER_CALL_MAX) {
      if (i > 0) await rests.next();
      await this.#read(nodes, changed.slice(i, i + KEYS_PER_CALL_MAX));
    }
    this.#see(nodes, 'grpc', grpc);
    this.#see(nodes, 'amqp', amqp);
    this.#nodes = nodes;
    this.#monitors = new Set(monitors);
    this.#listening = listeningOf(listening, nowMs);
    this.#limits = limitsOf(meta[3]);
    this.#version = version;
    this.#nowMs = nowMs;
  }

  async #read(nodes: Map<string, NodeRecord>, nodeKeys: readonly string[]): Promise<void> {
    const columns = await replies<(string | null)[][]>(withNodeTexts(this.#connection.multi(), this.#keys, nodeKeys));
    const texts = nodeTextsOf(nodeKeys, columns);
    for (const [i, key] of nodeKeys.entries()) {
      const found = texts[i];
      // Removed between the two looks: the next one says so.
      if (found === undefined) continue;
      nodes.set(key, { ...this.#reader.read(key, found), seenMs: nodes.get(key)?.seenMs ?? {} });
    }
  }

  #see(nodes: Map<string, NodeRecord>, channel: NodeChannel, flat: readonly string[]): void {
    for (let i = 0; i + 1 < flat.length; i += 2) {
      const ms = Number(flat[i + 1]);
      this.#seenMs[channel] = Math.max(this.#seenMs[channel] ?? 0, ms);
      const node = nodes.get(flat[i] as string);
      if (node !== undefined && node.seenMs[channel] !== ms) {
        nodes.set(node.key, { ...node, seenMs: { ...node.seenMs, [channel]: ms } });
      }
    }
  }
}
