/** One node, read by itself: what that costs does not grow with how many there are, or with how long nobody has looked. */
import type { Keys, ListeningSince, LivenessLimits, NodeChannel, NodeRecord } from '@carrierarr/protocol';
import { NODE_CHANNELS } from '@carrierarr/protocol';
import type { RedisConnection } from './connection.js';
import { limitsOf, listeningOf, msOfTime, NodeReader, nodeTextsOf, withNodeTexts } from './node-records.js';
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
    const { alias, at, sighting } = await this.#look(name, [...nodeKeys, name]);
    const isGivenKey = sighting !== undefined && at < nodeKeys.length;
    if (isGivenKey || alias === null || alias === name) return sighting;
    const again = await this.#look(name, [alias]);
    if (again.sighting !== undefined) return again.sighting;
    // It may have got its instance id just now, and with it another key.
    return again.alias === alias ? sighting : this.find(name, nodeKeys);
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

  /**
   * Which node a name means, and the first of these that there is, all as it is at one moment: a command waits for each call.
   * `at`: which of them that is. Many machines may share a target; only one is read.
   */
  async #look(
    name: string,
    nodeKeys: readonly string[],
  ): Promise<{ alias: string | null; at: number; sighting: NodeSighting | undefined }> {
    const keys = this.#keys;
    const [time, limits, listening, monitors, alias, grpc, amqp, ...columns] = await replies<
      [
        ...[[string, string], string | null, Record<string, string>, string[], string | null],
        ...[(string | null)[], (string | null)[]],
        ...(string | null)[][],
      ]
    >(
      withNodeTexts(
        this.#connection
          .multi()
          .time()
          .hget(keys.nodesMeta(), 'limits')
          .hgetall(keys.listening())
          .zrange(keys.servingMonitors(), 0, '-1', 'WITHSCORES')
          .hget(keys.nodeAliases(), name)
          .zmscore(keys.nodesSeen('grpc'), ...nodeKeys)
          .zmscore(keys.nodesSeen('amqp'), ...nodeKeys),
        keys,
        nodeKeys,
      ),
    );
    const allTexts = nodeTextsOf(nodeKeys, columns);
    const at = allTexts.findIndex((each) => each !== undefined);
    const [key, texts] = [nodeKeys[at], allTexts[at]];
    if (key === undefined || texts === undefined) return { alias, at, sighting: undefined };
    const nowMs = msOfTime(time);
    const node = new NodeReader().read(key, texts);
    const seen: Record<NodeChannel, string | null | undefined> = { grpc: grpc[at], amqp: amqp[at] };
    const seenMs: NodeRecord['seenMs'] = {};
    for (const channel of NODE_CHANNELS) if (seen[channel] != null) seenMs[channel] = Number(seen[channel]);
    const served = monitors.indexOf(node.stream?.monitor ?? '');
    const servedMs = served < 0 ? -Infinity : Number(monitors[served + 1]);
    const sighting: NodeSighting = {
      ...{ record: { ...node, seenMs }, listening: listeningOf(listening, nowMs), limits: limitsOf(limits), nowMs },
      isStreaming: nowMs - servedMs <= LISTENING_PAUSE_MS,
    };
    return { alias, at, sighting };
  }
}
