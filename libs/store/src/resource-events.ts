/**
 * What happened to a resource, for people: equal events are one, with how often and when first and last. Kept a
 * while beside the resource, and after it is gone.
 */
import type { Keys, ResourceEvent, ResourceKind } from '@carrierarr/protocol';
import { callScript, type RedisConnection } from './connection.js';
import { refuseDeposed } from './leadership.js';

/** Different events kept of a resource; the one longest not repeated gives way. */
export const EVENTS_MAX = 50;
/** How long an event is kept after it last happened, ms. */
export const EVENTS_KEPT_MS = 7 * 24 * 3_600_000;
/** Longest message; what is longer is cut. */
export const EVENT_MESSAGE_LENGTH_MAX = 1_024;

export class ResourceEvents {
  readonly #connection: RedisConnection;
  readonly #keys: Keys;

  constructor({ connection, keys }: { connection: RedisConnection; keys: Keys }) {
    this.#connection = connection;
    this.#keys = keys;
  }

  /** Adds an event, or counts it once more. `fence`: only while that leader leads, else {@link DeposedError}. */
  async record(
    kind: ResourceKind,
    name: string,
    { type, reason, message }: Pick<ResourceEvent, 'type' | 'reason' | 'message'>,
    fence?: number,
  ): Promise<void> {
    const reply = await callScript(this.#connection, 'carrierarrRecordEvent', [
      this.#keys.leader(),
      this.#keys.resourceEvents(kind, name),
      fence ?? '',
      JSON.stringify([type, reason, message.slice(0, EVENT_MESSAGE_LENGTH_MAX)]),
      EVENTS_MAX,
      EVENTS_KEPT_MS,
    ]);
    refuseDeposed(fence, reply);
  }

  /** Its events, the one that happened last at the end. */
  async list(kind: ResourceKind, name: string): Promise<ResourceEvent[]> {
    const stored = await this.#connection.hgetall(this.#keys.resourceEvents(kind, name));
    const events = Object.entries(stored).map(([event, counts]): ResourceEvent => {
      const [type, reason, message] = JSON.parse(event) as [ResourceEvent['type'], string, string];
      const [count, firstMs, lastMs] = counts.split(' ').map(Number) as [number, number, number];
      const firstTime = new Date(firstMs).toISOString();
      return { type, reason, message, count, firstTime, lastTime: new Date(lastMs).toISOString() };
    });
    return events.toSorted((a, b) => (a.lastTime < b.lastTime ? -1 : a.lastTime > b.lastTime ? 1 : 0));
  }
}
