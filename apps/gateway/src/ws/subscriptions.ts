/**
 * What a connection wants to see.
 *
 * A new old-style connection watches everything until it first subscribes to something. A subscription may begin in
 * the past (`tail`, `since`); the client then gets the older output first, in order, and what comes meanwhile after.
 */
import type { Clock } from '@carrierarr/platform';
import type { Keys, LogPoint, SubscribeMessage, UnsubscribeMessage } from '@carrierarr/protocol';
import { ClientError, isEverything, isPattern, PARTITIONS, targetMatcher, targetSchema } from '@carrierarr/protocol';
import type { OutputLog, RedisConnection } from '@carrierarr/store';
import { encodeGap, timestampOf } from '../delivery/encode.js';
import type { Fanout } from '../delivery/fanout.js';
import type { Feed } from '../delivery/feed.js';
import type { Connection } from './connection.js';
import { describeProblem } from '../problem.js';
import type { StatusFeed } from '../status/status-feed.js';

/** Targets that a pattern with `tail` or `since` may match. */
const REPLAYED_TARGETS_MAX = 2_000;

export interface SubscriptionsOptions {
  fanout: Fanout;
  log: OutputLog;
  redis: RedisConnection;
  keys: Keys;
  clock: Clock;
  status: Pick<StatusFeed, 'optIn' | 'remove'>;
  subscriptionsMax: number;
}

export class Subscriptions {
  readonly #o: SubscriptionsOptions;

  constructor(options: SubscriptionsOptions) {
    this.#o = options;
  }

  async subscribe(connection: Connection, message: SubscribeMessage): Promise<void> {
    if (message.status === false) this.#o.status.remove(connection);
    if (message.workers !== undefined && !this.#subscribeToWorkers(connection, message)) return;
    const name = message.target ?? '';
    const { client } = connection;
    const count = (client.exact?.size ?? 0) + (client.patterns?.size ?? 0);
    if (count >= this.#o.subscriptionsMax && !client.exact?.has(name) && !client.patterns?.has(name)) {
      throw new ClientError(
        'too_many_subscriptions',
        `This connection has ${count} subscriptions, as many as are allowed. Use a pattern such as "gpu-*", or unsubscribe first.`,
      );
    }
    const opted = this.#optIn(connection, message);
    if (isPattern(name) || isEverything(name)) await this.#subscribeMany(connection, message, name);
    else await this.#subscribeOne(connection, message, name, opted);
    if (opted && (isPattern(name) || isEverything(name))) {
      connection.tell({ type: 'subscribed', target: isEverything(name) ? '*' : name }, this.#o.clock.now());
    }
  }

  /** True if the message is about output too: then it names a target, be it an empty one. */
  #subscribeToWorkers(connection: Connection, { target, workers, ...more }: SubscribeMessage): boolean {
    const isAboutOutput = target !== undefined && target !== null;
    const about = (['tail', 'since', 'positions', 'offsets', 'batch'] as const).find(
      (field) => more[field] !== undefined,
    );
    if (!isAboutOutput && about !== undefined) {
      throw new ClientError(
        'bad_message',
        `\`${about}\` is about output, but with \`workers\` and without \`target\` the message is about workers alone. Add "target":"*" to mean all output.`,
      );
    }
    if (more.notices) connection.notices = true;
    this.#o.status.optIn(connection, workers === true ? undefined : workers);
    return isAboutOutput;
  }

  /** Takes note of what the message asks for beyond the old protocol. */
  #optIn(connection: Connection, message: SubscribeMessage): boolean {
    if (message.notices) connection.notices = true;
    const { tail, since, positions, offsets, batch } = message;
    const asks = offsets || batch || [tail, since, positions].some((field) => field !== undefined);
    const { client } = connection;
    if (batch && client.encoding !== 'batch') this.#o.fanout.setEncoding(client, 'batch');
    else if (asks && client.encoding === 'plain') this.#o.fanout.setEncoding(client, 'offsets');
    return asks || connection.modern;
  }

  async #subscribeOne(connection: Connection, message: SubscribeMessage, name: string, opted: boolean): Promise<void> {
    const parsed = targetSchema.safeParse(name);
    if (!parsed.success) throw new ClientError('bad_message', `\`target\`: ${describeProblem(parsed.error, name)}`);
    if (message.positions)
      throw new ClientError('bad_message', '`positions` is for patterns; use `since` for one target.');
    const { fanout } = this.#o;
    const { client } = connection;
    const feed = await fanout.feed(name);
    // Where it begins may take a while to find; until then nobody may want the feed.
    const letGo = fanout.keep(feed);
    const start = await this.#start(connection, feed, message).finally(letGo);
    if (connection.closed) return;
    client.exact ??= new Set();
    client.exact.add(name);
    fanout.join(client, feed);
    if (client.everything === 'implicit') fanout.unwatchEverything(client);
    if (start?.gap) this.#tellGap(connection, feed, start.gap);
    const after = start?.after ?? client.sentOffset(feed);
    if (opted) {
      connection.tell({ type: 'subscribed', target: name, epoch: feed.epoch, offset: after }, this.#o.clock.now());
    }
    fanout.replay(client, feed, after);
  }

  /** Where a subscription begins, if not with what comes next. */
  async #start(
    connection: Connection,
    feed: Feed,
    { tail, since }: Pick<SubscribeMessage, 'tail' | 'since'>,
  ): Promise<{ after: number; gap?: 'epoch' } | undefined> {
    const { fanout, log } = this.#o;
    if (since !== undefined && 'epoch' in since) return this.#resumeAt(feed, since);
    if (since !== undefined) return { after: (await log.timeStart(feed.target, Date.parse(since.time))).after };
    if (tail !== undefined) {
      await fanout.refresh(feed.target);
      return connection.closed ? undefined : { after: (await log.tailStart(feed.target, tail)).after };
    }
    return undefined;
  }

  async #resumeAt(feed: Feed, point: LogPoint): Promise<{ after: number; gap?: 'epoch' }> {
    // A client that comes from another gateway may be ahead of what this one has seen.
    if (point.epoch !== feed.epoch || point.offset > feed.last) await this.#o.fanout.refresh(feed.target);
    if (point.epoch === feed.epoch && point.offset <= feed.last) return { after: point.offset };
    // Nothing seen before is comparable: all that the log has is new to the client.
    return point.epoch === '' ? { after: 0 } : { after: 0, gap: 'epoch' };
  }

  #tellGap(connection: Connection, feed: Feed, reason: 'epoch'): void {
    const gap = { target: feed.target, epoch: feed.epoch, from: 0, to: 0, reason };
    connection.send(Buffer.from(encodeGap(gap, timestampOf(this.#o.clock.now()), connection.client.encoding)));
  }

  async #subscribeMany(connection: Connection, message: SubscribeMessage, pattern: string): Promise<void> {
    const { fanout } = this.#o;
    const { client } = connection;
    if (message.since !== undefined && 'epoch' in message.since) {
      throw new ClientError(
        'bad_message',
        '`since` with an offset is for one target; for a pattern use `since: {"time": …}` and `positions`.',
      );
    }
    await fanout.everythingReady;
    if (connection.closed) return;
    const replays = message.tail !== undefined || message.since !== undefined || message.positions !== undefined;
    if (replays) fanout.hold(client);
    try {
      const matches = targetMatcher(pattern);
      if (isEverything(pattern)) {
        fanout.watchEverything(client, 'explicit');
      } else {
        await fanout.addPattern(client, pattern, matches);
        if (connection.closed) return;
        if (client.everything === 'implicit') fanout.unwatchEverything(client);
      }
      if (replays) await this.#replayMany(connection, message, matches);
    } finally {
      if (replays) fanout.release(client);
    }
  }

  async #replayMany(
    connection: Connection,
    message: SubscribeMessage,
    matches: (target: string) => boolean,
  ): Promise<void> {
    const { fanout } = this.#o;
    const { client } = connection;
    const sinceMs = message.since !== undefined && 'time' in message.since ? Date.parse(message.since.time) : undefined;
    const named = Object.keys(message.positions ?? {}).filter(matches);
    const known = sinceMs === undefined && message.tail === undefined ? [] : await this.#knownTargets(matches, sinceMs);
    const targets = new Set([...named, ...known]);
    if (targets.size > REPLAYED_TARGETS_MAX) {
      throw new ClientError(
        'bad_message',
        `The pattern matches ${targets.size} targets; older output can be had of ${REPLAYED_TARGETS_MAX} at once. Use narrower patterns.`,
      );
    }
    await Promise.all(
      [...targets].map(async (target) => {
        const feed = await fanout.feed(target);
        const position = message.positions?.[target];
        const letGo = fanout.keep(feed);
        const start = await this.#start(connection, feed, position ? { since: position } : message).finally(letGo);
        if (connection.closed || start === undefined) return;
        if (start.gap) this.#tellGap(connection, feed, start.gap);
        if (client.everything === 'no') fanout.join(client, feed);
        fanout.replay(client, feed, start.after);
      }),
    );
  }

  /** Matching targets with output or commands since a time. */
  async #knownTargets(matches: (target: string) => boolean, sinceMs = 0): Promise<string[]> {
    const { redis, keys } = this.#o;
    const lists = await Promise.all(
      Array.from({ length: PARTITIONS }, (_, p) => redis.zrangebyscore(keys.targets(p), sinceMs, '+inf')),
    );
    return lists.flat().filter(matches);
  }

  unsubscribe(connection: Connection, message: UnsubscribeMessage): void {
    const name = message.target ?? '';
    const { client } = connection;
    const { fanout } = this.#o;
    if (isEverything(name)) {
      fanout.unwatchEverything(client);
    } else if (isPattern(name)) {
      fanout.removePattern(client, name);
    } else if (client.exact?.delete(name)) {
      for (const feed of client.feeds ?? []) {
        if (feed.target === name && !matchesAny(client.patterns, name)) fanout.leave(client, feed);
      }
    }
    connection.tell({ type: 'unsubscribed', target: isEverything(name) ? '*' : name }, this.#o.clock.now());
  }
}

function matchesAny(patterns: Map<string, (target: string) => boolean> | null, target: string): boolean {
  for (const matches of patterns?.values() ?? []) if (matches(target)) return true;
  return false;
}
