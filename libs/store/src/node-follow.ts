/**
 * All nodes in memory, brought up to date by what changed since the last look: who asks often pays for changes only.
 */
import type {
  Keys,
  ListeningSince,
  LivenessLimits,
  NodeChannel,
  NodeRecord,
  NodeRegistration,
  NodeStream,
} from '@carrierarr/protocol';
import { NODE_CHANNELS, nodeHeartbeatSchema, nodeRegistrationSchema, nodeStatusSchema } from '@carrierarr/protocol';
import type { RedisConnection } from './connection.js';
import { LISTENING_PAUSE_MS } from './node-registry.js';
import { replies } from './transaction.js';

const KEYS_PER_CALL_MAX = 500;
/** By which nodes live while no monitor has said others. */
export const DEFAULT_LIVENESS_LIMITS: LivenessLimits = { staleMs: 120_000, deadMs: 300_000 };

export class NodeFollow {
  readonly #connection: RedisConnection;
  readonly #keys: Keys;
  readonly #nodes = new Map<string, NodeRecord>();
  #aliases: ReadonlyMap<string, string> = new Map();
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

  /** By key, as of the last {@link NodeFollow.refresh}. */
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

  /** A node by any of its names. */
  find(name: string): NodeRecord | undefined {
    return this.#nodes.get(this.#aliases.get(name) ?? name);
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
      this.#nodes.clear();
      this.#version = 0;
      this.#seenMs = {};
      this.#epoch = epoch;
      // From an empty view the same look reads everything.
      if (version > 0) return this.#refresh();
    }
    const nowMs = Number(time[0]) * 1000 + Math.floor(Number(time[1]) / 1000);
    const monitors = await this.#connection.zrangebyscore(keys.servingMonitors(), nowMs - LISTENING_PAUSE_MS, '+inf');
    for (const key of removed) this.#nodes.delete(key);
    for (let i = 0; i < changed.length; i += KEYS_PER_CALL_MAX)
      await this.#read(changed.slice(i, i + KEYS_PER_CALL_MAX));
    this.#see('grpc', grpc);
    this.#see('amqp', amqp);
    // A name never changes hands without a change of its node.
    if (version !== this.#version)
      this.#aliases = new Map(Object.entries(await this.#connection.hgetall(keys.nodeAliases())));
    this.#monitors = new Set(monitors);
    this.#listening = listeningOf(listening, nowMs);
    this.#limits = limitsOf(meta[3]);
    this.#version = version;
    this.#nowMs = nowMs;
  }

  async #read(nodeKeys: readonly string[]): Promise<void> {
    const keys = this.#keys;
    const read = (hash: string) => this.#connection.hmget(hash, ...nodeKeys);
    const [names, grpc, amqp, status, heartbeat, streams] = await Promise.all([
      read(keys.nodeNames()),
      read(keys.nodePart('registration:grpc')),
      read(keys.nodePart('registration:amqp')),
      read(keys.nodePart('status')),
      read(keys.nodePart('heartbeat')),
      read(keys.nodeStreams()),
    ]);
    for (const [i, key] of nodeKeys.entries()) {
      const name = names[i];
      // Removed between the two looks: the next one says so.
      if (name == null) continue;
      const registration = registrationOf(
        parsed(nodeRegistrationSchema, grpc[i]),
        parsed(nodeRegistrationSchema, amqp[i]),
      );
      const [statusRecord, beat] = [parsed(nodeStatusSchema, status[i]), parsed(nodeHeartbeatSchema, heartbeat[i])];
      this.#nodes.set(key, {
        ...{ key, name, seenMs: this.#nodes.get(key)?.seenMs ?? {} },
        ...(registration !== undefined && { registration }),
        ...(statusRecord !== undefined && { status: statusRecord }),
        ...(beat !== undefined && { heartbeat: beat }),
        ...streamOf(streams[i]),
      });
    }
  }

  #see(channel: NodeChannel, flat: readonly string[]): void {
    for (let i = 0; i + 1 < flat.length; i += 2) {
      const ms = Number(flat[i + 1]);
      this.#seenMs[channel] = Math.max(this.#seenMs[channel] ?? 0, ms);
      const node = this.#nodes.get(flat[i] as string);
      if (node !== undefined && node.seenMs[channel] !== ms) {
        this.#nodes.set(node.key, { ...node, seenMs: { ...node.seenMs, [channel]: ms } });
      }
    }
  }
}

/** What was said by gRPC counts; by AMQP only where that said nothing. */
function registrationOf(
  grpc: NodeRegistration | undefined,
  amqp: NodeRegistration | undefined,
): NodeRegistration | undefined {
  if (grpc === undefined || amqp === undefined) return grpc ?? amqp;
  const said = Object.entries(grpc).filter(([, value]) => value !== '' && value !== 'NODE_TYPE_UNSPECIFIED');
  return { ...amqp, ...(Object.fromEntries(said) as Partial<NodeRegistration>) };
}

/** `<fence> <since ms> <monitor>` of an open stream, `<fence> <end ms>` of one that has ended. */
function streamOf(text: string | null | undefined): { stream: NodeStream } | { streamEndedMs: number } | undefined {
  if (text == null) return undefined;
  const [fence, ms, ...monitor] = text.split(' ');
  if (monitor.length === 0) return { streamEndedMs: Number(ms) };
  return { stream: { fence: Number(fence), since_ms: Number(ms), monitor: monitor.join(' ') } };
}

function listeningOf(texts: Readonly<Record<string, string>>, nowMs: number): ListeningSince {
  const listening: ListeningSince = {};
  for (const channel of NODE_CHANNELS) {
    const [since, until] = (texts[channel] ?? '').split(' ').map(Number);
    if (since !== undefined && until !== undefined && nowMs <= until) listening[channel] = since;
  }
  return listening;
}

function limitsOf(text: string | null | undefined): LivenessLimits {
  const [staleMs = 0, deadMs = 0] = (text ?? '').split(' ').map(Number);
  return staleMs > 0 && deadMs > 0 ? { staleMs, deadMs } : DEFAULT_LIVENESS_LIMITS;
}

interface Parser<T> {
  safeParse(value: unknown): { data?: T | undefined };
}

function parsed<T>(schema: Parser<T>, text: string | null | undefined): T | undefined {
  if (text == null) return undefined;
  try {
    return schema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
