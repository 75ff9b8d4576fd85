/**
 * One execution from claim to outcome: starts the script, leads its output to Redis, ends it when it must end, and
 * reports how it went. What decides is elsewhere (outcome.ts); this is the shell that acts.
 */
import { resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { type Clock, backoffMs, type Logger, sleep } from '@carrierarr/platform';
import type { Execution, StreamLetter } from '@carrierarr/protocol';
import type { CommandStore, Ending, FinishAnswer } from '@carrierarr/store';
import { deferred } from './deferred.js';
import type { LeaseHolder, LeaseKeeper } from './lease.js';
import type { RunnerMetrics } from './metrics.js';
import { decideOutcome, type EndCause, type ScriptExit } from './outcome.js';
import { type LineBlock, LineSplitter } from './output/lines.js';
import type { Redactor } from './output/redact.js';
import { Spool, type SpoolBudget } from './output/spool.js';
import { scriptEnvironment } from './process/environment.js';
import { cannotExecute } from './process/executable.js';
import type { OutputPipes, PipeFolder } from './process/pipes.js';
import { OUTPUT_END_WAIT_MS, ScriptProcess } from './process/script-process.js';

/** The bounds of one execution, from the configuration. */
export interface ExecutionLimits {
  script: string;
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
  pipes: PipeFolder;
  budget: SpoolBudget;
  redactor: Redactor;
  env: NodeJS.ProcessEnv;
  configNames: Iterable<string>;
  metrics: RunnerMetrics;
  clock: Clock;
  logger: Logger;
}

/** Between SIGTERM and SIGKILL when Redis is out of reach, ms: others count on the script's end (see sweeper.ts). */
export const OUT_OF_TOUCH_GRACE_MS = 5_000;
const FINISH_RETRY_BASE_MS = 100;
const FINISH_RETRY_CAP_MS = 2_000;
const OUTPUT_END_POLL_MS = 50;

export class RunningExecution implements LeaseHolder {
  readonly target: string;
  readonly execution: string;
  readonly fence: number;
  readonly #o: RunningExecutionOptions;
  readonly #spool: Spool;
  readonly #splitter: LineSplitter;
  readonly #abandoned = deferred<void>();
  #cause: EndCause | undefined;
  #exit: ScriptExit | undefined;
  #process: ScriptProcess | undefined;
  #isFenced = false;
  #isAbandoned = false;
  #isOutOfTouch = false;
  #isPaused = false;
  #lines = 0;
  #limitedLines = 0;
  #outputBytes = 0;

  constructor(options: RunningExecutionOptions) {
    const { execution, fence, limits, outputStore, clock, budget, metrics, logger, redactor } = options;
    this.#o = options;
    this.target = execution.target;
    this.execution = execution.id;
    this.fence = fence;
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
      await this.#runScript();
      return await this.#report();
    } catch (error) {
      logger.error({ err: error, execution: id, target, command }, 'execution failed by a defect of the runner');
      return true;
    } finally {
      leases.release(id);
      this.#process?.kill();
      this.#spool.stop();
    }
  }

  beat(): void {
    if (!this.#isOutOfTouch) this.#process?.beat();
  }

  onKillRequested(by: string): void {
    this.#endFor({ kind: 'kill-requested', by });
  }

  onFenced(): void {
    if (this.#isFenced) return;
    this.#isFenced = true;
    this.#o.metrics.fenced.inc();
    this.#o.logger.warn(
      { execution: this.execution, target: this.target },
      'another holds this execution for lost: killing its script, writing nothing more',
    );
    this.#cause ??= { kind: 'fenced' };
    this.#process?.kill();
    this.#spool.stop();
    this.#abandoned.resolve();
  }

  onOutOfTouch(silentMs: number): void {
    this.#isOutOfTouch = true;
    this.#endFor({ kind: 'out-of-touch', silentMs });
  }

  /** Ends the script because the runner stops. */
  shutDown(): void {
    this.#endFor({ kind: 'shut-down' });
  }

  /** Gives up reporting: the runner stops and Redis does not answer. Others will find the execution lost. */
  abandon(): void {
    this.#isAbandoned = true;
    this.#process?.kill();
    this.#spool.stop();
    this.#abandoned.resolve();
  }

  /** True if this cause came first. */
  #decide(cause: EndCause): boolean {
    if (this.#cause !== undefined) return false;
    this.#cause = cause;
    return true;
  }

  #endFor(cause: EndCause): void {
    if (!this.#decide(cause)) return;
    this.#o.logger.info({ execution: this.execution, target: this.target, cause: cause.kind }, 'ending the script');
    this.#terminate();
  }

  #terminate(): void {
    const { killGraceMs } = this.#o.limits;
    const graceMs = this.#cause?.kind === 'out-of-touch' ? Math.min(killGraceMs, OUT_OF_TOUCH_GRACE_MS) : killGraceMs;
    this.#process?.terminate(graceMs);
  }

  async #runScript(): Promise<void> {
    const { limits, execution, clock } = this.#o;
    const { allowedCommands } = limits;
    const script = resolve(limits.script);
    if (allowedCommands.length > 0 && !allowedCommands.includes(execution.command)) {
      this.#decide({ kind: 'not-allowed', command: execution.command, allowed: allowedCommands });
      return;
    }
    const refusal = await cannotExecute(script);
    if (refusal !== undefined) this.#decide({ kind: 'cannot-execute', ...refusal });
    // Also when it was killed or fenced meanwhile.
    if (this.#cause !== undefined) return;

    const pipes = await this.#start(script);
    if (pipes === undefined || this.#process === undefined) return;
    const running = this.#process;
    const outputEnd = Promise.all([this.#read('o', running.stdout), this.#read('e', running.stderr)]);
    await pipes.closeWriters();
    if (this.#isFenced || this.#isAbandoned) running.kill();
    else if (this.#cause !== undefined) this.#terminate();

    const timeoutMs = Math.min(execution.timeout_ms ?? limits.timeoutMs, limits.timeoutMaxMs);
    const timer = clock.setTimeout(() => this.#endFor({ kind: 'timed-out', timeoutMs }), timeoutMs);
    void running.abandoned.then(() => this.#decide({ kind: 'stalled' }));
    this.#exit = { code: await running.exited };
    timer.cancel();
    this.#decide({ kind: 'exited', exit: this.#exit });
    await running.gone;
    await pipes.release(await this.#awaitOutputEnd(outputEnd));
  }

  async #start(script: string): Promise<OutputPipes | undefined> {
    const { execution, fence, env, configNames, clock, pipes: folder } = this.#o;
    let pipes: OutputPipes | undefined;
    try {
      pipes = await folder.take();
      this.#process = await ScriptProcess.start({
        ...{ script, args: [execution.command, ...execution.args], pipes, clock },
        env: scriptEnvironment({ env, configNames, execution, fence }),
      });
      return pipes;
    } catch (error) {
      await pipes?.release(false);
      const problem = `The control script could not be started on this runner: ${(error as Error).message}`;
      this.#decide({ kind: 'cannot-execute', code: 126, problem });
      return undefined;
    }
  }

  /** Resolves at the stream's end. */
  #read(stream: StreamLetter, readable: Readable): Promise<void> {
    return new Promise((done) => {
      readable.on('data', (chunk: Buffer) => {
        this.#o.metrics.bytes.inc(chunk.length);
        this.#splitter.feed(stream, chunk);
      });
      readable.once('end', () => {
        this.#splitter.end(stream);
        done();
      });
      readable.on('error', (error) => {
        this.#o.logger.warn({ err: error, execution: this.execution }, 'output of the script could not be read');
        this.#splitter.end(stream);
        done();
      });
      if (this.#isPaused) readable.pause();
    });
  }

  /**
   * Waits for the end of the output of a script that has ended; not for ever, since what escaped its group may hold the
   * pipe open. Time in which we do not read does not count. Resolves to true if the end was seen.
   */
  async #awaitOutputEnd(outputEnd: Promise<unknown>): Promise<boolean> {
    const end = deferred<boolean>();
    let waitedMs = 0;
    const poll = this.#o.clock.setInterval(() => {
      if (!this.#isPaused) waitedMs += OUTPUT_END_POLL_MS;
      if (waitedMs >= OUTPUT_END_WAIT_MS || this.#isFenced || this.#isAbandoned) end.resolve(false);
    }, OUTPUT_END_POLL_MS);
    void outputEnd.then(() => end.resolve(true));
    const isEnded = await end.promise;
    poll.cancel();
    if (!isEnded) {
      this.#o.metrics.escapedOutputs.inc();
      this.#splitter.end('o');
      this.#splitter.end('e');
    }
    return isEnded;
  }

  #take({ stream, lines, body, cut, redactions }: LineBlock): void {
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
    this.#spool.push(stream, lines, body);
  }

  #setPaused(isPaused: boolean): void {
    this.#isPaused = isPaused;
    if (isPaused) this.#o.metrics.pauses.inc();
    for (const readable of [this.#process?.stdout, this.#process?.stderr]) {
      if (isPaused) readable?.pause();
      else readable?.resume();
    }
  }

  /** Resolves to true if the target has more commands. */
  async #report(): Promise<boolean> {
    const { store, logger, metrics, clock } = this.#o;
    const cause = this.#cause;
    if (cause === undefined || cause.kind === 'fenced' || this.#isFenced) return false;
    const ending = this.#ending(cause);
    for (let attempt = 0; ;) {
      const state = await this.#spool.drained();
      if (state === 'stopped' || this.#isAbandoned) return false;
      let answer: FinishAnswer;
      try {
        answer = await store.finish(this.target, this.execution, this.fence, {
          ...ending,
          sequence: this.#spool.sequence,
        });
      } catch (error) {
        if (attempt === 0)
          logger.warn({ err: error, execution: this.execution }, 'outcome not written yet; trying again');
        const delayMs = backoffMs({ attempt: attempt++, baseMs: FINISH_RETRY_BASE_MS, capMs: FINISH_RETRY_CAP_MS });
        await Promise.race([sleep(clock, FINISH_RETRY_BASE_MS + delayMs), this.#abandoned.promise]);
        continue;
      }
      switch (answer.kind) {
        case 'hole':
          this.#spool.rewind(answer.known);
          continue;
        case 'fenced':
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

  #ending(cause: Exclude<EndCause, { kind: 'fenced' }>): Omit<Ending, 'sequence'> {
    const { outputBytesMax } = this.#o.limits;
    const verdict = decideOutcome(cause, this.#exit);
    const limited =
      this.#limitedLines === 0
        ? undefined
        : {
            code: 'output_limited',
            text: `The command wrote more than ${outputBytesMax} bytes; ${this.#limitedLines} lines after that were not kept.`,
          };
    const error = verdict.error === undefined ? limited : { ...verdict.error };
    if (verdict.error !== undefined && limited !== undefined && error !== undefined) error.text += ` ${limited.text}`;
    return {
      ...verdict,
      ...(error !== undefined && { error }),
      lines: this.#lines,
      truncatedLines: this.#limitedLines,
    };
  }
}
