/**
 * Ends the machines of dead nodes, once for each death. The command is an execution like any other, under a token made of
 * node and death, so whoever leads next and gives it again gives the same one; and that it was given is noted for longer
 * than a dead node is remembered, since tokens may be forgotten earlier.
 *
 *   dead ─ no stream ────────────────────────────> terminate
 *        └ stream ─> shutdown ─ carried out ─────> done
 *                             └ not, still dead ─> terminate
 *
 * `terminate` is for a target, and ends all that is there: while the target has a machine that is not dead, it is not given.
 */
import { createHash } from 'node:crypto';
import { type Clock, type Logger, Seldom } from '@carrierarr/platform';
import { type Keys, SYSTEM_SUBJECTS, type WorkerRecord } from '@carrierarr/protocol';
import {
  DeposedError,
  type DrainQueue,
  type ExecutionHistory,
  type FencedSubmitAnswer,
  type RedisConnection,
  type Submission,
} from '@carrierarr/store';
import { FORGET_MS, type Death } from './plan.js';
import type { NodesMetrics } from './metrics.js';

/** How long it is noted that a death was dealt with, ms. */
const NOTED_MS = 3 * FORGET_MS;
/** Between two tries for a node whose command was not taken, or has not ended, ms. */
const AGAIN_MS = 10_000;
/** An agent with a stream that does not shut down within this is hung, ms. */
const SHUTDOWN_MS_MAX = 60_000;
/**
 * A machine may go off though nobody heard that it does. It is terminated only if it was still seen to run by a look that began so
 * long after its shutdown had ended, ms; where nobody looks at it but its agent, when so much time has passed.
 */
const OFF_MS_MAX = 90_000;

/** What was noted of a death: it is dealt with, or a shutdown was given as this execution. */
interface Noted {
  seenMs: number;
  shutdown?: string;
}

export interface DeadNodesOptions {
  connection: Pick<RedisConnection, 'get' | 'set'>;
  keys: Keys;
  commands: { submit(submission: Submission): Promise<FencedSubmitAnswer> };
  history: Pick<ExecutionHistory, 'progress'>;
  drain: Pick<DrainQueue, 'add'>;
  fence: number;
  monitor: string;
  clock: Pick<Clock, 'monotonicMs'>;
  logger: Pick<Logger, 'debug' | 'warn'>;
  metrics: NodesMetrics;
  /** When the last complete look at a machine began, epoch ms; undefined before the first. */
  lookedAtMs: (worker: WorkerRecord) => number | undefined;
  /** Whether the newest look at a machine saw it run: there may have been one since its death was found. */
  isRunning: (worker: WorkerRecord) => boolean;
  /** Machines of a target that are there, by id: `terminate` would end them all. */
  sharing: (target: string) => readonly string[];
  /** It was given. */
  onEnded: (death: Death, verb: string, execution: string) => Promise<void>;
}

export class DeadNodes {
  readonly #o: DeadNodesOptions;
  /** Deaths that are dealt with, as far as this leader knows, by key of the node. */
  readonly #done = new Map<string, number>();
  readonly #shared: Seldom;
  #notBeforeMs = Number.NEGATIVE_INFINITY;
  /** Rows of all that are dead now. */
  #dead: ReadonlySet<string> = new Set();

  constructor(options: DeadNodesOptions) {
    this.#o = options;
    this.#shared = new Seldom(options.clock, 60_000);
  }

  /** Gives the commands that have not been given yet. `nowMs`: Redis' time. Rejects if Redis does, and with DeposedError. */
  async end(deaths: readonly Death[], nowMs: number): Promise<void> {
    const { clock } = this.#o;
    const open = deaths.filter(({ node, seenMs }) => this.#done.get(node.key) !== seenMs);
    if (open.length === 0 || clock.monotonicMs() < this.#notBeforeMs) return;
    this.#dead = new Set(deaths.map(rowOf));
    for (const death of open) {
      if (await this.#dealWith(death, nowMs)) this.#done.set(death.node.key, death.seenMs);
      else this.#notBeforeMs = clock.monotonicMs() + AGAIN_MS;
    }
    const dead = new Set(deaths.map(({ node }) => node.key));
    for (const key of this.#done.keys()) if (!dead.has(key)) this.#done.delete(key);
  }

  /** True if nothing is left to be done. */
  async #dealWith(death: Death, nowMs: number): Promise<boolean> {
    const noted = await this.#noted(death);
    if (noted === undefined) return this.#give(death, death.isStreaming ? 'shutdown' : 'terminate');
    if (noted.shutdown === undefined) return true;
    const progress = await this.#o.history.progress(noted.shutdown);
    if (progress?.outcome === 'succeeded') {
      await this.#note(death);
      return true;
    }
    if (progress !== undefined && progress.ended_at === undefined) return false;
    const endedMs = progress?.ended_at === undefined ? 0 : Date.parse(progress.ended_at);
    const lookedAtMs = death.worker === undefined ? nowMs : this.#o.lookedAtMs(death.worker);
    if (lookedAtMs === undefined || lookedAtMs - endedMs < OFF_MS_MAX) return false;
    return this.#give(death, 'terminate', noted.shutdown);
  }

  /** True if a machine that is not dead would be ended with this one. */
  #isShared(death: Death): boolean {
    const { sharing, logger, metrics } = this.#o;
    const others = sharing(death.target).filter((id) => id !== rowOf(death) && !this.#dead.has(id));
    if (others.length === 0) return false;
    metrics.ended.inc({ verb: 'terminate', answer: 'shared' });
    const facts = { node: death.node.name, target: death.target, others };
    this.#shared.say((unsaid) =>
      logger.warn({ ...facts, unsaid }, 'a dead node is not terminated: its target has other machines; end it by hand'),
    );
    return true;
  }

  async #noted({ node, seenMs }: Death): Promise<Noted | undefined> {
    const { connection, keys } = this.#o;
    const [ms, shutdown] = ((await connection.get(keys.nodeEnded(node.key))) ?? '').split(' ');
    if (ms !== String(seenMs)) return undefined;
    return { seenMs, ...(shutdown !== undefined && { shutdown }) };
  }

  async #note({ node, seenMs }: Death, shutdown?: string): Promise<void> {
    const { connection, keys } = this.#o;
    const text = shutdown === undefined ? String(seenMs) : `${seenMs} ${shutdown}`;
    await connection.set(keys.nodeEnded(node.key), text, 'PX', NOTED_MS);
  }

  /** `after`: the shutdown that was not carried out. True if nothing is left to be done then. */
  async #give(death: Death, verb: 'shutdown' | 'terminate', after?: string): Promise<boolean> {
    const { commands, fence, monitor, drain, logger, metrics, onEnded } = this.#o;
    const { node, target, seenMs, worker } = death;
    // Then it is none of the dead in the next plan.
    if (worker !== undefined && !this.#o.isRunning(worker)) return false;
    if (verb === 'terminate' && this.#isShared(death)) return false;
    const answer = await commands.submit({
      ...{ target, command: verb, args: [], subject: SYSTEM_SUBJECTS.monitor, address: '', gateway: monitor },
      ...{ clientId: tokenOf(node.key, seenMs, after), idempotent: false, leaderFence: fence },
      ...(verb === 'shutdown' && { executor: 'agent' as const, node: node.key, timeoutMs: SHUTDOWN_MS_MAX }),
    });
    const isRepeated = answer.kind === 'accepted' && answer.duplicate;
    metrics.ended.inc({ verb, answer: isRepeated ? 'duplicate' : answer.kind });
    if (answer.kind === 'deposed') throw new DeposedError(fence, String(answer.fence));
    // Another verb under the same token: a predecessor found a stream where there is none now, or the other way round.
    const isGiven = answer.kind === 'accepted' || answer.kind === 'conflict';
    if (!isGiven) {
      logger.warn(
        { node: node.name, target, answer: answer.kind },
        'the end of a dead node was not taken; trying again',
      );
      return false;
    }
    const { execution } = answer;
    drain.add(target).catch((error: unknown) => logger.debug({ err: error, target }, 'a drain job could not be added'));
    const isShutdown = (answer.kind === 'accepted') === (verb === 'shutdown');
    await this.#note(death, isShutdown ? execution : undefined);
    // Of what a predecessor gave, it told.
    if (answer.kind === 'accepted' && !answer.duplicate) {
      const facts = { node: node.name, target, verb, execution, ...(after !== undefined && { shutdown: after }) };
      logger.warn(facts, after === undefined ? 'a dead node is ended' : 'a dead node that did not shut down is ended');
      await onEnded(death, verb, execution);
    }
    return !isShutdown;
  }
}

/** Id of what the status shows of it. */
function rowOf({ node, worker }: Death): string {
  return worker?.id ?? node.key;
}

/** The same for one death of a node, and for what comes after a shutdown that was not carried out. */
function tokenOf(key: string, seenMs: number, after = ''): string {
  const hash = createHash('sha256').update(key).digest('hex').slice(0, 32);
  return `cr:dead:${hash}:${seenMs}${after === '' ? '' : ':after'}`;
}
