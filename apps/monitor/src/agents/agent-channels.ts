/**
 * Hears at once of commands for agents, and of nodes that have opened a stream elsewhere. Only hints: the next sweep finds
 * the one, and the next message of the stream the other.
 */
import type { Keys } from '@carrierarr/protocol';
import { HintChannels, type RedisConnection } from '@carrierarr/store';

export interface AgentChannelsOptions {
  /** In subscriber mode; forgets its subscriptions when it reconnects. */
  connection: RedisConnection;
  keys: Keys;
  onMail: (execution: string, node: string) => void;
  onStream: (node: string, fence: number) => void;
  /** Subscribing failed; the next connection tries again. */
  onTrouble: (error: unknown) => void;
}

export class AgentChannels {
  readonly #hints: HintChannels;

  constructor({ connection, keys, onMail, onStream, onTrouble }: AgentChannelsOptions) {
    const [mail, streams] = [keys.agentMailChannel(), keys.streamsChannel()];
    this.#hints = new HintChannels({
      ...{ connection, channels: [mail, streams], onTrouble },
      onMessage: (channel, message) => {
        const space = message.indexOf(' ');
        const [first, node] = [message.slice(0, space), message.slice(space + 1)];
        if (channel === mail) onMail(first, node);
        else onStream(node, Number(first));
      },
    });
  }

  start(): void {
    this.#hints.start();
  }

  stop(): void {
    this.#hints.stop();
  }
}
