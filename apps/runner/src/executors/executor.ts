/**
 * Who runs the command of an execution: the control script on this machine, or somebody elsewhere.
 *
 * The execution (execution.ts) decides when a command must end, and writes how it ended. Its executor knows how to begin
 * and how to end it, and where its output comes from. The first cause that either of them names is the one that counts.
 */
import type { EndCause, ProgramExit } from '@carrierarr/execution';
import type { Execution, ExecutorKind, StreamLetter } from '@carrierarr/protocol';

/** One execution, as its executor sees it. */
export interface Task {
  readonly execution: Execution;
  readonly fence: number;
  /** After this long the execution ends it; told for those who can end it themselves. */
  readonly timeoutMs: number;
  /**
   * Aborted once it is decided why the execution ends (it was killed, say): what has not begun need not begin. Its
   * `reason` is the {@link EndCause}.
   */
  readonly signal: AbortSignal;
  /** Names a cause of its own (refused, lost touch). Nothing happens if there is one already. */
  decide(cause: EndCause): void;
  /** Nobody can say how it ended, whatever was decided about it before: its outcome is `lost`. */
  giveUp(reason: string): void;
  /** Output as it comes, none while paused. `chunk` belongs to the execution from then on: its lines are parts of it. */
  output(stream: StreamLetter, chunk: Buffer): void;
  /** No more of this stream will come: an unfinished line counts as one. */
  outputEnd(stream: StreamLetter): void;
}

/** A command that has begun. */
export interface Run {
  /**
   * How it ended, as soon as that is known: what comes later (a kill, a timeout) does not change the outcome. Undefined
   * if nobody can tell; then a cause has been named before.
   */
  readonly exited: Promise<ProgramExit | undefined>;
  /** To be called once, after `exited`: resolves when nothing of it is left and its output has been handed over. */
  finish(): Promise<ForeignOutput | undefined>;
  /** Once a second while the runner holds the lease. */
  beat(): void;
  /** Ends it, and after `graceMs` by force. May be called again. */
  terminate(graceMs: number): void;
  /** Ends it by force, and waits for nothing: nobody is interested in its output any more. */
  kill(): void;
  /** No more output, please, until {@link Run.resume}: Redis does not keep up. */
  pause(): void;
  resume(): void;
}

/** Output that another process wrote to the target's log, with the fence of the execution. */
export interface ForeignOutput {
  /** Sequence of its newest entry. */
  sequence: number;
  lines: number;
  /** Lines that were counted, but not kept. */
  truncatedLines: number;
}

export interface Executor {
  /** Begins. Resolves to undefined if it did not: it has named the cause, or `task.signal` is aborted. */
  start(task: Task): Promise<Run | undefined>;
}

/** Those that a runner has. */
export type Executors = Partial<Record<ExecutorKind, Executor>>;
