/**
 * The registry of nodes, as monitors write it. Any monitor may write of any node at any time: names, streams and their
 * fences are decided by Lua, alone.
 */
import { randomUUID } from 'node:crypto';
import type {
  Keys,
  LivenessLimits,
  NodeChannel,
  NodeHeartbeat,
  NodeRegistration,
  NodeStatusRecord,
} from '@carrierarr/protocol';
import { NO_CHANNEL } from '@carrierarr/protocol';
import { DEFAULT_LIVENESS_LIMITS } from './node-records.js';
import { callScript, type RedisConnection, type ScriptName } from './connection.js';
import { GatheredCalls } from './gathered-calls.js';

/** Most nodes that are known at once. */
export const NODES_MAX = 50_000;
/** A node that was silent for this long loses its name to another that goes by it, ms. */
export const NAME_HELD_MS = 300_000;
/** Removals remembered; who knows only an older point gets everything. */
const REMOVALS_MAX = 50_000;
/** A monitor that says nothing for this long does not listen, ms. */
export const LISTENING_PAUSE_MS = 10_000;

export type RegisterAnswer = { kind: 'registered'; key: string; name: string } | { kind: 'full'; nodes: number };
/** It is older than the word of the same node that it goes. */
export interface OutdatedAnswer {
  kind: 'outdated';
  key: string;
}
export type OpenStreamAnswer =
  | { kind: 'open'; key: string; name: string; fence: number }
  | { kind: 'full'; nodes: number };

export interface NodeRegistryOptions {
  connection: RedisConnection;
  keys: Keys;
  nodesMax?: number;
}

export class NodeRegistry {
  readonly #connection: RedisConnection;
  readonly #keys: Keys;
  readonly #nodesMax: number;
  /** What agents say again and again. */
  readonly #often: GatheredCalls;

  constructor({ connection, keys, nodesMax = NODES_MAX }: NodeRegistryOptions) {
    this.#often = new GatheredCalls(connection);
    this.#connection = connection;
    this.#keys = keys;
    this.#nodesMax = nodesMax;
  }

  #call(name: ScriptName, own: readonly (string | number)[]) {
    const keys = this.#keys;
    return callScript(this.#connection, name, [
      keys.nodeNames(),
      keys.nodeAliases(),
      keys.nodePart('registration:grpc'),
      keys.nodePart('registration:amqp'),
      keys.nodePart('status'),
      keys.nodePart('heartbeat'),
      keys.nodeStreams(),
      keys.nodesSeen('grpc'),
      keys.nodesSeen('amqp'),
      keys.nodeVersions(),
      keys.removedNodes(),
      keys.nodesMeta(),
      keys.nodesLeft(),
      keys.servingMonitors(),
      // A new one each time: Redis may lose its epoch more than once.
      randomUUID(),
      ...own,
    ]);
  }

  /**
   * Takes a registration. `name` is the host name by gRPC, and by AMQP whatever the agent calls itself. With an instance
   * id that is the node's key; what was known under the host name alone becomes part of it. Only one by AMQP may be outdated:
   * a call of gRPC is made by an agent that is there. One that repeats by AMQP what it said, and was not silent meanwhile, keeps
   * the `registered_ms` of before.
   */
  async register(name: string, registration: NodeRegistration, channel: 'grpc'): Promise<RegisterAnswer>;
  async register(
    name: string,
    registration: NodeRegistration,
    channel: NodeChannel,
  ): Promise<RegisterAnswer | OutdatedAnswer>;
  async register(
    name: string,
    registration: NodeRegistration,
    channel: NodeChannel,
  ): Promise<RegisterAnswer | OutdatedAnswer> {
    const { registered_ms, ...said } = registration;
    const [what, first, shown] = await this.#call('carrierarrRegister', [
      ...[name, said.instance_id, JSON.stringify(said), channel],
      ...[this.#nodesMax, NAME_HELD_MS, said.said_ms ?? '', registered_ms, DEFAULT_LIVENESS_LIMITS.staleMs],
      said.start_number ?? '',
    ]);
    if (what === 'full') return { kind: 'full', nodes: Number(first) };
    if (what === 'outdated') return { kind: 'outdated', key: String(first) };
    return { kind: 'registered', key: String(first), name: String(shown) };
  }

  /**
   * A stream of a node begins; older streams of it are fenced from now on. `key`, if it is known which node the
   * connection belongs to: two machines may have one host name.
   */
  async openStream(name: string, key: string | undefined, monitor: string): Promise<OpenStreamAnswer> {
    const [what, first, fence, shown] = await this.#call('carrierarrOpenStream', [
      ...[name, key ?? '', monitor, this.#nodesMax],
      this.#keys.streamsChannel(),
    ]);
    if (what === 'full') return { kind: 'full', nodes: Number(first) };
    return { kind: 'open', key: String(first), fence: Number(fence), name: String(shown) };
  }

  /** A status came over a stream. Resolves to the node's present key; undefined if a newer stream has fenced this one. */
  async status(key: string, fence: number, status: NodeStatusRecord): Promise<string | undefined> {
    return keyOf(
      await this.#often.add(() => this.#call('carrierarrStreamSays', [key, fence, 'status', JSON.stringify(status)])),
    );
  }

  /** Something else came over a stream, and waits for this. As {@link NodeRegistry.status}. */
  async alive(key: string, fence: number): Promise<string | undefined> {
    return keyOf(await this.#call('carrierarrStreamSays', [key, fence, 'alive']));
  }

  /** A stream has ended. */
  async closeStream(key: string, fence: number): Promise<void> {
    // Its last status must not come after this.
    this.#often.flush();
    await this.#call('carrierarrStreamSays', [key, fence, 'close']);
  }

  /** The agent said over its stream that it goes: its node does, on all channels. Nothing, if a newer stream has fenced that one. */
  async goodbye(key: string, fence: number): Promise<void> {
    await this.#call('carrierarrStreamSays', [key, fence, 'goodbye']);
  }

  /** A heartbeat by gRPC. False if no such node is known. */
  async beat(name: string): Promise<boolean> {
    return (await this.#often.add(() => this.#call('carrierarrBeatGrpc', [name])))[0] === 'ok';
  }

  /**
   * A heartbeat by AMQP, also of a node that is not known yet. `full`: there are too many nodes. `outdated`: the node said
   * that it goes, and may have said this before.
   */
  async amqpBeat(name: string, heartbeat: NodeHeartbeat): Promise<'ok' | 'full' | 'outdated'> {
    return (
      await this.#call('carrierarrBeatAmqp', [
        ...[name, JSON.stringify(heartbeat), this.#nodesMax, heartbeat.said_ms ?? '', heartbeat.start_number ?? ''],
      ])
    )[0] as 'ok';
  }

  /**
   * It said by AMQP that it goes; `saidMs` is when, by its own clock, `start` by which start of the agent. `kept`: it still has a stream, and goes when that ends soon. `outdated`: it has
   * registered anew since. Also of an unknown node it is remembered: what it said before may come later.
   */
  async deregister(
    name: string,
    saidMs?: number,
    start?: number,
  ): Promise<'removed' | 'kept' | 'outdated' | 'unknown'> {
    const own = [name, saidMs ?? '', LISTENING_PAUSE_MS, start ?? ''];
    return (await this.#call('carrierarrDeregister', own))[0] as 'removed';
  }

  /** Forgets those of these nodes that were not heard of since `beforeMs`. Resolves to how many. */
  async forget(nodes: readonly string[], beforeMs: number): Promise<number> {
    const [, count] = await this.#call('carrierarrForgetNodes', [beforeMs, REMOVALS_MAX, ...nodes]);
    return Number(count);
  }

  /** This monitor serves agents, and listens on these channels now. To be said more often than {@link LISTENING_PAUSE_MS}. */
  async listen(monitor: string, channels: readonly NodeChannel[]): Promise<void> {
    await callScript(this.#connection, 'carrierarrListen', [
      ...[this.#keys.listening(), this.#keys.servingMonitors(), monitor, LISTENING_PAUSE_MS],
      ...channels,
    ]);
  }

  /** A monitor leads, and none serves agents. To be said as often as that somebody listens. */
  async listenToNone(): Promise<void> {
    const keys = [this.#keys.listening(), this.#keys.servingMonitors()];
    await callScript(this.#connection, 'carrierarrListen', [...keys, '', LISTENING_PAUSE_MS, NO_CHANNEL]);
  }

  /**
   * Says by which limits nodes live, so that all who show them judge alike. For the leading monitor; to be said again
   * whenever {@link NodeFollow.limits} are others, since Redis may lose them.
   */
  async setLimits({ staleMs, deadMs }: LivenessLimits): Promise<void> {
    await this.#connection.hset(this.#keys.nodesMeta(), 'limits', `${staleMs} ${deadMs}`);
  }

  /** This monitor serves no agents any more. */
  async leave(monitor: string): Promise<void> {
    await this.#connection.zrem(this.#keys.servingMonitors(), monitor);
  }
}

function keyOf([what, key]: readonly unknown[]): string | undefined {
  return what === 'ok' ? String(key) : undefined;
}
