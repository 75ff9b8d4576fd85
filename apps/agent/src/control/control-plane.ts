/**
 * The connection to the control planes, one at a time: begun anew whenever it ends, at the next address and after a random
 * pause, so that agents which lost theirs together do not come back together.
 */
import type { AppendAnswer } from '@carrierarr/execution';
import {
  type Address,
  backoffMs,
  type Clock,
  type Logger,
  printAddress,
  type Readiness,
  type Timer,
} from '@carrierarr/platform';
import {
  type Ack,
  type CancelCommand,
  type Command,
  type CommandOutput,
  type CommandResult,
  type ConfigUpdate,
  type ControlMessage,
  LogLevel,
  type NodeStatus,
  type RegisterRequest,
} from '@carrierarr/protocol/agent-control';
import type { AgentConfig } from '../config.js';
import type { AgentMetrics } from '../metrics.js';
import { OutputAcks } from './output-acks.js';
import { type Intervals, Session } from './session.js';

/** What arrives. */
export interface ControlEvents {
  onUp(): void;
  onCommand(command: Command): void;
  onCancel(cancel: CancelCommand): void;
  onAck(ack: Ack): void;
  onConfig(config: ConfigUpdate): void;
}

export interface ControlPlaneOptions {
  config: AgentConfig;
  nodeId: string;
  registration: () => Promise<RegisterRequest>;
  status: () => Promise<NodeStatus>;
  running: () => string[];
  /** A command runs that must end when the control plane is out of reach. */
  isTouchNeeded: () => boolean;
  events: ControlEvents;
  readiness: Readiness;
  metrics: AgentMetrics;
  clock: Clock;
  logger: Logger;
  random?: () => number;
}

const RETRY_BASE_MS = 500;
const RETRY_CAP_MS = 15_000;
/** A connection that lasted so long was a good one. */
const GOOD_MS = 30_000;
const HEARTBEAT_MS = 30_000;
const INTERVAL_MIN_MS = 1_000;
/** Between heartbeats while a command depends on the control plane being in reach. */
const TOUCH_MS = 5_000;
const TICK_MS = 1_000;
const LOG_CHARS_MAX = 4_000;
export const CONTROL_CHECK = 'control plane';

export class ControlPlane {
  readonly #o: ControlPlaneOptions;
  readonly #acks: OutputAcks;
  #session: Session | undefined;
  #intervals: Intervals;
  #timer: Timer | undefined;
  #isStopping = false;
  /** The time for last words is over. */
  #isOver = false;
  #wakeRetry: () => void = () => undefined;
  #loop: Promise<void> = Promise.resolve();
  #next: number;
  #statusMs = Number.NEGATIVE_INFINITY;
  #beatMs = Number.NEGATIVE_INFINITY;
  #isSendingStatus = false;
  #isStatusWanted = false;

  constructor(options: ControlPlaneOptions) {
    const { config, clock, random = Math.random } = options;
    this.#o = options;
    this.#acks = new OutputAcks(clock);
    this.#intervals = { heartbeatMs: HEARTBEAT_MS, statusMs: config.statusInterval };
    // Agents spread over control planes.
    this.#next = Math.floor(random() * config.controlPlane.length);
  }

  get isUp(): boolean {
    return this.#session?.isOpen ?? false;
  }

  /** The control plane takes numbered output now. */
  get streamsCommands(): boolean {
    return this.isUp && (this.#session?.streamsCommands ?? false);
  }

  /** Since the control plane was last known to be there; endless if it never was. */
  get silentMs(): number {
    const heard = this.#heardMs();
    return this.#o.clock.monotonicMs() - heard;
  }

  start(): void {
    if (this.#o.config.controlPlane.length === 0) return;
    this.#o.readiness.set(CONTROL_CHECK, false, 'not connected yet');
    this.#loop = this.#run();
    this.#timer = this.#o.clock.setInterval(() => this.#tick(), TICK_MS);
  }

  /**
   * For good: says so, and lets what was written get out. Without a stream it opens one for that, at whichever control plane can
   * be reached within that time: who leaves without a word counts as dead later.
   */
  async stop(waitMs: number): Promise<void> {
    const { clock } = this.#o;
    this.#isStopping = true;
    this.#timer?.cancel();
    const late = clock.setTimeout(() => {
      this.#isOver = true;
      this.#session?.end('closed');
      this.#wakeRetry();
    }, waitMs);
    this.#wakeRetry();
    this.#session?.close();
    await this.#loop;
    late.cancel();
  }

  /** A status as soon as possible. */
  sendStatusNow(): void {
    this.#isStatusWanted = true;
    void this.#sendStatus();
  }

  /** What is said of the node when it registers has changed. Without a connection the next one says it. */
  registerAgain(): void {
    const session = this.#session;
    void session?.registerAgain().then(() => session === this.#session && this.sendStatusNow());
  }

  sendAccepted(commandId: string, fence: number): void {
    if (this.streamsCommands) this.#session?.send({ $case: 'accepted', value: { commandId, fence } });
  }

  /** False if there is no stream now. */
  sendResult(result: CommandResult): boolean {
    return this.#session?.send({ $case: 'commandResult', value: result }) ?? false;
  }

  /** Resolves with the answer. Rejects when the entry must be sent again. */
  sendOutput(output: CommandOutput): Promise<AppendAnswer> {
    if (!this.streamsCommands) return Promise.reject(new Error('no control plane takes output now'));
    const answer = this.#acks.wait(output);
    this.#session?.send({ $case: 'output', value: output });
    return answer;
  }

  sendLog(level: 'info' | 'warn' | 'error', message: string, fields: Record<string, string> = {}): void {
    const levels = { info: LogLevel.LOG_LEVEL_INFO, warn: LogLevel.LOG_LEVEL_WARN, error: LogLevel.LOG_LEVEL_ERROR };
    const text = message.slice(0, LOG_CHARS_MAX);
    const about = { timestamp: new Date(this.#o.clock.now()), source: 'carrierarr-agent', fields };
    this.#session?.send({ $case: 'log', value: { ...about, level: levels[level], message: text } });
  }

  /** Over all sessions: the newest. */
  #lastHeardMs = Number.NEGATIVE_INFINITY;
  #heardMs(): number {
    this.#lastHeardMs = Math.max(this.#lastHeardMs, this.#session?.heardMs ?? Number.NEGATIVE_INFINITY);
    return this.#lastHeardMs;
  }

  async #run(): Promise<void> {
    const { config, clock, readiness, logger, metrics, random } = this.#o;
    for (let attempt = 0; !this.#isOver;) {
      const address = config.controlPlane[this.#next % config.controlPlane.length] as Address;
      const beganMs = clock.monotonicMs();
      const session = new Session({
        ...{ address, config, clock, logger, registration: this.#o.registration, status: this.#o.status },
        running: this.#o.running,
        isLeaving: () => this.#isStopping,
        onOpen: () => {
          this.#opened(address);
          if (this.#isStopping) session.close();
        },
        onMessage: (message) => this.#take(message),
        onIntervals: (intervals) => this.setIntervals(intervals),
      });
      this.#session = session;
      void session.start();
      const reason = await session.ended;
      this.#heardMs();
      this.#acks.breakOff();
      if (this.#isStopping && session.hasLeft) return;
      const lastedMs = clock.monotonicMs() - beganMs;
      const wasGood = lastedMs >= GOOD_MS;
      if (wasGood) attempt = 0;
      this.#next++;
      metrics.connected.set(0);
      metrics.reconnects.inc();
      const delayMs = backoffMs({
        attempt: attempt++,
        baseMs: RETRY_BASE_MS,
        capMs: this.#isStopping ? RETRY_BASE_MS : RETRY_CAP_MS,
        ...(random && { random }),
      });
      logger.warn({ address: printAddress(address), reason, delayMs, attempt }, 'no connection to the control plane');
      readiness.set(CONTROL_CHECK, false, `${printAddress(address)}: ${reason}`);
      if (this.#isOver) break;
      await new Promise<void>((resolve) => {
        const timer = clock.setTimeout(resolve, delayMs);
        this.#wakeRetry = () => {
          timer.cancel();
          resolve();
        };
      });
    }
    logger.warn('no control plane took the word that this agent goes: its node will count as stale, then as dead');
  }

  /** Of a control plane; what it leaves out stays. */
  setIntervals({ heartbeatMs, statusMs }: Intervals): void {
    if (heartbeatMs > 0) this.#intervals.heartbeatMs = Math.max(INTERVAL_MIN_MS, heartbeatMs);
    if (statusMs > 0) this.#intervals.statusMs = Math.max(INTERVAL_MIN_MS, statusMs);
  }

  #opened(address: Address): void {
    const { clock, readiness, metrics, events } = this.#o;
    readiness.set(CONTROL_CHECK, true, printAddress(address));
    metrics.connected.set(1);
    // The first status has just been sent.
    this.#statusMs = clock.monotonicMs();
    this.#beatMs = clock.monotonicMs();
    events.onUp();
  }

  #take({ payload }: ControlMessage): void {
    const { events } = this.#o;
    switch (payload?.$case) {
      case 'command':
        return events.onCommand(payload.value);
      case 'cancel':
        return events.onCancel(payload.value);
      case 'ack':
        return events.onAck(payload.value);
      case 'config':
        return events.onConfig(payload.value);
      case 'outputAck':
        return this.#acks.take(payload.value);
      case undefined:
        // Of a newer control plane.
        return undefined;
    }
  }

  #tick(): void {
    const { clock, isTouchNeeded, nodeId } = this.#o;
    if (!this.isUp) return;
    const now = clock.monotonicMs();
    const beatEveryMs = isTouchNeeded() ? Math.min(TOUCH_MS, this.#intervals.heartbeatMs) : this.#intervals.heartbeatMs;
    // A tick early rather than one late.
    if (now - this.#beatMs >= beatEveryMs - TICK_MS / 2) {
      this.#beatMs = now;
      void this.#session?.beat(nodeId);
    }
    if (this.#isStatusWanted || now - this.#statusMs >= this.#intervals.statusMs - TICK_MS / 2) void this.#sendStatus();
  }

  async #sendStatus(): Promise<void> {
    if (this.#isSendingStatus || !this.isUp) return;
    this.#isSendingStatus = true;
    this.#isStatusWanted = false;
    try {
      this.#statusMs = this.#o.clock.monotonicMs();
      const status = await this.#o.status();
      // What the connection does not take must not pile up: the next status says more than this one.
      if (this.#session?.isWritable) this.#session.send({ $case: 'status', value: status });
      else this.#o.metrics.skippedStatuses.inc();
    } finally {
      this.#isSendingStatus = false;
    }
  }
}
