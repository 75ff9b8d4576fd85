/**
 * Passes commands on to the agents whose streams this monitor holds. It looks when a channel says so, when a stream opens,
 * and every second anyhow; what is to be done is in mail-plan.ts, and whether a command may be written to a stream is
 * decided in Redis ({@link AgentMail.send}).
 */
import type { Clock, Logger, Timer } from '@carrierarr/platform';
import type { AgentRequest } from '@carrierarr/protocol';
import { CancelReason } from '@carrierarr/protocol/agent-control';
import type { AgentMail, CommandStore, Lease, OpenMail } from '@carrierarr/store';
import { status as codes } from '@grpc/grpc-js';
import type { AgentStream } from './agent-stream.js';
import type { LocalStreams } from './local-streams.js';
import { type Mail, type MailStep, planMail } from './mail-plan.js';
import { commandOf } from './messages.js';
import type { AgentMetrics } from './metrics.js';

const SWEEP_MS = 1_000;
/** Between two notes that an agent is within reach, ms. */
const CONTACT_MS = 2_000;
/** Between two looks at commands of nodes without a stream here, ms: whose runner is dead is dropped. */
const TIDY_MS = 10_000;
const PER_CALL_MAX = 500;
/**
 * When Redis has been out of reach for this long, an agent with commands is sent away, ms: the runner counts the time since
 * the last note, and the agent must not believe itself within reach meanwhile.
 */
const OUT_OF_REACH_MS = 30_000;

const REASONS = { kill: CancelReason.CANCEL_REASON_KILL, fenced: CancelReason.CANCEL_REASON_FENCED };

export interface MailCarrierOptions {
  mail: AgentMail;
  store: Pick<CommandStore, 'lease'>;
  streams: LocalStreams;
  clock: Clock;
  logger: Logger;
  metrics: AgentMetrics;
}

/** The command of an open mail, as far as it can be read. */
interface Known {
  node: string;
  request: AgentRequest | undefined;
}

class StreamState {
  readonly sentMs = new Map<string, number>();
  readonly running = new Map<string, { fence: number; round: number }>();
  readonly cancelled = new Map<string, { reason: 'kill' | 'fenced'; ms: number }>();
  /** Of the last command that was sent: that of the next one, unless somebody gives the worker another meanwhile. */
  target: string | undefined;
  constructor(readonly streamsCommands: boolean) {}

  forget(execution: string): void {
    this.sentMs.delete(execution);
    this.running.delete(execution);
    this.cancelled.delete(execution);
  }
}

export class MailCarrier {
  readonly #o: MailCarrierOptions;
  readonly #known = new Map<string, Known>();
  readonly #states = new Map<AgentStream, StreamState>();
  /** Whose agents run something: a few of thousands. */
  readonly #busy = new Set<AgentStream>();
  #timer: Timer | undefined;
  #round = 0;
  #sweeping: Promise<void> | undefined;
  #tidiedMs = -Infinity;
  #contactMs = -Infinity;
  #reachedMs = 0;
  #localOpen: string[] = [];

  constructor(options: MailCarrierOptions) {
    this.#o = options;
  }

  /** Commands under way on agents of this monitor. */
  get localOpen(): number {
    return this.#localOpen.length;
  }

  start(): void {
    this.#reachedMs = this.#o.clock.monotonicMs();
    this.#timer = this.#o.clock.setInterval(() => void this.sweep(), SWEEP_MS);
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** A node has a stream. `running`: what its agent says it runs. */
  opened(stream: AgentStream, running: readonly string[]): void {
    const state = new StreamState(stream.identity?.streamsCommands ?? false);
    for (const execution of running) state.running.set(execution, { fence: 0, round: this.#round });
    this.#states.set(stream, state);
    if (running.length > 0) this.#busy.add(stream);
    void this.sweep();
  }

  closed(stream: AgentStream): void {
    this.#states.delete(stream);
    this.#busy.delete(stream);
  }

  /** There is news of a mail. */
  async woken(execution: string, node: string): Promise<void> {
    const stream = this.#o.streams.find(node);
    if (stream === undefined) return;
    const round = ++this.#round;
    const state = this.#states.get(stream);
    try {
      if (state !== undefined && this.#isNew(execution, stream, state))
        return await this.#sendAtOnce(stream, state, { execution, node });
      const [mail] = await this.#read([execution]);
      await this.#serve(
        stream,
        mail === undefined ? [] : [mail],
        round,
        (id) => id === execution && mail === undefined,
      );
    } catch (error) {
      this.#o.logger.debug({ err: error, execution }, 'a command could not be looked at; the next sweep will');
    }
  }

  /** Of a command that an agent may get once only, everything is known before it is sent. */
  #isNew(execution: string, stream: AgentStream, { streamsCommands, sentMs, running }: StreamState): boolean {
    if (!streamsCommands) return false;
    if (this.#known.has(execution) || sentMs.has(execution) || running.has(execution)) return false;
    return !stream.isClosed && !stream.isBackedUp;
  }

  /** The agent has a command. */
  async accepted(stream: AgentStream, execution: string, fence: number): Promise<void> {
    const known = await this.requestOf(stream, execution);
    if (known === undefined || known.fence !== fence) return;
    const state = this.#states.get(stream);
    if (state !== undefined) {
      state.running.set(execution, { fence, round: this.#round });
      this.#busy.add(stream);
    }
    await this.#o.mail.accepted(execution, fence);
  }

  /** A command has ended. */
  ended(stream: AgentStream, execution: string): void {
    const state = this.#states.get(stream);
    state?.forget(execution);
    if (state?.running.size === 0) this.#busy.delete(stream);
    this.#known.delete(execution);
  }

  /** The request of an execution, if it is for the node of this stream and nobody has given it up. */
  async requestOf(stream: AgentStream, execution: string): Promise<AgentRequest | undefined> {
    const known = this.#known.get(execution) ?? (await this.#look(execution));
    if (known === undefined) return undefined;
    if (this.#o.streams.isOf(stream, known.node)) return known.request;
    this.#o.metrics.refused.inc({ reason: 'foreign' });
    return undefined;
  }

  /** Looks at everything. Calls at the same time share one look. Never rejects. */
  async sweep(): Promise<void> {
    this.#sweeping ??= this.#sweep()
      .catch((error: unknown) => this.#o.logger.debug({ err: error }, 'commands of agents could not be looked at'))
      .finally(() => {
        this.#sweeping = undefined;
      });
    return this.#sweeping;
  }

  async #sweep(): Promise<void> {
    const { mail, streams, clock } = this.#o;
    this.#sendAwayIfOutOfReach();
    const round = ++this.#round;
    const open = new Set(await mail.openExecutions());
    for (const execution of this.#known.keys()) if (!open.has(execution)) this.#known.delete(execution);
    const nowMs = clock.monotonicMs();
    const isTidying = nowMs - this.#tidiedMs >= TIDY_MS;
    if (isTidying) this.#tidiedMs = nowMs;
    const wanted = [...open].filter((execution) => {
      const known = this.#known.get(execution);
      return isTidying || known === undefined || streams.find(known.node) !== undefined;
    });
    const ofStream = new Map<AgentStream, Mail[]>([...this.#busy].map((stream) => [stream, []]));
    const local: string[] = [];
    for (let i = 0; i < wanted.length; i += PER_CALL_MAX) {
      for (const found of await this.#read(wanted.slice(i, i + PER_CALL_MAX))) {
        const stream = streams.find(found.node);
        if (stream === undefined || !this.#states.has(stream)) {
          if (!found.hasLease) await this.#drop(found.execution, found.fence);
          continue;
        }
        ofStream.set(stream, [...(ofStream.get(stream) ?? []), found]);
        local.push(found.execution);
      }
    }
    this.#localOpen = local;
    await Promise.all(
      [...ofStream].map(([stream, mails]) => this.#serve(stream, mails, round, (execution) => !open.has(execution))),
    );
    if (clock.monotonicMs() - this.#contactMs < CONTACT_MS) return;
    this.#contactMs = clock.monotonicMs();
    const reached = local.filter((execution) => streams.find(this.#known.get(execution)?.node ?? '') !== undefined);
    for (let i = 0; i < reached.length; i += PER_CALL_MAX) await mail.contact(reached.slice(i, i + PER_CALL_MAX));
    this.#reachedMs = this.#contactMs;
  }

  /** Mail that can be read, with who has its target. */
  async #read(executions: readonly string[]): Promise<(Mail & { node: string })[]> {
    const { mail, store, logger } = this.#o;
    const found = await mail.read(executions);
    const mails = await Promise.all(
      found.map(async ({ execution, node, request, state, isKilled }: OpenMail) => {
        this.#known.set(execution, { node, request });
        if (request === undefined) {
          logger.warn({ execution, node }, 'this version cannot read the command: upgrade it');
          return undefined;
        }
        // After the mail: its lease was there first.
        const hasLease = isHeld(await store.lease(request.target), request);
        return { execution, node, fence: request.fence, state, isKilled, hasLease };
      }),
    );
    return mails.filter((each) => each !== undefined);
  }

  async #look(execution: string): Promise<Known | undefined> {
    const [found] = await this.#o.mail.read([execution]);
    if (found !== undefined) this.#known.set(execution, { node: found.node, request: found.request });
    return found;
  }

  async #serve(
    stream: AgentStream,
    mails: readonly Mail[],
    round: number,
    gone: (execution: string) => boolean,
  ): Promise<void> {
    const state = this.#states.get(stream);
    if (state === undefined || stream.isClosed || stream.isBackedUp) return;
    const nowMs = this.#o.clock.monotonicMs();
    // Marked before anything is waited for: another look at the same time must not do it, too.
    const steps = planMail(mails, state, { round, nowMs, gone });
    for (const step of steps) {
      if (step.kind === 'send') state.sentMs.set(step.execution, nowMs);
      if (step.kind === 'cancel') state.cancelled.set(step.execution, { reason: step.reason, ms: nowMs });
    }
    await Promise.all(steps.map((step) => this.#act(stream, state, step)));
  }

  async #act(stream: AgentStream, state: StreamState, step: MailStep): Promise<void> {
    const { metrics, logger } = this.#o;
    const { execution } = step;
    switch (step.kind) {
      case 'send':
        return this.#send(stream, state, execution);
      case 'drop':
        return this.#drop(execution, step.fence);
      case 'cancel':
        metrics.cancels.inc({ reason: step.reason });
        logger.info(
          { execution, node: stream.identity?.key, reason: step.reason },
          'telling an agent to end a command',
        );
        stream.send({
          $case: 'cancel',
          value: { commandId: execution, fence: step.fence, reason: REASONS[step.reason] },
        });
    }
  }

  /**
   * A mail that nobody here has looked at is nearly always a new command. Each look at Redis is time that it takes, so who has
   * its target is asked at the same time: the lease was there before the mail, and the mail before its news.
   */
  async #sendAtOnce(
    stream: AgentStream,
    state: StreamState,
    { execution, node }: { execution: string; node: string },
  ): Promise<void> {
    const { store, clock } = this.#o;
    const likely = state.target ?? stream.identity?.name ?? '';
    state.sentMs.set(execution, clock.monotonicMs());
    const sent = this.#send(stream, state, execution, async (request) => {
      this.#known.set(execution, { node, request });
      return isHeld(await (request.target === likely ? lease : store.lease(request.target)), request);
    });
    const lease = store.lease(likely);
    // Whether it matters is not known before the other answer.
    lease.catch(() => undefined);
    await sent;
  }

  /** `isWanted`: is asked once the request is known; if its execution has lost its target the command is dropped. */
  async #send(
    stream: AgentStream,
    state: StreamState,
    execution: string,
    isWanted?: (request: AgentRequest) => Promise<boolean>,
  ): Promise<void> {
    const { mail, metrics, logger } = this.#o;
    const { identity } = stream;
    if (identity === undefined) return;
    let answer;
    let isGivenUp = false;
    try {
      answer = await mail.send(execution, identity.fence, state.streamsCommands);
      if (answer.kind === 'send' && isWanted !== undefined) isGivenUp = !(await isWanted(answer.request));
    } catch (error) {
      // Redis knows whether it counts as sent.
      state.sentMs.delete(execution);
      throw error;
    }
    // Nothing is under way there by this.
    if (answer.kind !== 'send' || isGivenUp) state.sentMs.delete(execution);
    if (answer.kind === 'never-sent') return this.#refuse(execution, 'cancelled', 'killed before it was sent');
    if (answer.kind !== 'send') return;
    const { request } = answer;
    if (isGivenUp) return this.#drop(execution, request.fence);
    state.target = request.target;
    const written = commandOf(request, answer.isFirst);
    if ('problem' in written) return this.#refuse(execution, 'refused', written.problem);
    if (!stream.send({ $case: 'command', value: written.command })) {
      logger.warn({ execution, node: identity.key }, 'a command could not be written: the stream has just ended');
      return;
    }
    metrics.commandsSent.inc();
    logger.info({ execution, node: identity.key, type: request.type }, 'command sent to an agent');
  }

  async #refuse(execution: string, end: 'cancelled' | 'refused', error: string): Promise<void> {
    const { request } = this.#known.get(execution) ?? (await this.#look(execution)) ?? {};
    const none = { exit_code: -1, sequence: 0, lines: 0, truncated_lines: 0 };
    await this.#o.mail.answer(execution, request?.fence, { end, error, ...none });
  }

  async #drop(execution: string, fence: number): Promise<void> {
    // Its runner may have taken it away since it was read, having seen it end.
    if (!(await this.#o.mail.remove(execution, fence))) return;
    this.#o.metrics.mailDropped.inc();
    this.#o.logger.warn({ execution }, 'nobody waited for this command of an agent any more: dropped it');
  }

  #sendAwayIfOutOfReach(): void {
    const silentMs = this.#o.clock.monotonicMs() - this.#reachedMs;
    if (silentMs < OUT_OF_REACH_MS) return;
    const seconds = Math.round(silentMs / 1000);
    for (const [stream, { sentMs, running }] of this.#states) {
      if (sentMs.size + running.size === 0) continue;
      stream.close(codes.UNAVAILABLE, `This monitor has not reached Redis for ${seconds} s. Connect to another.`);
    }
  }
}

/** True if the execution of a request has its target. */
function isHeld(lease: Lease | undefined, { execution, fence }: AgentRequest): boolean {
  return lease?.execution === execution && lease.fence === fence && lease.state === 'running';
}
