/** One command from its start to its result. The first thing that happens to it decides how it ended. */
import { LineSplitter, type Redactor, signalOf } from '@carrierarr/execution';
import type { Clock, Logger } from '@carrierarr/platform';
import { type Command, CommandEnd, type CommandResult, CommandType } from '@carrierarr/protocol/agent-control';
import type { AgentMetrics } from '../metrics.js';
import type { OutputSink } from './output-sink.js';
import { Refusal, type Work, type WorkOutput } from './work.js';

export type Cause =
  | { kind: 'exited'; code: number; problem?: string }
  | { kind: 'cancelled' }
  | { kind: 'timed-out'; seconds: number }
  | { kind: 'out-of-touch'; silentMs: number }
  | { kind: 'stopped' }
  | { kind: 'stalled' }
  /** Nobody wants to hear of it any more. */
  | { kind: 'fenced' };

export interface RunningCommandOptions {
  command: Command;
  killGraceMs: number;
  /** 0: none. */
  timeoutMs: number;
  lineBytesMax: number;
  sink: OutputSink;
  begin: (output: WorkOutput) => Promise<Work>;
  redactor: Redactor;
  metrics: AgentMetrics;
  clock: Clock;
  logger: Logger;
}

const BEAT_MS = 1_000;
const TIMED_OUT_CODE = 124;
const SIGNAL_BASE = 128;
const SIGTERM = 15;
const SIGKILL = 9;

export class RunningCommand {
  readonly id: string;
  readonly fence: number;
  /** 0: it goes on however long the control plane is away. */
  readonly outageGraceMs: number;
  readonly #o: RunningCommandOptions;
  readonly #splitter: LineSplitter;
  #work: Work | undefined;
  #cause: Cause | undefined;
  #isPaused = false;

  constructor(options: RunningCommandOptions) {
    const { command, lineBytesMax, redactor, sink, metrics } = options;
    this.#o = options;
    this.id = command.commandId;
    this.fence = command.fence;
    this.outageGraceMs = command.outageGraceMs;
    this.#splitter = new LineSplitter({
      ...{ lineBytesMax, redactor },
      emit: (block) => {
        metrics.lines.inc(block.lines);
        if (block.cut > 0) metrics.truncatedLines.inc(block.cut);
        if (block.redactions > 0) metrics.redactions.inc(block.redactions);
        sink.push(block);
      },
    });
  }

  /** Runs it to its end. Resolves to its result, or undefined if nobody wants one. Never rejects. */
  async run(): Promise<CommandResult | undefined> {
    const { clock, begin, timeoutMs, sink, logger } = this.#o;
    const beganMs = clock.monotonicMs();
    const output: WorkOutput = {
      bytes: (stream, chunk) => this.#splitter.feed(stream, chunk),
      end: (stream) => this.#splitter.end(stream),
    };
    let exit: { code: number } | undefined;
    try {
      const work = await begin(output);
      this.#work = work;
      if (this.#isPaused) work.pause();
      const beat = clock.setInterval(() => work.beat(), BEAT_MS);
      const timer =
        timeoutMs > 0
          ? clock.setTimeout(() => this.#endFor({ kind: 'timed-out', seconds: timeoutMs / 1000 }), timeoutMs)
          : undefined;
      void work.abandoned?.then(() => this.#decide({ kind: 'stalled' }));
      // What came while it was starting.
      if (this.#cause !== undefined) this.#act(this.#cause);
      try {
        const exited = await work.exited;
        exit = exited;
        this.#decide({ kind: 'exited', ...exited });
        timer?.cancel();
        await work.finish();
      } finally {
        beat.cancel();
        timer?.cancel();
      }
      await sink.drained();
    } catch (error) {
      sink.stop();
      if (!(error instanceof Refusal)) logger.error({ err: error, command: this.id }, 'a command failed by a defect');
      return this.#refused(error as Error);
    }
    sink.stop();
    return this.#result(exit?.code, clock.monotonicMs() - beganMs);
  }

  /** SIGTERM, then SIGKILL. */
  cancel(): void {
    this.#endFor({ kind: 'cancelled' });
  }

  /** It is not this agent's any more: ended at once, without a result. */
  endFenced(): void {
    if (this.#cause?.kind !== 'fenced') this.#cause = { kind: 'fenced' };
    this.#o.sink.stop();
    this.#work?.kill();
  }

  /** The control plane gives it up about now, too. */
  loseTouch(silentMs: number): void {
    // Also if it has ended and only its output has not been taken.
    this.#endFor({ kind: 'out-of-touch', silentMs });
    this.#o.sink.stop();
  }

  /** The agent stops; by what it was told here, if this switches the machine off or restarts it. */
  stop(): void {
    const { type } = this.#o.command;
    if (type === CommandType.COMMAND_TYPE_SHUTDOWN || type === CommandType.COMMAND_TYPE_REBOOT) return;
    this.#endFor({ kind: 'stopped' });
  }

  /** The agent cannot wait any longer. */
  abandon(): void {
    this.#o.sink.stop();
    this.#work?.kill();
  }

  setPaused(isPaused: boolean): void {
    this.#isPaused = isPaused;
    if (isPaused) this.#o.metrics.pauses.inc();
    if (isPaused) this.#work?.pause();
    else this.#work?.resume();
  }

  /** True if this cause came first. */
  #decide(cause: Cause): boolean {
    if (this.#cause !== undefined) return false;
    this.#cause = cause;
    return true;
  }

  #endFor(cause: Cause): void {
    if (!this.#decide(cause)) return;
    this.#o.logger.info({ command: this.id, cause: cause.kind }, 'ending the command');
    this.#act(cause);
  }

  #act(cause: Cause): void {
    if (cause.kind === 'fenced') this.#work?.kill();
    else if (cause.kind !== 'exited') this.#work?.terminate(this.#o.killGraceMs);
  }

  #result(code: number | undefined, durationMs: number): CommandResult | undefined {
    const cause = this.#cause ?? { kind: 'exited', code: code ?? -1 };
    if (cause.kind === 'fenced') return undefined;
    const base = { ...this.#base(), ...this.#o.sink.facts(), durationMs: Math.round(durationMs) };
    const signal = code === SIGNAL_BASE + SIGKILL ? 'SIGKILL' : 'SIGTERM';
    const killed = { exitCode: SIGNAL_BASE + (signal === 'SIGKILL' ? SIGKILL : SIGTERM), signal };
    switch (cause.kind) {
      case 'exited':
        return {
          ...{ ...base, success: cause.code === 0, exitCode: cause.code, signal: signalOf(cause.code) ?? '' },
          ...{ end: CommandEnd.COMMAND_END_EXITED, error: cause.problem ?? '' },
        };
      case 'cancelled':
        return { ...base, ...killed, end: CommandEnd.COMMAND_END_CANCELLED, error: 'cancelled' };
      case 'timed-out':
        return {
          ...{ ...base, signal, exitCode: TIMED_OUT_CODE, end: CommandEnd.COMMAND_END_CANCELLED },
          error: `ran longer than its timeout of ${cause.seconds} s`,
        };
      case 'out-of-touch':
        return {
          ...{ ...base, ...killed, end: CommandEnd.COMMAND_END_OUT_OF_TOUCH },
          error: `the control plane was out of reach for ${Math.round(cause.silentMs / 1000)} s`,
        };
      case 'stopped':
        return { ...base, ...killed, end: CommandEnd.COMMAND_END_LOST, error: 'the agent was stopped' };
      case 'stalled':
        return {
          ...base,
          ...killed,
          end: CommandEnd.COMMAND_END_LOST,
          error: 'the agent froze, so its watchdog ended the program',
        };
    }
  }

  #refused(error: Error): CommandResult | undefined {
    if (this.#cause?.kind === 'fenced') return undefined;
    return refusalOf(this.#o.command, error);
  }

  #base(): CommandResult {
    return emptyResult(this.id, this.fence);
  }
}

/** A result that says nothing yet. */
export function emptyResult(commandId: string, fence: number): CommandResult {
  return {
    ...{ commandId, fence, success: false, exitCode: -1, stdout: '', stderr: '', error: '', durationMs: 0 },
    ...{ sequence: 0, lines: 0, truncatedLines: 0, end: CommandEnd.COMMAND_END_UNSPECIFIED, signal: '' },
  };
}

/** The result of a command that has not begun. */
export function refusalOf({ commandId, fence }: Pick<Command, 'commandId' | 'fence'>, error: Error): CommandResult {
  return {
    ...emptyResult(commandId, fence),
    exitCode: error instanceof Refusal ? error.exitCode : 126,
    error: error.message,
    end: CommandEnd.COMMAND_END_REFUSED,
  };
}

/** Such as `out-of-touch`. */
export function commandEndName(end: CommandEnd): string {
  return (CommandEnd[end] ?? 'UNKNOWN').replace('COMMAND_END_', '').toLowerCase().replaceAll('_', '-');
}
