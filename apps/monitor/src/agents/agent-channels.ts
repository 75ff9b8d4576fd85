/**
 * Hears at once of commands for agents, and of nodes that have opened a stream elsewhere. Only hints: the next sweep finds
 * the one, and the next message of the stream the other.
 */
import type { Keys } from '@carrierarr/protocol';
import type { RedisConnection } from '@carrierarr/store';

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
  readonly #o: AgentChannelsOptions;
  readonly #subscribe = () => {
    const { connection, keys, onTrouble } = this.#o;
    // Both are in one slot.
    connection.ssubscribe(keys.agentMailChannel(), keys.streamsChannel()).catch(onTrouble);
  };
  readonly #receive = (channel: string, message: string) => {
    const { keys, onMail, onStream } = this.#o;
    const space = message.indexOf(' ');
    const [first, node] = [message.slice(0, space), message.slice(space + 1)];
    if (channel === keys.agentMailChannel()) onMail(first, node);
    else if (channel === keys.streamsChannel()) onStream(node, Number(first));
  };

  constructor(options: AgentChannelsOptions) {
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
}
