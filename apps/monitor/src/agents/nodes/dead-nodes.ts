/**
 * Ends the machines of dead nodes, once for each death. The command is an execution like any other, under a token made of
 * node and death, so whoever leads next and gives it again gives the same one; and that it was given is noted for longer
 * than a dead node is remembered, since tokens may be forgotten earlier.
 */
import { createHash } from 'node:crypto';
import type { Clock, Logger } from '@carrierarr/platform';
import { type Keys, SYSTEM_SUBJECTS } from '@carrierarr/protocol';
import {
  DeposedError,
  type DrainQueue,
  type FencedSubmitAnswer,
  type RedisConnection,
  type Submission,
} from '@carrierarr/store';
import { FORGET_MS, type Death } from './plan.js';
import type { NodesMetrics } from './metrics.js';

/** How long it is noted that a death was dealt with, ms. */
const NOTED_MS = 3 * FORGET_MS;
/** Between two tries for a node whose command was not taken, ms. */
const AGAIN_MS = 10_000;

export interface DeadNodesOptions {
  connection: Pick<RedisConnection, 'get' | 'set'>;
  keys: Keys;
  commands: { submit(submission: Submission): Promise<FencedSubmitAnswer> };
  drain: Pick<DrainQueue, 'add'>;
  fence: number;
  monitor: string;
  clock: Pick<Clock, 'monotonicMs'>;
  logger: Pick<Logger, 'debug' | 'warn'>;
  metrics: NodesMetrics;
  /** It was given. */
  onEnded: (death: Death, verb: string, execution: string) => Promise<void>;
}

export class DeadNodes {
  readonly #o: DeadNodesOptions;
  /** Deaths that are dealt with, as far as this leader knows, by key of the node. */
  readonly #done = new Map<string, number>();
  #notBeforeMs = Number.NEGATIVE_INFINITY;

  constructor(options: DeadNodesOptions) {
    this.#o = options;
  }

  /** Gives the commands that have not been given yet. Rejects if Redis does, and with DeposedError. */
  async end(deaths: readonly Death[]): Promise<void> {
    const { clock } = this.#o;
    const open = deaths.filter(({ node, seenMs }) => this.#done.get(node.key) !== seenMs);
    if (open.length === 0 || clock.monotonicMs() < this.#notBeforeMs) return;
    for (const death of open) {
      const isDone = (await this.#isNoted(death)) || (await this.#give(death));
      if (isDone) this.#done.set(death.node.key, death.seenMs);
      else this.#notBeforeMs = clock.monotonicMs() + AGAIN_MS;
    }
    const dead = new Set(deaths.map(({ node }) => node.key));
    for (const key of this.#done.keys()) if (!dead.has(key)) this.#done.delete(key);
  }

  async #isNoted({ node, seenMs }: Death): Promise<boolean> {
    const { connection, keys } = this.#o;
    return (await connection.get(keys.nodeEnded(node.key))) === String(seenMs);
  }

  async #give(death: Death): Promise<boolean> {
    const { commands, connection, keys, fence, monitor, drain, logger, metrics, onEnded } = this.#o;
    const { node, target, isStreaming, seenMs } = death;
    const verb = isStreaming ? 'shutdown' : 'terminate';
    const answer = await commands.submit({
      ...{ target, command: verb, args: [], subject: SYSTEM_SUBJECTS.monitor, address: '', gateway: monitor },
      ...{ clientId: tokenOf(node.key, seenMs), idempotent: false, leaderFence: fence },
      ...(isStreaming && { executor: 'agent' as const, node: node.key }),
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
    await connection.set(keys.nodeEnded(node.key), String(seenMs), 'PX', NOTED_MS);
    if (!isRepeated) {
      logger.warn({ node: node.name, target, verb, execution }, 'a dead node is ended');
      await onEnded(death, verb, execution);
    }
    return true;
  }
}

/** The same for one death of a node. */
function tokenOf(key: string, seenMs: number): string {
  return `cr:dead:${createHash('sha256').update(key).digest('hex').slice(0, 32)}:${seenMs}`;
}
