/**
 * Results of commands on their way to those who wait for them. Agents in use today say a result once, so while Redis is
 * away it is kept here for a while, and the agent gets its `Ack` only when the result is written. Ours says it again if none
 * comes.
 */
import { type Clock, backoffMs, type Logger, sleep } from '@carrierarr/platform';
import type { AgentResult, Execution } from '@carrierarr/protocol';
import type { CommandResult } from '@carrierarr/protocol/agent-control';
import type { AgentMail, CommandStore, ExecutionHistory } from '@carrierarr/store';
import type { AgentStream } from './agent-stream.js';
import type { LocalStreams } from './local-streams.js';
import type { MailCarrier } from './mail-carrier.js';
import { logEntryOf, resultOf } from './messages.js';
import type { AgentMetrics } from './metrics.js';

/** Results waiting for Redis, and their bytes, of all agents. */
const WAITING_MAX = 1_000;
const WAITING_BYTES_MAX = 64 * 1024 * 1024;
/** How long one waits, ms. */
const WAIT_MS_MAX = 120_000;
const RETRY_BASE_MS = 200;
const RETRY_CAP_MS = 5_000;

export interface CommandResultsOptions {
  mail: AgentMail;
  carrier: Pick<MailCarrier, 'ended' | 'requestOf'>;
  history: Pick<ExecutionHistory, 'get'>;
  store: Pick<CommandStore, 'appendLog'>;
  streams: LocalStreams;
  now: () => number;
  clock: Clock;
  logger: Logger;
  metrics: AgentMetrics;
}

export class CommandResults {
  readonly #o: CommandResultsOptions;
  /** Being written, by stream: an agent that gets no answer says its result again. */
  readonly #writing = new WeakMap<AgentStream, Set<string>>();
  #waiting = 0;
  #waitingBytes = 0;
  #isStopped = false;

  constructor(options: CommandResultsOptions) {
    this.#o = options;
  }

  /** Those that are not written yet. */
  get waiting(): number {
    return this.#waiting;
  }

  stop(): void {
    this.#isStopped = true;
  }

  /** Takes a result. Resolves when the stream may go on, which is at once unless as many wait as may. */
  async take(stream: AgentStream, result: CommandResult): Promise<void> {
    const writing = this.#writing.get(stream) ?? new Set();
    this.#writing.set(stream, writing);
    if (writing.has(result.commandId)) return;
    writing.add(result.commandId);
    const bytes = result.stdout.length + result.stderr.length;
    this.#waiting += 1;
    this.#waitingBytes += bytes;
    const written = this.#write(stream, result).finally(() => {
      writing.delete(result.commandId);
      this.#waiting -= 1;
      this.#waitingBytes -= bytes;
    });
    if (this.#waiting >= WAITING_MAX || this.#waitingBytes >= WAITING_BYTES_MAX) await written;
  }

  async #write(stream: AgentStream, result: CommandResult): Promise<void> {
    const { clock, logger, metrics, carrier } = this.#o;
    const { commandId } = result;
    const endMs = clock.monotonicMs() + WAIT_MS_MAX;
    for (let attempt = 0; !this.#isStopped && clock.monotonicMs() < endMs; attempt += 1) {
      try {
        const kind = await this.#answer(stream, result);
        metrics.results.inc({ kind });
        carrier.ended(stream, commandId);
        stream.send({ $case: 'ack', value: { messageId: commandId, received: true } });
        return;
      } catch (error) {
        if (attempt === 0)
          logger.warn({ err: error, execution: commandId }, 'a result is not written yet; trying again');
        await sleep(clock, RETRY_BASE_MS + backoffMs({ attempt, baseMs: RETRY_BASE_MS, capMs: RETRY_CAP_MS }));
      }
    }
    metrics.resultsDropped.inc();
    logger.error(
      { execution: commandId },
      'a result could not be written; if its agent does not say it again, it is lost',
    );
  }

  async #answer(stream: AgentStream, message: CommandResult): Promise<'taken' | 'repeated' | 'late' | 'foreign'> {
    const { mail, carrier } = this.#o;
    const result = resultOf(message);
    const request = await carrier.requestOf(stream, message.commandId);
    if (request === undefined) return this.#unexpected(stream, message.commandId, result);
    const answer = await mail.answer(request.execution, message.fence === 0 ? undefined : message.fence, result);
    if (answer === 'gone') return this.#unexpected(stream, message.commandId, result);
    return answer === 'ok' ? 'taken' : 'repeated';
  }

  /** Nobody waits for it: told in the log of its target, if it was this node's to run. */
  async #unexpected(
    stream: AgentStream,
    commandId: string,
    result: AgentResult,
  ): Promise<'repeated' | 'late' | 'foreign'> {
    const { history, mail, store, logger, now } = this.#o;
    const execution = await history.get(commandId);
    if (execution === undefined || !this.#isOf(stream, execution)) {
      logger.warn(
        { execution: commandId, node: stream.identity?.key },
        'an agent told the result of what it was not given',
      );
      return 'foreign';
    }
    // Else it was written, and its acknowledgement was lost.
    const isNews = execution.outcome === 'lost' && result.end !== 'lost' && result.end !== 'out-of-touch';
    if (!isNews) return 'repeated';
    const how = result.end === 'exited' ? `exit code ${result.exit_code}` : result.end;
    const why = result.error === undefined ? '' : ` (${result.error})`;
    const text = `The agent told the end of execution ${commandId} after it was held for ${execution.outcome}: ${how}${why}.`;
    const entry = logEntryOf([text.replaceAll(/\s*[\r\n]\s*/g, ' ')], now());
    const answer = await mail.tellLateOnce(commandId, () => store.appendLog(execution.target, 1, entry));
    return answer === 'told' ? 'late' : 'repeated';
  }

  #isOf(stream: AgentStream, { node }: Execution): boolean {
    return node !== undefined && this.#o.streams.isOf(stream, node);
  }
}
