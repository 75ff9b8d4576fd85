/**
 * Hears at once, over a channel, that there is news from an agent. Only a hint: whoever waits looks by itself, too, so a
 * notice that is missed costs a second.
 */
import type { Keys } from '@carrierarr/protocol';
import { HintChannels, type RedisConnection } from '@carrierarr/store';

export interface AgentAnswersOptions {
  /** In subscriber mode; forgets its subscriptions when it reconnects. Somebody else connects it. */
  connection: RedisConnection;
  keys: Keys;
  onTrouble: (error: unknown) => void;
}

export class AgentAnswers {
  readonly #hints: HintChannels;
  readonly #waiting = new Map<string, () => void>();

  constructor({ connection, keys, onTrouble }: AgentAnswersOptions) {
    this.#hints = new HintChannels({
      ...{ connection, channels: [keys.agentAnswerChannel()], onTrouble },
      onMessage: (_channel, execution) => this.#waiting.get(execution)?.(),
    });
  }

  start(): void {
    this.#hints.start();
  }

  stop(): void {
    this.#hints.stop();
  }

  /** Calls `onNews` when there is news of an execution. Returns what ends that. */
  listen(execution: string, onNews: () => void): () => void {
    this.#waiting.set(execution, onNews);
    return () => {
      if (this.#waiting.get(execution) === onNews) this.#waiting.delete(execution);
    };
  }
}
