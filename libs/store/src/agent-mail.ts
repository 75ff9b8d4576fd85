/**
 * Commands on their way to agents, and what became of them. A runner puts, looks, kills and removes; the monitor that
 * holds the node's stream sends and answers. See {@link AgentRequest}.
 *
 * That a command is sent at most once to an agent that cannot tell a repetition is decided by {@link AgentMail.send}, in
 * Redis, before it is written to the stream.
 */
import type { AgentRequest, AgentResult, Keys } from '@carrierarr/protocol';
import { agentRequestSchema, agentResultSchema } from '@carrierarr/protocol';
import { callScript, type RedisConnection } from './connection.js';

/** A mail that nobody removes is forgotten after this, ms: longer than any command may run. */
const MAIL_LIFE_MS = 40 * 24 * 3_600_000;

export type MailLook =
  | {
      kind: 'under-way';
      state: 'waiting' | 'sent' | 'accepted';
      /** Since a monitor last had the agent within reach; before it is sent, since it was put. */
      outOfTouchMs: number;
      /** It was sent to an agent that takes a command once however often it comes, and can be told to end it. */
      isCancellable: boolean;
    }
  | { kind: 'ended'; result: AgentResult }
  /** Redis has forgotten it. */
  | { kind: 'gone' };

/** One mail, as a monitor sees it. */
export interface OpenMail {
  execution: string;
  node: string;
  /** Undefined if it cannot be read: a newer runner wrote it. */
  request: AgentRequest | undefined;
  state: 'waiting' | 'sent' | 'accepted';
  isKilled: boolean;
}

export type MailSendAnswer =
  /** `isFirst`: it was never sent before. */
  | { kind: 'send'; request: AgentRequest; isKilled: boolean; isFirst: boolean }
  /** Its end was asked for before it was ever sent. From now on nobody sends it. */
  | { kind: 'never-sent' }
  /** It was sent before, to an agent that would run it twice. */
  | { kind: 'already' }
  /** Nobody waits for it any more, or it has ended. */
  | { kind: 'gone' };

export interface AgentMailOptions {
  connection: RedisConnection;
  keys: Keys;
  /** Most commands under way on all agents together. */
  openMax?: number;
}

const OPEN_MAX = 50_000;

export class AgentMail {
  readonly #connection: RedisConnection;
  readonly #keys: Keys;
  readonly #openMax: number;

  constructor({ connection, keys, openMax = OPEN_MAX }: AgentMailOptions) {
    this.#connection = connection;
    this.#keys = keys;
    this.#openMax = openMax;
  }

  #call(name: Parameters<typeof callScript>[1], execution: string, own: readonly (string | number)[]) {
    const keys = this.#keys;
    return callScript(this.#connection, name, [keys.agentMailOpen(), keys.agentMail(execution), ...own]);
  }

  /**
   * Leaves a command for a node's agent. May be repeated when no answer came. `full`: as many are under way as are
   * allowed.
   */
  async put(node: string, request: AgentRequest): Promise<{ kind: 'ok' } | { kind: 'full'; open: number }> {
    const { execution, fence } = request;
    const [what, open] = await this.#call('carrierarrMailPut', execution, [
      ...[execution, node, fence, JSON.stringify(request), MAIL_LIFE_MS, this.#openMax],
      this.#keys.agentMailChannel(),
    ]);
    return what === 'full' ? { kind: 'full', open: Number(open) } : { kind: 'ok' };
  }

  /** How far it got. */
  async look(execution: string): Promise<MailLook> {
    const [what, state, outOfTouchMs, result, repeatable] = await this.#call('carrierarrMailLook', execution, []);
    if (what === 'gone') return { kind: 'gone' };
    if (result !== '') return { kind: 'ended', result: agentResultSchema.parse(JSON.parse(String(result))) };
    const isCancellable = repeatable === '1';
    return { kind: 'under-way', state: state as 'waiting', outOfTouchMs: Number(outOfTouchMs), isCancellable };
  }

  /** Takes a command back that was never sent. `sent`: it is too late for that. */
  async withdraw(execution: string, fence: number): Promise<'withdrawn' | 'sent' | 'gone'> {
    return (await this.#call('carrierarrMailWithdraw', execution, [execution, fence]))[0] as 'withdrawn';
  }

  /** Asks for its end. */
  async kill(execution: string): Promise<void> {
    await this.#call('carrierarrMailKill', execution, [execution, this.#keys.agentMailChannel()]);
  }

  /** Nobody waits for it any more: an agent that still runs it is told to end it. False: it was gone already. */
  async remove(execution: string, fence: number): Promise<boolean> {
    const own = [execution, fence, this.#keys.agentMailChannel()];
    return (await this.#call('carrierarrMailRemove', execution, own))[0] === 'removed';
  }

  /** To be called before a command is written to a stream. `mayRepeat`: the agent runs it once, however often it comes. */
  async send(execution: string, streamFence: number, mayRepeat: boolean): Promise<MailSendAnswer> {
    const [what, request, kill, first] = await this.#call('carrierarrMailSend', execution, [
      mayRepeat ? '1' : '',
      streamFence,
    ]);
    if (what !== 'send') return { kind: what as 'never-sent' | 'already' | 'gone' };
    const parsed = agentRequestSchema.parse(JSON.parse(String(request)));
    return { kind: 'send', request: parsed, isKilled: kill === '1', isFirst: first === '1' };
  }

  /** The agent has it. False: nobody waits for it any more. */
  async accepted(execution: string, fence: number): Promise<boolean> {
    return (await this.#call('carrierarrMailAccepted', execution, [fence]))[0] === 'ok';
  }

  /** The agents of these are within reach now. */
  async contact(executions: readonly string[]): Promise<void> {
    if (executions.length === 0) return;
    const keys = executions.map((execution) => this.#keys.agentMail(execution));
    await callScript(this.#connection, 'carrierarrMailContact', [keys.length, ...keys]);
  }

  /** How it ended. `fence` is left out by agents that know none. `gone`: nobody waits for it any more. */
  async answer(execution: string, fence: number | undefined, result: AgentResult): Promise<'ok' | 'repeated' | 'gone'> {
    const [what] = await this.#call('carrierarrMailResult', execution, [
      ...[execution, fence ?? '', JSON.stringify(result)],
      this.#keys.agentAnswerChannel(),
    ]);
    return what as 'ok' | 'repeated' | 'gone';
  }

  /**
   * Calls `tell` for a result that came too late, unless it was told of before: an agent says a result again when its
   * acknowledgement was lost. Rejects, and may be called again, if Redis or `tell` fails.
   */
  async tellLateOnce(execution: string, tell: () => Promise<unknown>): Promise<'told' | 'repeated'> {
    const key = this.#keys.lateResult(execution);
    if ((await this.#connection.set(key, '1', 'PX', MAIL_LIFE_MS, 'NX')) === null) return 'repeated';
    try {
      await tell();
    } catch (error) {
      await this.#connection.del(key);
      throw error;
    }
    return 'told';
  }

  /** Ids of the executions that have mail, or had some a moment ago. */
  async openExecutions(): Promise<string[]> {
    return this.#connection.smembers(this.#keys.agentMailOpen());
  }

  /** The fence of a mail; 0 if there is none. */
  async fenceOf(execution: string): Promise<number> {
    return Number((await this.#connection.hget(this.#keys.agentMail(execution), 'fence')) ?? 0);
  }

  /** All that is under way. */
  async open(): Promise<OpenMail[]> {
    return this.read(await this.openExecutions());
  }

  /** Those of these that are under way: not removed, and not ended. */
  async read(executions: readonly string[]): Promise<OpenMail[]> {
    const mails = await Promise.all(
      executions.map((execution) =>
        this.#connection.hmget(this.#keys.agentMail(execution), 'node', 'request', 'state', 'kill', 'result'),
      ),
    );
    return mails.flatMap(([node, request, state, kill, result], i) =>
      node == null || result != null
        ? []
        : [
            {
              execution: executions[i] as string,
              node,
              request: request == null ? undefined : agentRequestSchema.safeParse(JSON.parse(request)).data,
              state: state as OpenMail['state'],
              isKilled: kill === '1',
            },
          ],
    );
  }
}
