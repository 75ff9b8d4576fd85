/**
 * Takes commands, each once however often it is sent, runs them, and hands over their results until they are confirmed.
 *
 *   command ─> seen before? ─ yes ─> accepted / its result again
 *                  │ no
 *                  └─> on disk ─> accepted ─> runs ─> output taken ─> result on disk ─> sent until confirmed
 */
import { Redactor, SpoolBudget } from '@carrierarr/execution';
import { type Clock, type Logger, sleep, type Timer } from '@carrierarr/platform';
import {
  type Ack,
  type CancelCommand,
  CancelReason,
  type Command,
  CommandEnd,
  type CommandResult,
} from '@carrierarr/protocol/agent-control';
import type { AgentConfig } from '../config.js';
import type { ControlPlane } from '../control/control-plane.js';
import type { AgentMetrics } from '../metrics.js';
import { FolderTakenError } from '../state/state-lock.js';
import { Journal, type SeenCommand } from './journal.js';
import { type OutputSink, ResultSink, StreamSink } from './output-sink.js';
import { commandEndName, emptyResult, refusalOf, RunningCommand } from './running-command.js';
import { Refusal, type Work, type WorkOutput } from './work.js';

type Link = Pick<ControlPlane, 'isUp' | 'streamsCommands' | 'silentMs' | 'sendAccepted' | 'sendResult' | 'sendOutput'>;

export interface CommandsOptions {
  config: AgentConfig;
  link: () => Link;
  /** Begins what a command says. Rejects with {@link Refusal}. */
  begin: (command: Command, output: WorkOutput) => Promise<Work>;
  /** Resolves when the state folder is this agent's alone. Rejects while that is not so, or the folder cannot be used. */
  holdFolder: () => Promise<void>;
  /** A command has begun or ended. */
  onActivity: () => void;
  /** Hidden in output. */
  secrets: readonly string[];
  metrics: AgentMetrics;
  clock: Clock;
  logger: Logger;
}

const TICK_MS = 1_000;
/** A result that is not confirmed is sent again. */
const RESEND_MS = 10_000;
/** In a second. */
const RESULTS_AT_ONCE = 50;
const RESULT_BYTES_AT_ONCE = 1024 * 1024;
/** An old control plane may confirm nothing: a stream that lived on for so long has brought it. */
const OLD_DELIVERED_MS = 10_000;
/** The control plane ends a command at its timeout; should it not, the agent does, so much later. */
const TIMEOUT_MARGIN_MS = 30_000;
/** Between two looks whether a state folder that could not be written can be. */
const DISK_RETRY_MS = 30_000;
const COMMAND_ID_CHARS_MAX = 200;
/** A program of an agent that stops has this long at most before SIGKILL. */
const STOP_GRACE_MS = 5_000;
const STOP_MARGIN_MS = 3_000;
const LAST_WORDS_MS = 2_000;
const LAST_LOOK_MS = 20;

export class Commands {
  readonly #o: CommandsOptions;
  readonly #journal: Journal;
  readonly #running = new Map<string, RunningCommand>();
  /** Being written to the journal. */
  readonly #taking = new Set<string>();
  /** When each undelivered result was last sent, monotonic ms, on the stream that is open. */
  readonly #sentMs = new Map<string, number>();
  readonly #redactor: Redactor;
  readonly budget: SpoolBudget;
  #timer: Timer | undefined;
  #isStopping = false;
  #isClosed = false;
  #triedDiskMs = 0;
  #isTryingDisk = false;
  #ending: Promise<unknown>[] = [];

  constructor(options: CommandsOptions) {
    const { config, metrics, logger, secrets } = options;
    this.#o = options;
    this.budget = new SpoolBudget(config.spoolBytes);
    this.#redactor = new Redactor(secrets);
    this.#journal = new Journal({
      ...{
        folder: config.stateDir,
        hold: options.holdFolder,
        resultsMax: config.keptResults,
        resultBytesMax: config.keptResultBytes,
      },
      onDropped: ({ id, seenMs }) => {
        metrics.droppedResults.inc();
        logger.error(
          { command: id, seen: new Date(seenMs).toISOString() },
          'result dropped: too many are not delivered',
        );
      },
    });
  }

  get running(): number {
    return this.#running.size + this.#taking.size;
  }

  get undelivered(): number {
    return this.#journal.undelivered().length;
  }

  /** Why commands are refused: what is not noted might run twice. */
  get diskProblem(): Error | undefined {
    return this.#journal.problem;
  }

  /** Ids of those that run. */
  runningIds(): string[] {
    return [...this.#running.keys()];
  }

  /** One runs that must end when the control plane is out of reach. */
  isTouchNeeded(): boolean {
    return [...this.#running.values()].some(({ outageGraceMs }) => outageGraceMs > 0);
  }

  /**
   * Reads what is on disk; commands that this agent's predecessor left are lost. Goes on without a disk: commands are
   * refused then, but the agent still says how the machine is and powers it off.
   */
  async start(): Promise<void> {
    const { logger, clock } = this.#o;
    await this.#journal.open();
    const problem = this.diskProblem;
    if (problem !== undefined) {
      logger.error({ err: problem }, 'the journal of commands cannot be written: commands are refused until it can');
    }
    this.#triedDiskMs = clock.monotonicMs();
    await this.#loseUnended();
    this.#timer = clock.setInterval(() => this.#tick(), TICK_MS);
  }

  /** What an earlier life of the agent left unended is lost as soon as it is known, also while nothing can be written. */
  async #loseUnended(): Promise<void> {
    // It may run there.
    if (this.diskProblem instanceof FolderTakenError) return;
    const error = 'the agent, or the machine, was restarted while the command ran';
    // All at once: one of them may be started anew as soon as anything is waited for.
    const lost = this.#journal.unended().map(({ id, fence }) => {
      this.#o.logger.warn({ command: id }, 'the agent ended while this command ran: it is lost');
      return this.#journal.end({ ...emptyResult(id, fence), end: CommandEnd.COMMAND_END_LOST, error });
    });
    await Promise.all(lost).catch((cause: unknown) => this.#notWritten(cause));
  }

  /** Whether commands can be taken again. */
  async #tryDisk(): Promise<void> {
    this.#isTryingDisk = true;
    try {
      await this.#journal.repair();
      this.#o.logger.info('the state folder can be written again: commands are taken');
    } catch (error) {
      this.#o.logger.debug({ err: error }, 'the state folder cannot be written yet');
    }
    // Also if it can be read only: whoever waits for them hears of it.
    await this.#loseUnended();
    this.#isTryingDisk = false;
  }

  /** Ends what runs, and leaves results on disk; those that can be sent are. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    for (const command of this.#running.values()) command.stop();
    const grace = Math.min(this.#o.config.killGrace, STOP_GRACE_MS) + STOP_MARGIN_MS;
    const timer = this.#o.clock.setTimeout(() => {
      for (const command of this.#running.values()) command.abandon();
    }, grace);
    await Promise.all(this.#ending);
    timer.cancel();
    await this.#lastWords();
    this.#timer?.cancel();
    this.#isClosed = true;
    await this.#journal.close();
  }

  /** Waits a moment for results to be confirmed, so that they need not be sent again after a restart. */
  async #lastWords(): Promise<void> {
    const { clock } = this.#o;
    const untilMs = clock.monotonicMs() + LAST_WORDS_MS;
    while (this.#o.link().isUp && this.undelivered > 0 && clock.monotonicMs() < untilMs)
      await sleep(clock, LAST_LOOK_MS);
  }

  /** A stream has opened: what is not delivered is sent over it. */
  onUp(): void {
    this.#sentMs.clear();
    this.#sendResults();
  }

  take(command: Command): void {
    const { metrics, logger, config } = this.#o;
    const { commandId: id, fence } = command;
    const link = this.#o.link();
    if (id === '' || id.length > COMMAND_ID_CHARS_MAX) {
      logger.error({ command: id.slice(0, 50) }, 'a command without a usable id was left out');
      return;
    }
    if (this.#taking.has(id)) return;
    if (!this.#journal.isRead) return this.#notRun(command);
    const seen = this.#journal.find(id);
    // Its runner was lost, and whoever asked for it has allowed that it is run again.
    const isStartedAnew = seen !== undefined && seen.fence !== 0 && fence > seen.fence;
    const former = this.#running.get(id);
    if (isStartedAnew && former !== undefined) {
      // Sent again until it is accepted, which it is once this has ended.
      former.endFenced();
      return;
    }
    if (seen !== undefined && !isStartedAnew) {
      metrics.repeated.inc();
      logger.info({ command: id }, 'this command was sent before');
      if (seen.result === undefined) link.sendAccepted(id, seen.fence);
      else this.#sendResult(seen);
      return;
    }
    if (this.#isStopping) return this.#refuse(command, 'the agent is stopping');
    if (this.running >= config.commandsMax) {
      return this.#refuse(command, `${config.commandsMax} commands run on this agent already (--commands-max)`);
    }
    this.#taking.add(id);
    const ending = this.#run(command, fence, link.streamsCommands);
    this.#ending.push(ending);
    void ending.finally(() => (this.#ending = this.#ending.filter((other) => other !== ending)));
  }

  cancel({ commandId, fence, reason }: CancelCommand): void {
    const running = this.#running.get(commandId);
    if (running !== undefined) {
      if (fence !== 0 && fence !== running.fence) return;
      if (reason === CancelReason.CANCEL_REASON_FENCED) running.endFenced();
      else running.cancel();
      return;
    }
    if (this.#taking.has(commandId) || reason === CancelReason.CANCEL_REASON_FENCED) return;
    // Its result may lie there. It is asked again, and otherwise whoever asks gives up by itself.
    if (!this.#journal.isRead) return;
    const seen = this.#journal.find(commandId);
    if (seen?.result !== undefined) this.#sendResult(seen);
    else if (seen === undefined) {
      // It never came here, or this agent's disk is a new one.
      const error = 'this agent knows nothing of the command';
      this.#o.link().sendResult({ ...emptyResult(commandId, fence), end: CommandEnd.COMMAND_END_LOST, error });
    }
  }

  confirm({ messageId, received }: Ack): void {
    // Not what was said while the journal could not be read, if another result was found there since.
    if (!received || !this.#sentMs.has(messageId)) return;
    this.#deliver(messageId);
  }

  async #run(command: Command, fence: number, isStreaming: boolean): Promise<void> {
    const { clock, logger, onActivity, metrics } = this.#o;
    const { commandId: id } = command;
    try {
      await this.#journal.see(id, fence, clock.now());
    } catch (error) {
      // What cannot be remembered might run twice.
      logger.error({ err: error, command: id }, 'the command cannot be noted on disk: refused');
      this.#taking.delete(id);
      return this.#refuse(command, `it cannot be noted in the state folder: ${(error as Error).message}`);
    }
    this.#o.link().sendAccepted(id, fence);
    const running = this.#prepare(command, isStreaming);
    this.#running.set(id, running);
    this.#taking.delete(id);
    if (this.#isStopping) running.stop();
    onActivity();
    logger.info({ command: id, type: command.type, fence }, 'command begins');
    const result = await running.run();
    this.#running.delete(id);
    onActivity();
    if (result === undefined) {
      metrics.commands.inc({ end: 'fenced' });
      logger.warn({ command: id }, 'the command was not ours any more: ended without a result');
      await this.#journal.deliver(id).catch((cause: unknown) => this.#notWritten(cause));
      return;
    }
    metrics.commands.inc({ end: commandEndName(result.end) });
    logger.info(
      { command: id, end: commandEndName(result.end), exitCode: result.exitCode, error: result.error },
      'command ended',
    );
    // Sent even if the disk is full: in memory it is kept all the same.
    await this.#journal.end(result).catch((cause: unknown) => this.#notWritten(cause));
    const seen = this.#journal.find(id);
    if (seen !== undefined) this.#sendResult(seen);
  }

  #prepare(command: Command, isStreaming: boolean): RunningCommand {
    const { config, begin, metrics, clock, logger } = this.#o;
    const { commandId, fence, timeoutSeconds, outputBytesMax, killGraceMs } = command;
    let running: RunningCommand | undefined;
    const sink: OutputSink = isStreaming
      ? new StreamSink({
          ...{ commandId, fence, budget: this.budget, metrics, clock },
          bytesMax: outputBytesMax > 0 ? outputBytesMax : config.outputBytesMax,
          spoolBytesMax: Math.max(256 * 1024, Math.floor(config.spoolBytes / 2)),
          send: (output) => this.#o.link().sendOutput(output),
          onPause: (isPaused) => running?.setPaused(isPaused),
          onFenced: () => running?.endFenced(),
        })
      : new ResultSink(config.resultOutputBytes);
    const timeoutMs = timeoutSeconds > 0 ? timeoutSeconds * 1000 + (isStreaming ? TIMEOUT_MARGIN_MS : 0) : 0;
    running = new RunningCommand({
      ...{ command, timeoutMs, sink, metrics, clock, logger, redactor: this.#redactor },
      killGraceMs: isStreaming ? killGraceMs : config.killGrace,
      lineBytesMax: config.maxLineBytes,
      begin: (output) => begin(command, output),
    });
    return running;
  }

  #refuse(command: Command, problem: string): void {
    this.#o.metrics.commands.inc({ end: 'refused' });
    this.#o.logger.warn({ command: command.commandId, problem }, 'command refused');
    this.#o.link().sendResult(refusalOf(command, new Refusal(`Refused: ${problem}.`)));
  }

  /**
   * Nobody knows which commands have run. One that was sent before may have, in an earlier life of the agent, so nobody may take it
   * for one that never did. Control planes from before carrierarr send none twice.
   */
  #notRun(command: Command): void {
    const { metrics, logger } = this.#o;
    const { commandId: id, fence } = command;
    const problem = this.diskProblem?.message ?? 'It has not been read yet.';
    if (command.firstSending || !this.#o.link().streamsCommands)
      return this.#refuse(command, `which commands have run cannot be read, so none is taken: ${problem}`);
    metrics.commands.inc({ end: commandEndName(CommandEnd.COMMAND_END_LOST) });
    logger.warn({ command: id, problem }, 'command not run: whether it has run before cannot be read');
    const error = `the agent did not run it now, and cannot read whether it has run before: ${problem}`;
    this.#o.link().sendResult({ ...emptyResult(id, fence), end: CommandEnd.COMMAND_END_LOST, error });
  }

  #tick(): void {
    const link = this.#o.link();
    for (const command of this.#running.values()) {
      const silent = link.silentMs;
      if (command.outageGraceMs > 0 && silent >= command.outageGraceMs) command.loseTouch(silent);
    }
    const now = this.#o.clock.monotonicMs();
    const isTryDue = this.diskProblem !== undefined && now - this.#triedDiskMs >= DISK_RETRY_MS;
    if (isTryDue && !this.#isTryingDisk) {
      this.#triedDiskMs = now;
      void this.#tryDisk();
    }
    if (!link.isUp) return;
    this.#sendResults();
  }

  /** Some of them at a time: control planes bound what a stream may say in a second. */
  #sendResults(): void {
    const link = this.#o.link();
    const now = this.#o.clock.monotonicMs();
    let count = 0;
    let bytes = 0;
    for (const seen of this.#journal.undelivered()) {
      const sent = this.#sentMs.get(seen.id);
      const isDue = sent === undefined || (link.streamsCommands && now - sent >= RESEND_MS);
      if (isDue && count < RESULTS_AT_ONCE && bytes < RESULT_BYTES_AT_ONCE) {
        this.#sendResult(seen);
        count += 1;
        bytes += (seen.result?.stdout.length ?? 0) + (seen.result?.stderr.length ?? 0);
      } else if (!isDue && !link.streamsCommands && now - sent >= OLD_DELIVERED_MS) this.#deliver(seen.id);
    }
  }

  #sendResult({ id, result }: SeenCommand): void {
    if (result === undefined || !this.#o.link().sendResult(forWire(result))) return;
    this.#sentMs.set(id, this.#o.clock.monotonicMs());
  }

  #deliver(id: string): void {
    if (this.#isClosed) return;
    this.#sentMs.delete(id);
    this.#journal.deliver(id).catch((error: unknown) => this.#notWritten(error));
  }

  #notWritten(error: unknown): void {
    this.#o.logger.error({ err: error }, 'the journal of commands cannot be written');
  }
}

/** Read back from disk it lacks nothing, but may be of an older version. */
function forWire(result: CommandResult): CommandResult {
  return { ...emptyResult(result.commandId, result.fence), ...result };
}
