/** The target of a node: that of the worker record with its instance id, else its name. */
import type { Clock } from '@carrierarr/platform';
import { type Keys, workerRecordSchema } from '@carrierarr/protocol';
import type { RedisConnection } from '@carrierarr/store';

/** Workers seldom change their target, ms. */
const KNOWN_FOR_MS = 10_000;
const KNOWN_MAX = 50_000;

export class NodeTargets {
  readonly #connection: RedisConnection;
  readonly #keys: Keys;
  readonly #clock: Clock;
  readonly #known = new Map<string, { target: string | undefined; untilMs: number }>();

  constructor({ connection, keys, clock }: { connection: RedisConnection; keys: Keys; clock: Clock }) {
    this.#connection = connection;
    this.#keys = keys;
    this.#clock = clock;
  }

  async of({ key, name }: { key: string; name: string }): Promise<string> {
    const [target] = await this.ofAll([{ key, name }]);
    return target ?? name;
  }

  /** One for each, in the same order. */
  async ofAll(nodes: readonly { key: string; name: string }[]): Promise<string[]> {
    const nowMs = this.#clock.monotonicMs();
    const unknown = nodes.filter(({ key }) => (this.#known.get(key)?.untilMs ?? 0) <= nowMs).map(({ key }) => key);
    if (unknown.length > 0) {
      const texts = await this.#connection.hmget(this.#keys.workers(), ...unknown);
      if (this.#known.size + unknown.length > KNOWN_MAX) this.#known.clear();
      for (const [i, key] of unknown.entries())
        this.#known.set(key, { target: targetOf(texts[i]), untilMs: nowMs + KNOWN_FOR_MS });
    }
    return nodes.map(({ key, name }) => this.#known.get(key)?.target ?? name);
  }
}

function targetOf(text: string | null | undefined): string | undefined {
  if (text == null) return undefined;
  try {
    return workerRecordSchema.safeParse(JSON.parse(text)).data?.target;
  } catch {
    return undefined;
  }
}
