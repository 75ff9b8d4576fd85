/** What Redis keeps of nodes, as records. */
import type {
  Keys,
  ListeningSince,
  LivenessLimits,
  NodeHeartbeat,
  NodeRecord,
  NodeRegistration,
  NodeStatusRecord,
  NodeStream,
} from '@carrierarr/protocol';
import {
  NO_CHANNEL,
  NODE_CHANNELS,
  nodeHeartbeatSchema,
  nodeRegistrationSchema,
  nodeStatusSchema,
} from '@carrierarr/protocol';
import type { RedisConnection } from './connection.js';

type Multi = ReturnType<RedisConnection['multi']>;

/** By which nodes live while no monitor has said others. */
export const DEFAULT_LIVENESS_LIMITS: LivenessLimits = { staleMs: 120_000, deadMs: 300_000 };

/** A node but for when it was heard of. */
export type KeptNode = Omit<NodeRecord, 'seenMs'>;

type Text = string | null | undefined;

/** What is kept of one node, as texts: name, registration by gRPC, by AMQP, status, heartbeat, stream. */
type NodeTexts = readonly [Text, Text, Text, Text, Text, Text];

/** Adds what reads nodes by their keys to a transaction; {@link nodeTextsOf} takes its replies. */
export function withNodeTexts(multi: Multi, keys: Keys, nodeKeys: readonly string[]): Multi {
  const hashes = [
    keys.nodeNames(),
    keys.nodePart('registration:grpc'),
    keys.nodePart('registration:amqp'),
    keys.nodePart('status'),
    keys.nodePart('heartbeat'),
    keys.nodeStreams(),
  ];
  return hashes.reduce((all, hash) => all.hmget(hash, ...nodeKeys), multi);
}

/** The texts of each node, of the replies to {@link withNodeTexts}; undefined where there is no such node. */
export function nodeTextsOf(nodeKeys: readonly string[], columns: readonly Text[][]): (NodeTexts | undefined)[] {
  return nodeKeys.map((_, i) => {
    const texts = columns.map((column) => column[i]) as unknown as NodeTexts;
    return texts[0] == null ? undefined : texts;
  });
}

/** Makes records of texts. What a node said before and says again is not read again. */
export class NodeReader {
  readonly #grpc = new LastParsed<NodeRegistration>(nodeRegistrationSchema);
  readonly #amqp = new LastParsed<NodeRegistration>(nodeRegistrationSchema);
  readonly #status = new LastParsed<NodeStatusRecord>(nodeStatusSchema);
  readonly #heartbeat = new LastParsed<NodeHeartbeat>(nodeHeartbeatSchema);

  /** Throws nothing: what cannot be read was not said. */
  read(key: string, [name, grpc, amqp, status, heartbeat, stream]: NodeTexts): KeptNode {
    const registration = registrationOf(this.#grpc.of(key, grpc), this.#amqp.of(key, amqp));
    const [statusRecord, beat] = [this.#status.of(key, status), this.#heartbeat.of(key, heartbeat)];
    return {
      ...{ key, name: name ?? key },
      ...(registration !== undefined && { registration }),
      ...(statusRecord !== undefined && { status: statusRecord }),
      ...(beat !== undefined && { heartbeat: beat }),
      ...streamOf(stream),
    };
  }

  forget(key: string): void {
    for (const each of [this.#grpc, this.#amqp, this.#status, this.#heartbeat]) each.forget(key);
  }

  clear(): void {
    for (const each of [this.#grpc, this.#amqp, this.#status, this.#heartbeat]) each.clear();
  }
}

interface Parser<T> {
  safeParse(value: unknown): { data?: T | undefined };
}

/** The last text of each node with what it says. */
class LastParsed<T> {
  readonly #schema: Parser<T>;
  readonly #last = new Map<string, { text: string; value: T | undefined }>();

  constructor(schema: Parser<T>) {
    this.#schema = schema;
  }

  of(key: string, text: Text): T | undefined {
    if (text == null) {
      this.#last.delete(key);
      return undefined;
    }
    const last = this.#last.get(key);
    if (last?.text === text) return last.value;
    const value = parsed(this.#schema, text);
    this.#last.set(key, { text, value });
    return value;
  }

  forget(key: string): void {
    this.#last.delete(key);
  }

  clear(): void {
    this.#last.clear();
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
function streamOf(text: Text): { stream: NodeStream } | { streamEndedMs: number } | undefined {
  if (text == null) return undefined;
  const [fence, ms, ...monitor] = text.split(' ');
  if (monitor.length === 0) return { streamEndedMs: Number(ms) };
  return { stream: { fence: Number(fence), since_ms: Number(ms), monitor: monitor.join(' ') } };
}

/** Since when each channel has been listened to, as the monitors said. */
export function listeningOf(texts: Readonly<Record<string, string>>, nowMs: number): ListeningSince {
  const listening: ListeningSince = {};
  for (const channel of [...NODE_CHANNELS, NO_CHANNEL] as const) {
    const [since, until] = (texts[channel] ?? '').split(' ').map(Number);
    if (since !== undefined && until !== undefined && nowMs <= until) listening[channel] = since;
  }
  return listening;
}

export function limitsOf(text: Text): LivenessLimits {
  const [staleMs = 0, deadMs = 0] = (text ?? '').split(' ').map(Number);
  return staleMs > 0 && deadMs > 0 ? { staleMs, deadMs } : DEFAULT_LIVENESS_LIMITS;
}

/** Epoch ms of an answer to TIME. */
export function msOfTime(time: readonly [string, string]): number {
  return Number(time[0]) * 1000 + Math.floor(Number(time[1]) / 1000);
}

function parsed<T>(schema: Parser<T>, text: string): T | undefined {
  try {
    return schema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
