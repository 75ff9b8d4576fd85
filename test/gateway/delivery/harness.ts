/**
 * A gateway's delivery over a real Redis, without sockets: runners that write, clients that record, a clock whose
 * audits and sweeps happen when the test says so, and gates that hold a call up at the moment a race needs.
 */
import { type Clock, createLogger, systemClock, type Timer } from '@carrierarr/platform';
import { encodeEntry, Keys } from '@carrierarr/protocol';
import { CommandStore, defineScripts, OutputLog } from '@carrierarr/store';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, expect, vi } from 'vitest';
import type { Client, ClientSocket } from '../../../apps/gateway/src/delivery/client.js';
import { Fanout } from '../../../apps/gateway/src/delivery/fanout.js';
import { LogTail } from '../../../apps/gateway/src/delivery/log-tail.js';
import { PageReader } from '../../../apps/gateway/src/delivery/page-reader.js';
import { startRedis, type TestRedis } from '../../support/redis.js';

export const keys = new Keys('t');
const history = { entriesMax: 100_000, bytesMax: 1 << 26, ageMaxMs: 3_600_000, executionsMs: 60_000 };

interface Message {
  type: string;
  data: string;
  target: string;
  offset?: number;
  from?: number;
  to?: number;
  lines?: string[];
}

/** A socket that records what it is sent and can be full. */
export class FakeSocket implements ClientSocket {
  frames: string[] = [];
  full = false;
  buffered = 0;
  send(frame: Buffer): boolean {
    this.frames.push(frame.toString());
    if (this.full) this.buffered += frame.length;
    return !this.full;
  }
  bufferedBytes(): number {
    return this.buffered;
  }
  get messages(): Message[] {
    return this.frames.flatMap((frame) => frame.split('\n')).map((text) => JSON.parse(text) as Message);
  }
  lines(target?: string): string[] {
    return this.messages
      .filter((m) => (m.type === 'stdout' || m.type === 'lines') && (target === undefined || m.target === target))
      .flatMap((m) => m.lines ?? [m.data]);
  }
}

const AUDIT_INTERVAL_MS = 1_500;
const SWEEP_INTERVAL_MS = 10_000;

/** Time goes on by itself, timeouts come by themselves; intervals only by hand. */
export class HandClock implements Clock {
  /** Added to the time. */
  skewMs = 0;
  readonly #intervals = new Set<{ callback: () => void; ms: number }>();
  now(): number {
    return Date.now() + this.skewMs;
  }
  monotonicMs(): number {
    return performance.now() + this.skewMs;
  }
  setTimeout(callback: () => void, ms: number): Timer {
    return systemClock.setTimeout(callback, ms);
  }
  setInterval(callback: () => void, ms: number): Timer {
    const interval = { callback, ms };
    this.#intervals.add(interval);
    return { cancel: () => void this.#intervals.delete(interval) };
  }
  /** Compares with the logs what came, and probes the subscription. */
  audit(): void {
    this.#fire(AUDIT_INTERVAL_MS);
  }
  /** Forgets what nobody has needed for a while. */
  sweep(): void {
    this.#fire(SWEEP_INTERVAL_MS);
  }
  #fire(ms: number): void {
    for (const interval of this.#intervals) if (interval.ms === ms) interval.callback();
  }
}

interface GatewayOptions {
  recentBytesMax?: number;
  clientBufferBytes?: number;
  clock?: Clock;
  /** Has it speak to its Redis as to a Cluster: one channel a call, a probe for each partition. */
  asCluster?: boolean;
}

/** Starts a Redis for the tests of a file, empties it before each test, and stops each test's gateways. */
export function useDelivery() {
  let redis: TestRedis;
  let commands: Redis;
  const stops: (() => void)[] = [];

  beforeAll(async () => {
    redis = await startRedis({ appendOnly: true });
    commands = redis.client();
    defineScripts(commands);
  });
  afterAll(() => redis.stop());
  beforeEach(() => commands.flushall());
  afterEach(() => {
    for (const stop of stops.splice(0)) stop();
  });

  async function gateway(options: GatewayOptions = {}) {
    const { clock = systemClock } = options;
    const subscribers: Redis[] = [];
    const log = new OutputLog(commands, keys);
    const pages = new PageReader(log);
    const logger = createLogger({ program: 'test', level: 'silent' });
    const seen = {
      /** Targets of which pages were asked for by clients that are behind. */
      reads: [] as string[],
      repairs: [] as string[],
      health: [] as boolean[],
      /** Probes that came back. */
      probes: 0,
      warnings: vi.spyOn(logger, 'warn'),
    };
    const tails: LogTail[] = [];
    const fanout = new Fanout({
      clock,
      clientBufferBytes: options.clientBufferBytes ?? 10_000,
      recentBytesMax: options.recentBytesMax ?? 1 << 20,
      metrics: {
        delivered: () => undefined,
        fellBehind: () => undefined,
        caughtUp: () => undefined,
        gap: () => undefined,
      },
      readPage(target, after, epoch) {
        seen.reads.push(target);
        return pages.read(target, after, epoch);
      },
      allCaughtUp: () => pages.clear(),
      onError: (error) => expect.fail(String(error)),
      tail(listener) {
        const tail = new LogTail({
          ...{ commands, log, keys, clock, gatewayId: 'g', listener, logger },
          subscribe() {
            const subscriber = redis.client();
            if (options.asCluster) Object.defineProperty(subscriber, 'isCluster', { value: true });
            subscribers.push(subscriber);
            return subscriber;
          },
          onHealth: (ok) => seen.health.push(ok),
          metrics: {
            repairs: (reason) => seen.repairs.push(reason),
            gaps: () => undefined,
            probeFailed: () => undefined,
            roundTripSeconds: () => void (seen.probes += 1),
            unreadable: () => undefined,
          },
        });
        tails.push(tail);
        return tail;
      },
    });
    await fanout.start();
    stops.push(() => fanout.stop());
    const [tail] = tails as [LogTail];
    // `subscribers`: the connections it has listened on; `subscriber`: the first of them.
    return { fanout, tail, log, seen, subscribers, subscriber: subscribers[0] as Redis };
  }

  return {
    gateway,
    writer: (target: string) => writer(commands, target),
    get redis() {
      return redis;
    },
    get commands() {
      return commands;
    },
  };
}

/** Plays a runner that holds a target. */
async function writer(connection: Redis, target: string) {
  const store = new CommandStore({
    ...{ connection, keys, history, queueLengthMax: 5, pendingTargetsMax: 6400, idempotencyMs: 60_000 },
  });
  await store.submit({ target, command: 'c', args: [], subject: 's', address: 'a', gateway: 'g', idempotent: false });
  const claim = await store.claim(target, { id: 'r', incarnation: 'i' });
  if (claim.kind !== 'claimed') throw new Error(claim.kind);
  let sequence = 0;
  let number = 0;
  return {
    store,
    get written() {
      return Array.from({ length: number }, (_, i) => `${target}#${i + 1}`);
    },
    /** Writes lines as one entry. */
    async write(count = 1) {
      sequence += 1;
      const lines = Array.from({ length: count }, (_, i) => `${target}#${number + i + 1}`);
      number += count;
      const entry = encodeEntry({
        ...{ kind: 'lines', execution: claim.execution.id, sequence, timeMs: 1 },
        ...{ runs: [{ stream: 'o', lines: count }], body: Buffer.from(lines.join('\n')) },
      });
      const answer = await store.append(target, claim.fence, sequence, count, entry);
      if (answer.kind !== 'ok') throw new Error(answer.kind);
      return answer.last;
    },
  };
}

export function client(fanout: Fanout): { client: Client; socket: FakeSocket } {
  const socket = new FakeSocket();
  return { client: fanout.add(socket), socket };
}

/**
 * Holds calls of a method up until `open()`: before they begin, or (`after`) with their answer in hand. `reached`
 * resolves at the first one.
 */
export function gate<K extends string, O extends Record<K, (...args: never[]) => Promise<unknown>>>(
  object: O,
  method: K,
  options: { when?: (...args: Parameters<O[K]>) => boolean; moment?: 'before' | 'after' } = {},
) {
  const { when = () => true, moment = 'before' } = options;
  const original = object[method].bind(object) as (...args: Parameters<O[K]>) => Promise<unknown>;
  const opened = latch();
  const reached = latch();
  let held = 0;
  object[method] = (async (...args: Parameters<O[K]>) => {
    if (!when(...args)) return original(...args);
    if (moment === 'before') {
      held += 1;
      reached.resolve();
      await opened.promise;
      return original(...args);
    }
    const answer = await original(...args);
    held += 1;
    reached.resolve();
    await opened.promise;
    return answer;
  }) as unknown as O[K];
  return {
    reached: reached.promise,
    get held() {
      return held;
    },
    /** Lets go of those that wait; later ones pass. */
    open() {
      object[method] = original as unknown as O[K];
      opened.resolve();
    },
  };
}

function latch(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((r) => {
    resolve = r;
  });
  return { promise, resolve };
}
