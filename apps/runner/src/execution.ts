/**
 * One execution from claim to outcome: has its executor run the command, leads the output to Redis, ends it when it must
 * end, and reports how it went. What decides is in decideOutcome; this is the shell that acts.
 */
import {
  decideOutcome,
  deferred,
  type EndCause,
  type LineBlock,
  LineSplitter,
  type ProgramExit,
  type Redactor,
  Spool,
  type SpoolBudget,
} from '@carrierarr/execution';
import { type Clock, backoffMs, type Logger, sleep } from '@carrierarr/platform';
import type { Execution } from '@carrierarr/protocol';
import type { CommandStore, Ending, FinishAnswer } from '@carrierarr/store';
import type { Executors, ForeignOutput, Run } from './executors/executor.js';
import type { LeaseHolder, LeaseKeeper } from './lease.js';
import type { RunnerMetrics } from './metrics.js';
import { ProbeAnswer } from './probe-answer.js';

/** The bounds of one execution, from the configuration. */
export interface ExecutionLimits {
  /** Empty: every command is allowed. */
  allowedCommands: readonly string[];
  timeoutMs: number;
  timeoutMaxMs: number;
  killGraceMs: number;
  lineBytesMax: number;
  spoolBytesMax: number;
  outputBytesMax: number;
}

export interface RunningExecutionOptions {
  execution: Execution;
  fence: number;
  limits: ExecutionLimits;
  /** For renewals and outcomes. */
  store: CommandStore;
  /** For output, which must not stand in the way of the above. */
  outputStore: CommandStore;
  leases: LeaseKeeper;
  executors: Executors;
  budget: SpoolBudget;
  redactor: Redactor;
  metrics: RunnerMetrics;
  clock: Clock;
  logger: Logger;
}

/** Between SIGTERM and SIGKILL when Redis is out of reach, ms: others count on the script's end (see sweeper.ts). */
export const OUT_OF_TOUCH_GRACE_MS = 5_000;
const FINISH_RETRY_BASE_MS = 100;
const FINISH_RETRY_CAP_MS = 2_000;

export class RunningExecution implements LeaseHolder {
  readonly target: string;
  readonly execution: string;
  readonly fence: number;
  readonly #o: RunningExecutionOptions;
  readonly #spool: Spool;
  readonly #splitter: LineSplitter;
  /** Takes the place of the log for a probe. */
  readonly #answer: ProbeAnswer | undefined;
  readonly #abandoned = deferred<void>();
  readonly #ending = new AbortController();
  #cause: EndCause | undefined;
  #exit: ProgramExit | undefined;
  #run: Run | undefined;
  /** Of output that did not pass through the spool. */
  #foreign: ForeignOutput | undefined;
  #isFenced = false;
  /** Its outcome is on its way to Redis, or there: until it is let go of a renewal may be answered after that. */
  #isFinishing = false;
  #isAbandoned = false;
  #isOutOfTouch = false;
  #isPaused = false;
  #lines = 0;
  #limitedLines = 0;
  #outputBytes = 0;
  #lostEntries = 0;

  constructor(options: RunningExecutionOptions) {
    const { execution, fence, limits, outputStore, clock, budget, metrics, logger, redactor } = options;
    this.#o = options;
    this.target = execution.target;
    this.execution = execution.id;
    this.fence = fence;
    this.#answer = execution.probe === true ? new ProbeAnswer() : undefined;
    this.#spool = new Spool({
      execution: execution.id,
      append: (sequence, lines, entry) => outputStore.append(execution.target, fence, sequence, lines, entry),
      ...{ clock, budget, bytesMax: limits.spoolBytesMax },
      onPause: (isPaused) => this.#setPaused(isPaused),
      onFenced: () => this.onFenced(),
      onTrouble: (what, detail) => {
        if (what === 'lost') {
          metrics.lostEntries.inc(Number(detail));
          logger.error({ execution: execution.id, entries: detail }, 'Redis lost output that it had acknowledged');
        } else {
          metrics.appendRetries.inc();
          logger.debug({ execution: execution.id, what, detail }, 'output must be sent again');
        }
      },
    });
    this.#splitter = new LineSplitter({
      lineBytesMax: limits.lineBytesMax,
      redactor,
      emit: (block) => this.#take(block),
    });
  }

  /** Appends on their way. */
  get appendsInFlight(): number {
    return this.#spool.inFlight;
  }

  /**
   * Runs it to its end. `claimedMs`: when the claim was sent, monotonic ms. Resolves to true if the target has more
   * commands. Never rejects.
   */
  async run(claimedMs: number): Promise<boolean> {
    const { leases, logger } = this.#o;
    const { id, target, command } = this.#o.execution;
    leases.hold(this, claimedMs);
    try {
      await this.#execute();
      return await this.#report();
    } catch (error) {
      logger.error({ err: error, execution: id, target, command }, 'execution failed by a defect of the runner');
      return true;
    } finally {
      leases.release(id);
      this.#run?.kill();
      this.#spool.stop();
    }
  }

  beat(): void {
    if (!this.#isOutOfTouch) this.#run?.beat();
  }

  onKillRequested(by: string): void {
    this.#endFor({ kind: 'kill-requested', by });
  }

  onFenced(): void {
    // A renewal that its own ending has overtaken is answered so, too. If it is really fenced, the answer to that tells it.
    if (this.#isFenced || this.#isFinishing) return;
    this.#isFenced = true;
    this.#o.metrics.fenced.inc();
    this.#o.logger.warn(
      { execution: this.execution, target: this.target },
      'another holds this execution for lost: killing its command, writing nothing more',
    );
    this.#decide({ kind: 'fenced' });
    this.#run?.kill();
    this.#spool.stop();
    this.#abandoned.resolve();
  }

  onOutOfTouch(silentMs: number): void {
    this.#isOutOfTouch = true;
    this.#endFor({ kind: 'out-of-touch', silentMs });
  }

  /** Ends the command because the runner stops. */
  shutDown(): void {
    this.#endFor({ kind: 'shut-down' });
  }

  /** Gives up reporting: the runner stops and Redis does not answer. Others will find the execution lost. */
  abandon(): void {
    this.#isAbandoned = true;
    this.#run?.kill();
    this.#spool.stop();
    this.#abandoned.resolve();
  }

  /** True if this cause came first. */
  #decide(cause: EndCause): boolean {
    if (this.#cause !== undefined) return false;
    this.#cause = cause;
    this.#ending.abort(cause);
    return true;
  }

  #giveUp(reason: string): void {
    if (this.#isFenced) return;
    this.#cause = { kind: 'agent-lost', reason };
    this.#ending.abort(this.#cause);
  }

  #endFor(cause: EndCause): void {
    if (!this.#decide(cause)) return;
    this.#o.logger.info({ execution: this.execution, target: this.target, cause: cause.kind }, 'ending the command');
    this.#terminate();
  }

  #terminate(): void {
    const { killGraceMs } = this.#o.limits;
    const graceMs = this.#cause?.kind === 'out-of-touch' ? Math.min(killGraceMs, OUT_OF_TOUCH_GRACE_MS) : killGraceMs;
    this.#run?.terminate(graceMs);
  }

  async #execute(): Promise<void> {
    const { limits, execution, fence, executors, metrics, clock } = this.#o;
    const { allowedCommands } = limits;
    if (allowedCommands.length > 0 && !allowedCommands.includes(execution.command)) {
      this.#decide({ kind: 'not-allowed', command: execution.command, allowed: allowedCommands });
      return;
    }
    const { executor: kind = 'script' } = execution;
    const executor = executors[kind];
    if (executor === undefined) {
      const problem = `This runner cannot have a command run by: ${kind}. Upgrade it.`;
      this.#decide(kind === 'script' ? { kind: 'no-script' } : { kind: 'cannot-execute', code: 126, problem });
      return;
    }
    const timeoutMs = Math.min(execution.timeout_ms ?? limits.timeoutMs, limits.timeoutMaxMs);
    const run = await executor.start({
      ...{ execution, fence, timeoutMs, signal: this.#ending.signal },
      decide: (cause) => void this.#decide(cause),
      giveUp: (reason) => this.#giveUp(reason),
      output: (stream, chunk) => {
        metrics.bytes.inc(chunk.length);
        this.#splitter.feed(stream, chunk);
      },
      outputEnd: (stream) => this.#splitter.end(stream),
    });
    if (run === undefined) return;
    this.#run = run;
    if (this.#isPaused) run.pause();
    if (this.#isFenced || this.#isAbandoned) run.kill();
    else if (this.#cause !== undefined) this.#terminate();

    const timer = clock.setTimeout(() => this.#endFor({ kind: 'timed-out', timeoutMs }), timeoutMs);
    this.#exit = await run.exited;
    timer.cancel();
    if (this.#exit !== undefined) this.#decide({ kind: 'exited', exit: this.#exit });
    this.#foreign = await run.finish();
  }

  #take(block: LineBlock): void {
    const { stream, lines, body, cut, redactions } = block;
    const { metrics, limits } = this.#o;
    metrics.lines.inc(lines);
    if (cut > 0) metrics.truncatedLines.inc(cut);
    if (redactions > 0) metrics.redactions.inc(redactions);
    if (this.#limitedLines > 0 || this.#outputBytes + body.length > limits.outputBytesMax) {
      this.#limitedLines += lines;
      metrics.limitedLines.inc(lines);
      return;
    }
    this.#outputBytes += body.length;
    this.#lines += lines;
    if (this.#answer === undefined) this.#spool.push(stream, lines, body);
    else this.#answer.take(block);
  }

  #setPaused(isPaused: boolean): void {
    this.#isPaused = isPaused;
    if (isPaused) this.#o.metrics.pauses.inc();
    if (isPaused) this.#run?.pause();
    else this.#run?.resume();
  }

  /** Resolves to true if the target has more commands. */
  async #report(): Promise<boolean> {
    const { store, logger, metrics, clock } = this.#o;
    const cause = this.#cause;
    if (cause === undefined) throw new Error('Expected the executor to name an exit or a cause, got neither.');
    if (cause.kind === 'fenced' || this.#isFenced) return false;
    for (let attempt = 0; ;) {
      const state = await this.#spool.drained();
      if (state === 'stopped' || this.#isAbandoned) return false;
      const ending = this.#endingFor(cause);
      let answer: FinishAnswer;
      try {
        this.#isFinishing = true;
        answer = await store.finish(this.target, this.execution, this.fence, ending);
      } catch (error) {
        // It may have been carried out all the same: the next answer tells.
        if (attempt === 0)
          logger.warn({ err: error, execution: this.execution }, 'outcome not written yet; trying again');
        const delayMs = backoffMs({ attempt: attempt++, baseMs: FINISH_RETRY_BASE_MS, capMs: FINISH_RETRY_CAP_MS });
        await Promise.race([sleep(clock, FINISH_RETRY_BASE_MS + delayMs), this.#abandoned.promise]);
        continue;
      }
      switch (answer.kind) {
        case 'hole':
          this.#isFinishing = false;
          if (this.#foreign === undefined) this.#spool.rewind(answer.known);
          else this.#acceptLoss(this.#foreign, answer.known);
          continue;
        case 'fenced':
          this.#isFinishing = false;
          this.onFenced();
          return false;
        case 'ok':
        case 'repeated':
          metrics.executions.inc({ outcome: ending.outcome });
          logger.info(
            {
              execution: this.execution,
              target: this.target,
              outcome: ending.outcome,
              exitCode: ending.exitCode,
              lines: ending.lines,
            },
            'execution ended',
          );
          return answer.kind === 'repeated' || answer.more;
      }
    }
  }

  /** Redis has lost entries that another process wrote, and nobody can send again: a gap is never silent. */
  #acceptLoss(foreign: ForeignOutput, known: number): void {
    const entries = foreign.sequence - known;
    this.#foreign = { ...foreign, sequence: known };
    this.#lostEntries += entries;
    this.#o.metrics.lostEntries.inc(entries);
    this.#o.logger.error({ execution: this.execution, entries }, 'Redis lost output that it had acknowledged');
  }

  #endingFor(cause: Exclude<EndCause, { kind: 'fenced' }>): Ending {
    const { outputBytesMax } = this.#o.limits;
    const { sequence, lines, truncatedLines } = this.#foreign ?? {
      ...{ sequence: this.#spool.sequence, lines: this.#lines, truncatedLines: this.#limitedLines },
    };
    const verdict = decideOutcome(cause, this.#exit);
    const errors: NonNullable<Ending['error']>[] = [];
    if (verdict.error !== undefined) errors.push(verdict.error);
    if (truncatedLines > 0) {
      const bound = this.#foreign === undefined ? `${outputBytesMax} bytes` : 'is kept';
      const text = `The command wrote more than ${bound}; ${truncatedLines} lines after that were not kept.`;
      errors.push({ code: 'output_limited', text });
    }
    if (this.#lostEntries > 0) {
      const text = `Redis lost ${this.#lostEntries} entries of output that it had acknowledged (a failover, or data not yet on its disk).`;
      errors.push({ code: 'internal', text });
    }
    const [first] = errors;
    const text = errors.map((error) => error.text).join(' ');
    return {
      ...verdict,
      ...(first !== undefined && { error: { code: first.code, text } }),
      ...{ lines, truncatedLines, sequence },
      ...(this.#answer?.text !== undefined && { answer: this.#answer.text }),
    };
  }
}
