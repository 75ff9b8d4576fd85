/**
 * Hears at once, over a channel, that there is news from an agent. Only a hint: whoever waits looks by itself, too, so a
 * notice that is missed costs a second.
 */
import type { Keys } from '@carrierarr/protocol';
import type { Cluster, Redis } from 'ioredis';

export interface AgentAnswersOptions {
  /** In subscriber mode; forgets its subscriptions when it reconnects. Somebody else connects it. */
  connection: Redis | Cluster;
  keys: Keys;
  onTrouble: (error: unknown) => void;
}

export class AgentAnswers {
  readonly #o: AgentAnswersOptions;
  readonly #waiting = new Map<string, () => void>();
  readonly #subscribe = () => {
    const { connection, keys, onTrouble } = this.#o;
    connection.ssubscribe(keys.agentAnswerChannel()).catch(onTrouble);
  };
  readonly #receive = (channel: string, execution: string) => {
    if (channel === this.#o.keys.agentAnswerChannel()) this.#waiting.get(execution)?.();
  };

  constructor(options: AgentAnswersOptions) {
    this.#o = options;
  }

  start(): void {
    const { connection } = this.#o;
    connection.on('smessage', this.#receive);
    connection.on('ready', this.#subscribe);
    if (connection.status === 'ready') this.#subscribe();
  }

  stop(): void {
    const { connection } = this.#o;
    connection.off('smessage', this.#receive);
    connection.off('ready', this.#subscribe);
  }

  /** Calls `onNews` when there is news of an execution. Returns what ends that. */
  listen(execution: string, onNews: () => void): () => void {
    this.#waiting.set(execution, onNews);
    return () => {
      if (this.#waiting.get(execution) === onNews) this.#waiting.delete(execution);
    };
  }
}
