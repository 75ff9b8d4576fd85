/**
 * Starting and stopping the parts of a program in order. Each part may rely on those before it, so they start first to
 * last and stop last to first, each within its own deadline: one that hangs must not keep the others from stopping.
 *
 * Several lifecycles may live in one process; only `run()` touches the process (signals, uncaught errors, exit).
 */
import type { EventEmitter } from 'node:events';
import { constants } from 'node:os';
import { type Clock, systemClock, type Timer } from './clock.js';
import type { Logger } from './logger.js';

export interface Component {
  /** For logs and errors. */
  readonly name: string;
  /** Resolves once others can rely on it. When it throws it must have cleaned up after itself. */
  start?(): void | Promise<void>;
  stop?(): void | Promise<void>;
  /** How long `stop` may take before it is given up; the lifecycle's default when left out. */
  readonly stopDeadlineMs?: number;
}

export interface LifecycleOptions {
  readonly components: readonly Component[];
  readonly logger: Pick<Logger, 'info' | 'warn' | 'error' | 'fatal'>;
  readonly clock?: Clock;
  /** For components that name none. */
  readonly stopDeadlineMs?: number;
}

/** Names of the components that did not stop as they should. */
export interface StopReport {
  readonly timedOut: readonly string[];
  readonly failed: readonly string[];
}

/** What `run` needs of `process`. */
export interface ProcessHost extends Pick<EventEmitter, 'on' | 'off'> {
  exit(code: number): unknown;
  readonly stderr: { write(text: string): unknown };
}

const STOP_SIGNALS = ['SIGTERM', 'SIGINT'] as const;
const STOP_DEADLINE_MS = 10_000;

export class Lifecycle {
  readonly #components: readonly Component[];
  readonly #logger: LifecycleOptions['logger'];
  readonly #clock: Clock;
  readonly #stopDeadlineMs: number;
  readonly #started: Component[] = [];
  #starting: Promise<void> | null = null;
  #inFlight: { readonly component: Component; readonly attempt: Promise<void> } | null = null;
  #stopping: Promise<StopReport> | null = null;
  /** Settles with the stop, whoever asks for it; `run` waits here. */
  readonly #stopRequested: Promise<StopReport>;
  #announceStop: (stopping: Promise<StopReport>) => void = () => undefined;
  #failure: unknown = null;

  constructor({ components, logger, clock = systemClock, stopDeadlineMs = STOP_DEADLINE_MS }: LifecycleOptions) {
    this.#components = components;
    this.#logger = logger;
    this.#clock = clock;
    this.#stopDeadlineMs = stopDeadlineMs;
    this.#stopRequested = new Promise((resolve) => (this.#announceStop = resolve));
  }

  /**
   * Starts the components one after the other. When one fails, those before it are stopped and the error is thrown with
   * its name. A stop that comes meanwhile ends it early without an error.
   */
  start(): Promise<void> {
    this.#starting ??= this.#startAll();
    return this.#starting;
  }

  /** Stops what has started, in reverse. Safe to call at any time and more than once; never rejects. */
  stop(reason = 'stop was called'): Promise<StopReport> {
    if (!this.#stopping) {
      this.#stopping = this.#stopAll(reason);
      this.#announceStop(this.#stopping);
    }
    return this.#stopping;
  }

  /** For an error that leaves no way to go on: logs it and stops; `run` then exits with 1. */
  fail(error: unknown): void {
    this.#failure ??= error;
    this.#logger.fatal({ err: error }, 'cannot go on');
    void this.stop('a part of the program failed');
  }

  /**
   * Starts, waits for SIGTERM, SIGINT or `fail`, stops, and exits the process: 0 after a clean stop, 1 after an error or
   * when a part did not stop in time. A second signal exits at once. An uncaught exception counts as `fail`.
   */
  async run(host: ProcessHost = process): Promise<void> {
    let signalCount = 0;
    const onSignal = (signal: (typeof STOP_SIGNALS)[number]) => {
      signalCount += 1;
      if (signalCount === 1) {
        void this.stop(signal);
        return;
      }
      host.stderr.write(`${signal} again: exiting at once, without waiting for what is still stopping.\n`);
      host.exit(128 + constants.signals[signal]);
    };
    const onUncaught = (error: unknown) => this.fail(error);
    for (const signal of STOP_SIGNALS) host.on(signal, onSignal);
    host.on('uncaughtException', onUncaught);
    try {
      await this.start();
    } catch (error) {
      this.fail(error);
    }
    const { timedOut, failed } = await this.#stopRequested;
    for (const signal of STOP_SIGNALS) host.off(signal, onSignal);
    host.off('uncaughtException', onUncaught);
    host.exit(this.#failure === null && timedOut.length + failed.length === 0 ? 0 : 1);
  }

  async #startAll(): Promise<void> {
    for (const component of this.#components) {
      if (this.#stopping) return;
      const attempt = this.#startOne(component);
      this.#inFlight = { component, attempt };
      try {
        await attempt;
      } catch (cause) {
        const reason = cause instanceof Error ? cause.message : String(cause);
        await this.stop(`${component.name} did not start`);
        throw new Error(`Could not start ${component.name}: ${reason}`, { cause });
      }
    }
    this.#inFlight = null;
    if (!this.#stopping) this.#logger.info('started');
  }

  async #startOne(component: Component): Promise<void> {
    await component.start?.();
    this.#started.push(component);
  }

  async #stopAll(reason: string): Promise<StopReport> {
    this.#logger.info({ reason }, 'stopping');
    const beganMs = this.#clock.monotonicMs();
    const timedOut: string[] = [];
    const failed: string[] = [];
    if (this.#inFlight) {
      // It may be about to hold something that has to be stopped. Its failure is start()'s to report.
      const { component, attempt } = this.#inFlight;
      const ended = attempt.catch(() => undefined);
      if ((await this.#within(component, ended)) === 'late') timedOut.push(component.name);
    }
    for (const component of this.#started.toReversed()) {
      try {
        if ((await this.#within(component, Promise.resolve(component.stop?.()))) === 'late') {
          timedOut.push(component.name);
          this.#logger.warn({ component: component.name }, 'did not stop within its deadline; leaving it behind');
        }
      } catch (error) {
        failed.push(component.name);
        this.#logger.error({ err: error, component: component.name }, 'failed to stop');
      }
    }
    this.#logger.info({ tookMs: Math.round(this.#clock.monotonicMs() - beganMs) }, 'stopped');
    return { timedOut, failed };
  }

  async #within({ stopDeadlineMs = this.#stopDeadlineMs }: Component, work: Promise<void>): Promise<'done' | 'late'> {
    let timer: Timer | undefined;
    const late = new Promise<'late'>((resolve) => {
      timer = this.#clock.setTimeout(() => resolve('late'), stopDeadlineMs);
    });
    try {
      return await Promise.race([work.then(() => 'done' as const), late]);
    } finally {
      timer?.cancel();
    }
  }
}
