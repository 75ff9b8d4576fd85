/** `POST /api/v1/command`: commands for agents by the type that agents know, to one node or to all that have a stream. */
import { randomUUID } from 'node:crypto';
import {
  AGENT_VERBS,
  agentCommandOf,
  argsSchema,
  ClientError,
  type NodeCommandBody,
  type NodeCommandSent,
  verbOfType,
  wordsOf,
} from '@carrierarr/protocol';
import type { Accepted, Commands } from '../commands.js';
import { fit } from '../http/input.js';
import { shown } from '../problem.js';
import type { NodeView, SeenNode } from './node-view.js';

/** Everybody that has a stream. */
const EVERYBODY = '*';
/** Submitted at once: the rest of the gateway has to get a word in. */
const AT_ONCE = 50;

export interface NodeCommandsOptions {
  commands: Pick<Commands, 'submit'>;
  nodes: NodeView;
}

interface Asked {
  body: NodeCommandBody;
  subject: string;
  address: string;
}

export class NodeCommands {
  readonly #o: NodeCommandsOptions;

  constructor(options: NodeCommandsOptions) {
    this.#o = options;
  }

  /** Throws ClientError: `bad_command`, `node_not_connected`, and whatever a command can be refused for. */
  async send(asked: Asked): Promise<NodeCommandSent> {
    const { node_id: name } = asked.body;
    const command = commandOf(asked.body);
    if (name === EVERYBODY) return this.#broadcast(command, asked);
    const node = await this.#o.nodes.byName(name);
    if (node === undefined) {
      throw new ClientError(
        'node_not_connected',
        `There is no node ${shown(name)}, so nothing was sent. See GET /api/v1/nodes.`,
      );
    }
    const { execution, target } = await this.#submit(node, command, asked);
    return { command_id: execution, sent: true, target };
  }

  async #broadcast(command: NodeCommand, asked: Asked): Promise<NodeCommandSent> {
    const id = `broadcast-${randomUUID()}`;
    const connected = (await this.#o.nodes.nodes()).filter(({ isStreaming }) => isStreaming);
    const sent: Accepted[] = [];
    const failed: { node_id: string; error: string }[] = [];
    let firstError: unknown;
    for (let i = 0; i < connected.length; i += AT_ONCE) {
      const some = connected.slice(i, i + AT_ONCE);
      const answers = await Promise.allSettled(some.map((node) => this.#submit(node, command, asked, id)));
      for (const [at, answer] of answers.entries()) {
        if (answer.status === 'fulfilled') sent.push(answer.value);
        else if (answer.reason instanceof ClientError) {
          firstError ??= answer.reason;
          failed.push({ node_id: (some[at] as SeenNode).record.name, error: answer.reason.message });
        } else throw answer.reason;
      }
    }
    if (sent.length === 0 && firstError !== undefined) throw firstError;
    return {
      ...{ command_id: id, sent_to: sent.length },
      executions: sent.map(({ execution, target }) => ({ execution_id: execution, target })),
      ...(failed.length > 0 && { failed }),
    };
  }

  #submit(node: SeenNode, command: NodeCommand, { subject, address }: Asked, clientId?: string): Promise<Accepted> {
    return this.#o.commands.submit({
      ...{ target: node.target, node, ...command, subject, address },
      ...(clientId !== undefined && { clientId }),
    });
  }
}

interface NodeCommand {
  command: string;
  args: string[];
  timeoutSeconds?: number;
}

/** The command as all commands are. Throws ClientError `bad_command` or `bad_message`. */
function commandOf({ type, args, timeout }: NodeCommandBody): NodeCommand {
  const verb = verbOfType(type.replace(/^COMMAND_TYPE_/, ''));
  if (verb === undefined) {
    const types = Object.values(AGENT_VERBS).map((known) => known.type);
    throw new ClientError(
      'bad_command',
      `Expected \`type\` to be one of ${types.join(', ')}, got ${shown(type)}. Nothing was sent.`,
    );
  }
  const words = fit(argsSchema, wordsOf(verb, args ?? {}), '`args`');
  const { about }: { type: string; about?: string } = AGENT_VERBS[verb];
  // Without it another argument would be taken for it.
  const isMissing = about !== undefined && (args?.[about] ?? '') === '';
  if (isMissing)
    throw new ClientError('bad_command', `Expected \`args.${about}\` with ${type}, got nothing. Nothing was sent.`);
  const answer = agentCommandOf(verb, words);
  if (!answer.ok) throw new ClientError('bad_command', `${answer.problem} Nothing was sent.`);
  return { command: verb, args: words, ...(timeout != null && timeout > 0 && { timeoutSeconds: timeout }) };
}
