/**
 * Has the agent of a node run a command. It is left as mail in Redis; the monitor that holds the node's stream passes it
 * on, writes the output of our agents to the log, and leaves the result. Agents in use today say their output with the
 * result, so here it becomes lines like a script's.
 */
import { deferred, type EndCause, type ProgramExit } from '@carrierarr/execution';
import type { Clock, Logger, Timer } from '@carrierarr/platform';
import {
  agentCommandOf,
  type AgentRequest,
  type AgentResult,
  isAgentVerb,
  type StreamLetter,
} from '@carrierarr/protocol';
import type { AgentMail, MailLook } from '@carrierarr/store';
import type { AgentAnswers } from './agent-answers.js';
import { type AgentPatience, exitOf, judgeLook } from './agent-verdict.js';
import type { Executor, ForeignOutput, Run, Task } from './executor.js';

export interface AgentExecutorOptions extends AgentPatience {
  mail: AgentMail;
  answers: Pick<AgentAnswers, 'listen'>;
  outputBytesMax: number;
  clock: Clock;
  logger: Pick<Logger, 'debug' | 'warn'>;
}

/** Longest time without a look, ms. */
const LOOK_EVERY_MS = 1_000;
/** Of an old agent's output, between two looks whether Redis keeps up. */
const CHUNK_BYTES = 64 * 1024;
const NOT_PASSED_ON = 'not passed on to an agent';

export class AgentExecutor implements Executor {
  readonly #o: AgentExecutorOptions;

  constructor(options: AgentExecutorOptions) {
    this.#o = options;
  }

  async start(task: Task): Promise<Run | undefined> {
    const { node } = task.execution;
    const request = this.#requestOf(task);
    if (typeof request === 'string' || node === undefined) {
      const problem = typeof request === 'string' ? request : 'The execution names no node. Upgrade the gateways.';
      task.decide({ kind: 'agent-rejected', code: 'bad_command', reason: NOT_PASSED_ON, problem });
      return undefined;
    }
    if (task.signal.aborted) return undefined;
    const run = new AgentRun({ ...this.#o, task, request, node });
    run.begin();
    return run;
  }

  /** A text says why there is none. */
  #requestOf({ execution, fence, timeoutMs }: Task): AgentRequest | string {
    const { id, target, command: verb, args: words } = execution;
    if (!isAgentVerb(verb)) return `${JSON.stringify(verb)} is nothing that an agent carries out.`;
    const answer = agentCommandOf(verb, words);
    if (!answer.ok) return answer.problem;
    const { killGraceMs, outageGraceMs, outputBytesMax } = this.#o;
    return {
      ...{ execution: id, target, fence, ...answer.command },
      timeout_seconds: Math.ceil(timeoutMs / 1000),
      kill_grace_ms: killGraceMs,
      outage_grace_ms: outageGraceMs,
      output_bytes_max: outputBytesMax,
    };
  }
}

interface AgentRunOptions extends AgentExecutorOptions {
  task: Task;
  request: AgentRequest;
  node: string;
}

class AgentRun implements Run {
  readonly #o: AgentRunOptions;
  readonly #exited = deferred<ProgramExit | undefined>();
  readonly exited = this.#exited.promise;
  #timer: Timer | undefined;
  #forget: (() => void) | undefined;
  #stepping: Promise<void> | undefined;
  /** Something happened during a step: another must follow. */
  #again = false;
  #isPut = false;
  #ending: { atMs: number; graceMs: number } | undefined;
  #isKillWritten = false;
  /** Since when every look has succeeded, monotonic ms. */
  #looksSinceMs: number | undefined;
  #result: AgentResult | undefined;
  #isOver = false;
  #isGivenUp = false;
  #resumed = deferred<void>();
  #isPaused = false;

  constructor(options: AgentRunOptions) {
    this.#o = options;
  }

  begin(): void {
    const { clock, answers, request } = this.#o;
    this.#forget = answers.listen(request.execution, () => this.#step());
    this.#timer = clock.setInterval(() => this.#step(), LOOK_EVERY_MS);
    this.#step();
  }

  async finish(): Promise<ForeignOutput | undefined> {
    const foreign = await this.#output();
    await this.#remove();
    return foreign;
  }

  /** The lease is the runner's; an agent needs no heartbeat from it. */
  beat(): void {}

  terminate(graceMs: number): void {
    this.#ending ??= { atMs: this.#o.clock.monotonicMs(), graceMs };
    this.#step();
  }

  kill(): void {
    this.#isGivenUp = true;
    this.#resumed.resolve();
    this.#end(undefined);
  }

  pause(): void {
    if (!this.#isPaused) this.#resumed = deferred<void>();
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#resumed.resolve();
  }

  #step(): void {
    if (this.#isOver) return;
    this.#again = this.#stepping !== undefined;
    this.#stepping ??= this.#stepOnce()
      .catch((error: unknown) => {
        this.#looksSinceMs = undefined;
        this.#o.logger.debug({ err: error, execution: this.#o.request.execution }, 'mail not read; trying again');
      })
      .finally(() => {
        this.#stepping = undefined;
        if (this.#again) this.#step();
      });
  }

  /** Rejects if Redis fails; then the next one goes on where this one stopped. */
  async #stepOnce(): Promise<void> {
    const { mail, request, task, node, clock } = this.#o;
    const { execution } = request;
    if (!this.#isPut && this.#ending === undefined) {
      const answer = await mail.put(node, request);
      if (answer.kind === 'full') {
        const problem = `${answer.open} commands are under way on agents, as many as are allowed. Try again later.`;
        task.decide({ kind: 'agent-rejected', code: 'too_many_pending', reason: NOT_PASSED_ON, problem });
        return this.#end(undefined);
      }
      this.#isPut = true;
    }
    if (this.#ending !== undefined && !this.#isKillWritten) {
      if (await this.#isWithdrawn()) return this.#end(undefined);
      await mail.kill(execution);
      this.#isKillWritten = true;
    }
    const askedMs = clock.monotonicMs();
    const { isUndeliverable } = this.#judge(await mail.look(execution), askedMs);
    if (isUndeliverable && (await this.#isWithdrawn())) {
      task.decide(unreachable(node, task.execution.target, this.#o.outageGraceMs));
      this.#end(undefined);
    }
  }

  #judge(look: MailLook, askedMs: number): { isUndeliverable: boolean } {
    const { task, clock, killGraceMs, outageGraceMs } = this.#o;
    // Given up meanwhile.
    if (this.#isOver) return { isUndeliverable: false };
    this.#looksSinceMs ??= askedMs;
    const cause = task.signal.reason as EndCause | undefined;
    const verdict = judgeLook(
      look,
      {
        lookedForMs: askedMs - this.#looksSinceMs,
        ...(this.#ending !== undefined && {
          ending: {
            sinceMs: clock.monotonicMs() - this.#ending.atMs,
            graceMs: this.#ending.graceMs,
            cause: cause?.kind,
          },
        }),
      },
      { killGraceMs, outageGraceMs },
    );
    if (verdict.kind === 'lost') this.#lose(verdict.reason);
    if (verdict.kind === 'ended') this.#conclude(verdict.result);
    return { isUndeliverable: verdict.kind === 'undeliverable' };
  }

  #conclude(result: AgentResult): void {
    const { task } = this.#o;
    this.#result = result;
    switch (result.end) {
      case 'exited':
        return this.#end(exitOf(result));
      case 'cancelled':
        // Told by somebody else than us: a monitor that held our lease for lost.
        if (!task.signal.aborted) return this.#lose('it was ended because it was held for lost');
        return this.#end(exitOf(result));
      case 'refused':
        task.decide({
          ...{ kind: 'agent-rejected', code: 'agent_refused', reason: 'refused by the agent' },
          problem: `The agent refused the command: ${said(result, 'it gave no reason')}`,
        });
        return this.#end(undefined);
      case 'lost':
        return this.#lose(said(result, 'the agent, or its machine, was restarted'));
      case 'out-of-touch':
        return this.#lose(said(result, 'the agent ended it, having been out of touch'));
    }
  }

  #lose(reason: string): void {
    this.#o.task.giveUp(reason);
    this.#end(undefined);
  }

  /** True if it was never sent, and will not be. */
  async #isWithdrawn(): Promise<boolean> {
    const { mail, request } = this.#o;
    const answer = await mail.withdraw(request.execution, request.fence);
    return answer === 'withdrawn' || (answer === 'gone' && !this.#isPut);
  }

  #end(exit: ProgramExit | undefined): void {
    this.#isOver = true;
    this.#timer?.cancel();
    this.#forget?.();
    this.#exited.resolve(exit);
  }

  /** Hands over what an old agent said; tells what ours wrote to the log. */
  async #output(): Promise<ForeignOutput | undefined> {
    const result = this.#result;
    if (result === undefined) return NOTHING;
    const { sequence, lines, truncated_lines: truncatedLines, success, stdout, stderr, error } = result;
    // Only those of the old kind say whether it was a success.
    if (success === undefined) return { sequence, lines, truncatedLines };
    await this.#hand('o', stdout ?? '');
    const isTold = result.end !== 'exited' || error === undefined || error === '';
    await this.#hand('e', isTold ? (stderr ?? '') : joined(stderr ?? '', error));
    return undefined;
  }

  async #hand(stream: StreamLetter, text: string): Promise<void> {
    const bytes = Buffer.from(text, 'utf8');
    for (let at = 0; at < bytes.length && !this.#isGivenUp; at += CHUNK_BYTES) {
      if (this.#isPaused) await this.#resumed.promise;
      this.#o.task.output(stream, bytes.subarray(at, at + CHUNK_BYTES));
    }
    this.#o.task.outputEnd(stream);
  }

  /** What cannot be removed now is found by the sweeper. */
  async #remove(): Promise<void> {
    const { mail, request, logger } = this.#o;
    await mail.remove(request.execution, request.fence).catch((error: unknown) => {
      logger.debug({ err: error, execution: request.execution }, 'mail not removed; a sweep does it');
    });
  }
}

/** Nobody knows how far it got: what the log has is all there is. */
const NOTHING: ForeignOutput = { sequence: 0, lines: 0, truncatedLines: 0 };

function said({ error }: AgentResult, otherwise: string): string {
  return error === undefined || error === '' ? otherwise : error;
}

function joined(text: string, last: string): string {
  return text === '' || text.endsWith('\n') ? `${text}${last}\n` : `${text}\n${last}\n`;
}

function unreachable(node: string, target: string, graceMs: number): EndCause {
  const problem =
    `The agent of ${JSON.stringify(target)} (node ${JSON.stringify(node)}) had no stream to any monitor for ` +
    `${Math.round(graceMs / 1000)} s, so the command was never sent. Try again when the node is connected.`;
  return { kind: 'agent-rejected', code: 'node_not_connected', reason: 'the node was not connected', problem };
}
