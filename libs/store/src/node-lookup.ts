/** One node, read by itself: what that costs does not grow with how many there are, or with how long nobody has looked. */
import type { Keys, ListeningSince, LivenessLimits, NodeChannel, NodeRecord } from '@carrierarr/protocol';
import { NODE_CHANNELS } from '@carrierarr/protocol';
import type { RedisConnection } from './connection.js';
import { type KeptNode, limitsOf, listeningOf, msOfTime, NodeReader, readNodeTexts } from './node-records.js';
import { LEFT_KEPT_MS } from './lua/node-scripts.js';
import { LISTENING_PAUSE_MS } from './node-registry.js';
import { replies } from './transaction.js';

/** A node with what its record means at this moment. */
export interface NodeSighting {
  record: NodeRecord;
  listening: ListeningSince;
  limits: LivenessLimits;
  /** A stream is open, and the monitor that serves it lives. */
  isStreaming: boolean;
  /** Redis' time, epoch ms. */
  nowMs: number;
}

export class NodeLookup {
  readonly #connection: RedisConnection;
  readonly #keys: Keys;

  constructor({ connection, keys }: { connection: RedisConnection; keys: Keys }) {
    this.#connection = connection;
    this.#keys = keys;
  }

  /** The node with the first of these keys that is known, else the one that was ever called `name`. */
  async find(name: string, nodeKeys: readonly string[] = []): Promise<NodeSighting | undefined> {
    const alias = await this.#connection.hget(this.#keys.nodeAliases(), name);
    const node = await this.#first([...nodeKeys, ...(alias === null ? [] : [alias]), name]);
    if (node !== undefined) return this.#sighting(node);
    // It may have got its instance id just now, and with it another key.
    const isElsewhere = alias !== null && (await this.#connection.hget(this.#keys.nodeAliases(), name)) !== alias;
    return isElsewhere ? this.find(name, nodeKeys) : undefined;
  }

  /** How long ago the node of one of these names or keys said that it goes, ms; undefined if none did lately. */
  async leftAgoMs(names: readonly string[]): Promise<number | undefined> {
    const [time, ...scores] = await replies<[[string, string], ...(string | null)[]]>(
      names.reduce((multi, name) => multi.zscore(this.#keys.nodesLeft(), name), this.#connection.multi().time()),
    );
    const leftMs = Math.max(...scores.map((score) => Number(score ?? 0)));
    const agoMs = msOfTime(time) - leftMs;
    return agoMs < LEFT_KEPT_MS ? Math.max(0, agoMs) : undefined;
  }

  async #first(nodeKeys: readonly string[]): Promise<KeptNode | undefined> {
    const texts = await readNodeTexts(this.#connection, this.#keys, nodeKeys);
    for (const [i, key] of nodeKeys.entries()) {
      const found = texts[i];
      if (found !== undefined) return new NodeReader().read(key, found);
    }
    return undefined;
  }

  async #sighting(node: KeptNode): Promise<NodeSighting> {
    const keys = this.#keys;
    const monitor = node.stream?.monitor ?? '';
    const [time, limits, listening, servedMs, grpc, amqp] = await replies<
      [[string, string], string | null, Record<string, string>, ...(string | null)[]]
    >(
      this.#connection
        .multi()
        .time()
        .hget(keys.nodesMeta(), 'limits')
        .hgetall(keys.listening())
        .zscore(keys.servingMonitors(), monitor)
        .zscore(keys.nodesSeen('grpc'), node.key)
        .zscore(keys.nodesSeen('amqp'), node.key),
    );
    const nowMs = msOfTime(time);
    const seen: Partial<Record<NodeChannel, string | null | undefined>> = { grpc: grpc ?? null, amqp: amqp ?? null };
    const seenMs: NodeRecord['seenMs'] = {};
    for (const channel of NODE_CHANNELS) if (seen[channel] != null) seenMs[channel] = Number(seen[channel]);
    return {
      record: { ...node, seenMs },
      listening: listeningOf(listening, nowMs),
      limits: limitsOf(limits),
      isStreaming: node.stream !== undefined && servedMs != null && nowMs - Number(servedMs) <= LISTENING_PAUSE_MS,
      nowMs,
    };
  }
}
