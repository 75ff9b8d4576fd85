import { createLogger, systemClock, type Clock } from '@carrierarr/platform';
import { encodeEntry, Keys } from '@carrierarr/protocol';
import { CommandStore, defineScripts, OutputLog } from '@carrierarr/store';
import type { Redis } from 'ioredis';
import type { ClientSocket } from '../../apps/gateway/src/delivery/client.js';
import { Fanout } from '../../apps/gateway/src/delivery/fanout.js';
import { LogTail } from '../../apps/gateway/src/delivery/log-tail.js';
import { PageReader } from '../../apps/gateway/src/delivery/page-reader.js';
import type { TestRedis } from '../support/redis.js';

export const keys = new Keys('t');
export const history = { entriesMax: 100_000, bytesMax: 1 << 26, ageMaxMs: 3_600_000, executionsMs: 60_000 };

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
  get messages(): any[] {
    return this.frames.flatMap((frame) => frame.split('\n')).map((text) => JSON.parse(text));
  }
  lines(target?: string): string[] {
    return this.messages
      .filter((m) => (m.type === 'stdout' || m.type === 'lines') && (target === undefined || m.target === target))
      .flatMap((m) => m.lines ?? [m.data]);
  }
}

/** Real timeouts; intervals by hand. */
export class HandClock implements Clock {
  skewMs = 0;
  intervals: { callback: () => void; ms: number }[] = [];
  now() {
    return Date.now() + this.skewMs;
  }
  monotonicMs() {
    return performance.now() + this.skewMs;
  }
  setTimeout = systemClock.setTimeout;
  setInterval(callback: () => void, ms: number) {
    const item = { callback, ms };
    this.intervals.push(item);
    return { cancel: () => void this.intervals.splice(this.intervals.indexOf(item), 1) };
  }
  fire(ms: number) {
    for (const item of this.intervals) if (item.ms === ms) item.callback();
  }
  audit() {
    this.fire(1_500);
  }
  sweep() {
    this.fire(10_000);
  }
}

export async function makeGateway(
  redis: TestRedis,
  options: { recentBytesMax?: number; clientBufferBytes?: number; clock?: Clock; commands?: Redis } = {},
) {
  const subscriber = redis.client();
  const commands = options.commands ?? redis.client();
  defineScripts(commands);
  const clock = options.clock ?? systemClock;
  const log = new OutputLog(commands, keys);
  const repairs: string[] = [];
  const errors: unknown[] = [];
  const pages = new PageReader(log);
  let tail!: LogTail;
  const fanout = new Fanout({
    clock,
    clientBufferBytes: options.clientBufferBytes ?? 10_000,
    recentBytesMax: options.recentBytesMax ?? 1 << 20,
    metrics: { delivered() {}, fellBehind() {}, caughtUp() {}, gap() {} },
    readPage: (target, after) => pages.read(target, after),
    onError: (error) => errors.push(error),
    tail: (listener) =>
      (tail = new LogTail({
        ...{ subscriber, commands, log, keys, clock, gatewayId: 'g', listener },
        logger: createLogger({ program: 'test', level: 'silent' }),
        onHealth: () => undefined,
        metrics: {
          repairs: (reason) => repairs.push(reason),
          gaps() {},
          probeFailed() {},
          roundTripSeconds() {},
          unreadable() {},
        },
      })),
  });
  await fanout.start();
  return { fanout, tail, subscriber, commands, log, repairs, errors, stop: () => fanout.stop() };
}

export async function writer(commands: Redis, target: string) {
  const store = new CommandStore({
    ...{ connection: commands, keys, history, queueLengthMax: 5, pendingTargetsMax: 6400, idempotencyMs: 60_000 },
  });
  await store.submit({ target, command: 'c', args: [], subject: 's', address: 'a', gateway: 'g', idempotent: false });
  const claim = await store.claim(target, { id: 'r', incarnation: 'i' });
  if (claim.kind !== 'claimed') throw new Error(claim.kind);
  let sequence = 0;
  let number = 0;
  return {
    store,
    claim,
    get written() {
      return Array.from({ length: number }, (_, i) => `${target}#${i + 1}`);
    },
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

/** Makes a method wait until opened. */
export function gate<T extends object, K extends keyof T>(
  object: T,
  method: K,
  when: (...args: any[]) => boolean = () => true,
  after = false,
) {
  const original = (object[method] as any).bind(object);
  let open!: () => void;
  let reached!: () => void;
  const opened = new Promise<void>((resolve) => (open = resolve));
  const waiting = new Promise<void>((resolve) => (reached = resolve));
  (object as any)[method] = async (...args: any[]) => {
    if (!when(...args)) return original(...args);
    if (after) {
      const result = await original(...args);
      reached();
      await opened;
      return result;
    }
    reached();
    await opened;
    return original(...args);
  };
  return { open, waiting, restore: () => void ((object as any)[method] = original) };
}
export const pause = (ms: number) => new Promise((r) => setTimeout(r, ms));
