/**
 * Taking commands and kills from clients, whichever way they came. A command is accepted by one call to Redis; what
 * follows (the drain job that wakes a runner) may fail without harm, since a runner's sweeper finds the command too.
 *
 * The answer says honestly what is known: a call that got no answer may have been carried out, and then only a repeat
 * with the same id is safe.
 */
import type { Clock, Logger } from '@carrierarr/platform';
import {
  agentCommandOf,
  ClientError,
  DEFAULT_TARGET,
  type ErrorCode,
  isAgentVerb,
  type Keys,
  type KillNotice,
  targetSchema,
} from '@carrierarr/protocol';
import {
  type CommandStore,
  type DrainQueue,
  type KillAnswer,
  type RedisConnection,
  RUNNER_SEEN_MS,
  type RunnerRegistry,
  type Submission,
  type SubmitAnswer,
} from '@carrierarr/store';
import { Counter, type Registry } from 'prom-client';
import type { NodeView, SeenNode } from './fleet/node-view.js';
import { problemOfIntervals } from './fleet/report-intervals.js';
import { hasLeft, noScript, seconds, whatIsKnown } from './command-refusals.js';
import { shown } from './problem.js';
import { RedisAwayError, type RedisHealth } from './redis-health.js';
import { RunnerPresence } from './runner-presence.js';

/** An agent without a stream for longer takes no commands, ms. One that moves to another monitor is back long before. */
const STREAMLESS_MS_MAX = 30_000;

/** A command as a client gave it. `command`, `args` and `clientId` have passed the protocol's schemas. */
export interface CommandRequest {
  /** Empty or absent: {@link DEFAULT_TARGET}. */
  target?: string | null | undefined;
  command: string;
  args?: string[] | null | undefined;
  clientId?: string | undefined;
  timeoutSeconds?: number | undefined;
  idempotent?: boolean | undefined;
  subject: string;
  address: string;
  /** The node it is for, where that is known. Else an agent's verb goes to the node that the target is, if it is one. */
  node?: SeenNode;
}

export interface Accepted {
  execution: string;
  /** Where its output is: of a node, its own target, by whichever of its names it was called. */
  target: string;
  /** Commands of the target that come before it, the running one included. */
  position: number;
  /** The id was known: this is the execution it got the first time. */
  duplicate: boolean;
}

export interface KillRequest {
  target?: string | null | undefined;
  /** Only this execution; otherwise what runs on the target, else what is next there. */
  execution?: string | undefined;
  subject: string;
}

export interface Killed {
  execution: string;
  target: string;
  /** `killing`: it runs, and its runner is told. `cancelled`: it was waiting, and will not start. */
  state: 'killing' | 'cancelled';
}

export interface CommandsOptions {
  store: Pick<CommandStore, 'submit' | 'recall' | 'kill'>;
  drain: Pick<DrainQueue, 'add'>;
  runners: Pick<RunnerRegistry, 'seenSince'>;
  /** For telling runners of kills. */
  connection: Pick<RedisConnection, 'spublish'>;
  keys: Keys;
  redis: RedisHealth;
  gatewayId: string;
  /** As configured; for messages. */
  queueLengthMax: number;
  /** For commands that agents carry out. Without it there are none. */
  nodes?: NodeView;
  /** False if nobody configured a control script: then only agents run anything. */
  commandsEnabled?: boolean;
  clock: Clock;
  logger: Pick<Logger, 'warn'>;
  metrics: Registry;
}

export class Commands {
  readonly #o: CommandsOptions;
  readonly #submitted: Counter<'result'>;
  readonly #killed: Counter<'result'>;
  readonly #unannounced: Counter;
  readonly #runners: RunnerPresence;

  constructor(options: CommandsOptions) {
    this.#o = options;
    this.#runners = new RunnerPresence(options);
    const registers = [options.metrics];
    this.#submitted = new Counter({
      name: 'carrierarr_gateway_commands_total',
      help: 'Commands by what became of them here: accepted, duplicate, or the code of the error.',
      labelNames: ['result'],
      registers,
    });
    this.#killed = new Counter({
      name: 'carrierarr_gateway_kills_total',
      help: 'Kill requests by result: killing, cancelled, or the code of the error.',
      labelNames: ['result'],
      registers,
    });
    this.#unannounced = new Counter({
      name: 'carrierarr_gateway_unannounced_commands_total',
      help: 'Accepted commands and kills that runners could not be told of at once; they find them by themselves, later.',
      registers,
    });
  }

  /**
   * Accepts a command: from then on it runs at most once. Throws ClientError; its text says what to do, and if it is
   * `unavailable`, whether the command may have been accepted after all.
   */
  async submit(request: CommandRequest): Promise<Accepted> {
    return this.#counted(
      this.#submitted,
      () => this.#submit(request),
      (accepted) => (accepted.duplicate ? 'duplicate' : 'accepted'),
    );
  }

  /** Ends a command. Throws ClientError, for example `nothing_running`. */
  async kill(request: KillRequest): Promise<Killed> {
    return this.#counted(
      this.#killed,
      () => this.#kill(request),
      (killed) => killed.state,
    );
  }

  async #submit(request: CommandRequest): Promise<Accepted> {
    const { clientId, timeoutSeconds } = request;
    const { store, redis, gatewayId, commandsEnabled = true } = this.#o;
    const given = normaliseTarget(request.target);
    // Meanwhile: each look at Redis is time that a command takes.
    const hasRunner = this.#runners.isKnown();
    hasRunner.catch(() => undefined);
    const { node, refusal } = await this.#nodeFor(request, given);
    const target = node === undefined ? given : normaliseTarget(node.target);
    const isForScript = node === undefined && refusal === undefined;
    if (isForScript && !commandsEnabled) throw noScript(request.command, given);
    const submission = {
      target,
      ...(node !== undefined && { executor: 'agent' as const, node: node.record.key }),
      command: request.command,
      args: request.args ?? [],
      subject: request.subject,
      address: request.address,
      gateway: gatewayId,
      idempotent: request.idempotent ?? false,
      ...(clientId !== undefined && { clientId }),
      ...(timeoutSeconds !== undefined && { timeoutMs: timeoutSeconds * 1000 }),
    };
    if (refusal !== undefined) return this.#recalled({ ...submission, executor: 'agent' }, request, refusal);
    let answer: SubmitAnswer;
    try {
      if (!(await hasRunner)) {
        throw new ClientError(
          'no_runner',
          `${shown(request.command)} for ${shown(target)} was not accepted: no runner has been seen for ` +
            `${RUNNER_SEEN_MS / 1000} s. Start one with \`carrierarr runner\`, or see why it cannot reach Redis.`,
        );
      }
      answer = await redis.bounded(() => store.submit(submission));
    } catch (error) {
      if (!(error instanceof RedisAwayError)) throw error;
      throw new ClientError('unavailable', `${error.message}. ${whatIsKnown(error, request, target)}`, {
        cause: error,
      });
    }
    if (answer.kind !== 'accepted') throw this.#refusal(answer, request, target);
    this.#announce(target, answer.execution);
    return { execution: answer.execution, target, position: answer.position, duplicate: answer.duplicate };
  }

  /** The node whose agent is to carry the command out, and why it cannot now; without either it is for the control script. */
  async #nodeFor(request: CommandRequest, target: string): Promise<{ node?: SeenNode; refusal?: ClientError }> {
    const { nodes } = this.#o;
    const { command, args } = request;
    if (nodes === undefined || !isAgentVerb(command)) return {};
    const node = request.node ?? (await this.#whereKnown(request, target, () => nodes.byTarget(target)));
    if (node === undefined) {
      // An agent that restarts says goodbye first. What is for it must not go to the script meanwhile.
      const leftAgoMs = await this.#whereKnown(request, target, () => nodes.leftAgoMs(target));
      return leftAgoMs === undefined ? {} : { refusal: hasLeft(command, target, leftAgoMs) };
    }
    const answer = agentCommandOf(command, args ?? []);
    const problem = answer.ok ? problemOfIntervals(answer.command, node.staleMs) : answer.problem;
    if (problem !== undefined) throw new ClientError('bad_command', `${problem} The command was not accepted.`);
    const { streamlessMs } = node;
    if (streamlessMs !== undefined && streamlessMs <= STREAMLESS_MS_MAX) return { node };
    const since = streamlessMs === undefined ? 'never had a stream' : `has had no stream for ${seconds(streamlessMs)}`;
    const text =
      `${shown(command)} for ${shown(target)} was not accepted: the agent of node ${shown(node.record.name)} ${since}. ` +
      'Try again when the node is connected; GET /api/v1/nodes tells.';
    return { node, refusal: new ClientError('node_not_connected', text) };
  }

  /**
   * What was accepted under this id before its agent went away is so still, asked by the name of its target: which node another
   * name meant is forgotten when that signs off. Throws the refusal if nothing was.
   */
  async #recalled(submission: Submission, request: CommandRequest, refusal: ClientError): Promise<Accepted> {
    const { store, redis } = this.#o;
    const { target } = submission;
    const answer = await this.#whereKnown(request, target, () => redis.bounded(() => store.recall(submission)));
    if (answer === undefined) throw refusal;
    if (answer.kind !== 'accepted') throw this.#refusal(answer, request, target);
    return { execution: answer.execution, target, position: answer.position, duplicate: true };
  }

  /** Throws ClientError `unavailable` if Redis is away: nothing was sent then. */
  async #whereKnown<T>(request: CommandRequest, target: string, look: () => Promise<T>): Promise<T> {
    try {
      return await look();
    } catch (error) {
      if (!(error instanceof RedisAwayError)) throw error;
      const text = whatIsKnown(new RedisAwayError(false, error.reason), request, target);
      throw new ClientError('unavailable', `${error.message}. ${text}`, { cause: error });
    }
  }

  #refusal(answer: Exclude<SubmitAnswer, { kind: 'accepted' }>, request: CommandRequest, target: string): ClientError {
    switch (answer.kind) {
      case 'conflict':
        return new ClientError(
          'id_reused',
          `The id ${shown(request.clientId ?? '')} was used for another command on ${shown(target)} (execution ${answer.execution}). ` +
            'Send the very same command again to learn of its execution, or take a new id.',
        );
      case 'queue-full':
        return new ClientError(
          'queue_full',
          `${shown(target)} has ${answer.length} commands waiting, and at most ${this.#o.queueLengthMax} are allowed ` +
            '(--queue-length-max). Wait for some to end, or kill one.',
        );
      default:
        return new ClientError(
          'too_many_pending',
          `${answer.targets} targets beside ${shown(target)} have commands waiting, as many as are allowed (--pending-targets-max). ` +
            'Try again later; more runners, or a higher --concurrency, work them off faster.',
        );
    }
  }

  /** Wakes a runner. The command is accepted already, so nobody waits for this and a failure changes nothing. */
  #announce(target: string, execution: string): void {
    this.#o.drain.add(target).catch((error: unknown) => {
      this.#unannounced.inc();
      this.#o.logger.warn(
        { err: error, target, execution },
        'a drain job could not be added; a runner will sweep the command up',
      );
    });
  }

  async #kill({ target: given, execution, subject }: KillRequest): Promise<Killed> {
    const { store, redis } = this.#o;
    let target = normaliseTarget(given);
    const ask = (): Promise<KillAnswer> => redis.bounded(() => store.kill(target, execution, subject));
    let answer: KillAnswer;
    try {
      answer = await ask();
      const other = answer.kind === 'none' ? await this.#targetOfNode(target) : undefined;
      if (other !== undefined) {
        target = other;
        answer = await ask();
      }
    } catch (error) {
      if (!(error instanceof RedisAwayError)) throw error;
      const known = error.wasSent
        ? 'The kill may have been taken or not; it can be repeated without harm.'
        : 'Nothing was killed.';
      throw new ClientError('unavailable', `${error.message}. ${known}`, { cause: error });
    }
    switch (answer.kind) {
      case 'running':
        this.#tellRunners({ v: 1, execution: answer.execution, target });
        return { execution: answer.execution, target, state: 'killing' };
      case 'cancelled':
        return { execution: answer.execution, target, state: 'cancelled' };
      case 'ended':
        throw new ClientError(
          'already_ended',
          `Execution ${answer.execution} on ${shown(target)} has ended: there is nothing to kill.`,
        );
      default:
        throw execution === undefined
          ? new ClientError('nothing_running', `Nothing is running or waiting on ${shown(target)}.`)
          : new ClientError(
              'not_found',
              `There is no execution ${shown(execution)} on ${shown(target)}. See GET /api/v1/executions.`,
            );
    }
  }

  /** Where the commands of a node are that was called by another of its names; undefined if this is no such name. */
  async #targetOfNode(name: string): Promise<string | undefined> {
    const node = await this.#o.nodes?.byTarget(name);
    return node === undefined || node.target === name ? undefined : node.target;
  }

  #tellRunners(notice: KillNotice): void {
    this.#o.connection.spublish(this.#o.keys.killChannel(), JSON.stringify(notice)).catch((error: unknown) => {
      this.#unannounced.inc();
      this.#o.logger.warn(
        { err: error, ...notice },
        'runners could not be told of a kill; the runner finds it when it renews its lease',
      );
    });
  }

  async #counted<T>(counter: Counter<'result'>, work: () => Promise<T>, resultOf: (value: T) => string): Promise<T> {
    try {
      const value = await work();
      counter.inc({ result: resultOf(value) });
      return value;
    } catch (error) {
      const code: ErrorCode = error instanceof ClientError ? error.code : 'internal';
      counter.inc({ result: code });
      throw error;
    }
  }
}

/** The target meant by what a client sent. Throws ClientError `bad_message` for what is no target. */
export function normaliseTarget(given: string | null | undefined): string {
  if (given === undefined || given === null || given === '') return DEFAULT_TARGET;
  const parsed = targetSchema.safeParse(given);
  if (parsed.success) return parsed.data;
  const why = parsed.error.issues[0]?.message ?? 'it is not allowed';
  throw new ClientError('bad_message', `Expected the name of a target, got ${shown(given)}: ${why}.`);
}
