/**
 * One stream of an agent: what comes is bounded and handled one after the other, what goes out is never heaped up. Who it is
 * and what its messages mean is others' business.
 *
 * Backpressure goes all the way: while a message is handled (and a message of output waits for room on the way to Redis),
 * no more are read, so the agent's writes block. An agent that does not read its answers is not read either; one that
 * goes on like that loses its stream.
 */
import { type ServerDuplexStream, type StatusObject, status as codes } from '@grpc/grpc-js';
import { type Clock, sleep, type Timer, TokenBucket } from '@carrierarr/platform';
import type { AgentMessage, ControlMessage } from '@carrierarr/protocol/agent-control';
import type { Refusal } from './metrics.js';

/** A message with its size on the wire. */
export interface Sized<T> {
  message: T;
  bytes: number;
}

export type AgentCall = ServerDuplexStream<Sized<AgentMessage>, ControlMessage>;

/** Messages that wait while one is handled, and their bytes, before reading stops. */
const WAITING_MAX = 4;
const WAITING_BYTES_MAX = 1024 * 1024;
/** Messages that may wait to be written. */
const WRITES_MAX = 256;
/** An agent that reads nothing for this long loses its stream, ms. */
export const STALLED_MS_MAX = 30_000;
/** How long an agent may take to say who it is, ms. */
const GREETING_MS_MAX = 30_000;

export interface StreamLimits {
  messagesPerSecond: number;
  bytesPerSecond: number;
}

/** Whose stream it is, once that is known. */
export interface Identity {
  /** Key of the node; it changes when a host name turns out to belong to an instance id. */
  key: string;
  name: string;
  fence: number;
  /** It takes a command once however often it is sent, streams its output, and can be told to end it. */
  streamsCommands: boolean;
}

export interface AgentStreamOptions {
  call: AgentCall;
  limits: StreamLimits;
  clock: Clock;
  /** Handles one message; the next comes when it has resolved. Must not reject. */
  handle: (stream: AgentStream, message: AgentMessage) => Promise<void>;
  onClosed: (stream: AgentStream) => void;
  onRefused: (reason: Refusal) => void;
}

export class AgentStream {
  readonly peer: string;
  identity: Identity | undefined;
  readonly #o: AgentStreamOptions;
  readonly #messages: TokenBucket;
  readonly #bytes: TokenBucket;
  readonly #waiting: Sized<AgentMessage>[] = [];
  readonly #greeting: Timer;
  #waitingBytes = 0;
  #isWorking = false;
  #isClosed = false;
  /** The agent says nothing more. */
  #isEnding = false;
  /** Until it is given up, while it does not take what is written. */
  #stalled: Timer | undefined;
  #onDrained: (() => void)[] = [];

  constructor(options: AgentStreamOptions) {
    this.#o = options;
    const { call, limits, clock } = options;
    const nowMs = clock.monotonicMs();
    this.peer = call.getPeer();
    this.#messages = new TokenBucket(
      { perSecond: limits.messagesPerSecond, burst: 2 * limits.messagesPerSecond },
      nowMs,
    );
    this.#bytes = new TokenBucket({ perSecond: limits.bytesPerSecond, burst: 2 * limits.bytesPerSecond }, nowMs);
    this.#greeting = clock.setTimeout(() => {
      if (this.identity !== undefined) return;
      const seconds = GREETING_MS_MAX / 1000;
      this.close(codes.DEADLINE_EXCEEDED, `Expected a status that names the node within ${seconds} s, got nothing.`);
    }, GREETING_MS_MAX);
    call.on('data', (sized: Sized<AgentMessage>) => this.#receive(sized));
    call.on('end', () => {
      this.#isEnding = true;
      if (!this.#isWorking) this.close(codes.OK, '');
    });
    call.on('drain', () => this.#drained());
    // After a cancel, a broken connection or a missed ping.
    call.on('cancelled', () => this.#closed());
    call.on('close', () => this.#closed());
    call.on('error', () => this.#closed());
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** True if nothing more should be written for now. */
  get isBackedUp(): boolean {
    return this.#stalled !== undefined;
  }

  /** Writes a message, unless the stream has ended or as many wait as may. */
  send(payload: NonNullable<ControlMessage['payload']>): boolean {
    const { call, clock } = this.#o;
    if (this.#isClosed || call.writableLength >= WRITES_MAX) return false;
    if (!call.write({ payload })) this.#stalled ??= clock.setTimeout(() => this.#giveUp(), STALLED_MS_MAX);
    return true;
  }

  /** Ends it; the agent gets code and text. Nothing that it sent and was not handled yet is. */
  close(code: codes, details: string): void {
    if (this.#isClosed) return;
    this.#waiting.length = 0;
    this.#closed();
    if (code === codes.OK) this.#o.call.end();
    else this.#o.call.emit('error', { code, details } satisfies Partial<StatusObject>);
  }

  /** Ends it because of what the agent did, and counts that. */
  refuse(reason: Refusal, code: codes, details: string): void {
    if (!this.#isClosed) this.#o.onRefused(reason);
    this.close(code, details);
  }

  #giveUp(): void {
    const seconds = STALLED_MS_MAX / 1000;
    const text = `The agent has not read from its stream for ${seconds} s. Connect again.`;
    this.refuse('slow', codes.RESOURCE_EXHAUSTED, text);
  }

  #closed(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#greeting.cancel();
    this.#drained();
    this.#o.onClosed(this);
  }

  #receive(sized: Sized<AgentMessage>): void {
    if (this.#isClosed) return;
    if (sized.message.payload?.$case !== 'output' && !this.#admit(sized.bytes)) return;
    this.#waiting.push(sized);
    this.#waitingBytes += sized.bytes;
    if (this.#waiting.length >= WAITING_MAX || this.#waitingBytes >= WAITING_BYTES_MAX) this.#o.call.pause();
    if (!this.#isWorking) void this.#work();
  }

  #admit(bytes: number): boolean {
    const { clock, limits } = this.#o;
    const nowMs = clock.monotonicMs();
    if (!this.#messages.take(nowMs)) {
      const text = `More than ${limits.messagesPerSecond} messages a second (--agent-messages-per-second).`;
      this.refuse('messages', codes.RESOURCE_EXHAUSTED, text);
      return false;
    }
    if (!this.#bytes.take(nowMs, this.#bounded(bytes))) {
      const text = `More than ${limits.bytesPerSecond} bytes a second (--agent-bytes-per-second).`;
      this.refuse('bytes', codes.RESOURCE_EXHAUSTED, text);
      return false;
    }
    return true;
  }

  /** A single message may be larger than the burst. */
  #bounded(bytes: number): number {
    return Math.min(bytes, 2 * this.#o.limits.bytesPerSecond);
  }

  async #work(): Promise<void> {
    this.#isWorking = true;
    // What came before its connection broke counts: an agent in use today says a result once.
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      this.#waitingBytes -= next.bytes;
      if (next.message.payload?.$case === 'output') await this.#pace(next.bytes);
      await this.#roomToWrite();
      await this.#o.handle(this, next.message);
      if (this.#waiting.length === 0) this.#o.call.resume();
    }
    this.#waitingBytes = 0;
    this.#isWorking = false;
    if (this.#isEnding) this.close(codes.OK, '');
  }

  /** Output that comes too fast waits, and its program with it. */
  async #pace(bytes: number): Promise<void> {
    const { clock } = this.#o;
    const count = this.#bounded(bytes);
    while (!this.#isClosed && !this.#bytes.take(clock.monotonicMs(), count))
      await sleep(clock, this.#bytes.waitMs(clock.monotonicMs(), count));
  }

  async #roomToWrite(): Promise<void> {
    if (this.isBackedUp && !this.#isClosed) await new Promise<void>((resolve) => this.#onDrained.push(resolve));
  }

  #drained(): void {
    this.#stalled?.cancel();
    this.#stalled = undefined;
    for (const go of this.#onDrained.splice(0)) go();
  }
}
