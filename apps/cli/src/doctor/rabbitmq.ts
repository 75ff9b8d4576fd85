/**
 * Whether the broker is reached and has what agents publish into. Nothing is made: exchanges and queues are declared
 * passively. AMQP shows no bindings; monitors make them at each start.
 */
import { AGENT_EXCHANGES } from '@carrierarr/protocol';
import { connectUrl } from '@carrierarr/monitor';
import type { Channel, ChannelModel } from 'amqplib';
import type { Check, Means } from './check.js';
import { fail, type Finding, ok, warn } from './finding.js';

/** Agents say something every 30 s each; more than this has not been read for long. */
const BACKLOG = 1_000;
const START_MONITOR = 'Start a monitor with this --rabbitmq-url: it declares what is missing.';

export type Declared =
  | { readonly kind: 'there'; readonly messages?: number; readonly consumers?: number }
  | { readonly kind: 'missing' | 'forbidden' }
  | { readonly kind: 'other'; readonly text: string };

export function judgeDeclared(what: string, declared: Declared): Finding {
  switch (declared.kind) {
    case 'missing':
      return fail(
        `The ${what} does not exist: what agents publish into it is lost, and their channels are closed.`,
        START_MONITOR,
      );
    case 'forbidden':
      return fail(
        `This user may not look at the ${what}.`,
        'Give it permissions on the virtual host: configure, write and read for `^(agents|registration|heartbeat)\\..*`.',
      );
    case 'other':
      return fail(
        `The ${what} is not what agents expect (${declared.text}).`,
        'Delete it; a monitor declares it anew.',
      );
    case 'there': {
      const { messages, consumers } = declared;
      if (consumers === 0) {
        return warn(
          `Nobody reads the ${what}; ${messages} messages wait.`,
          'Is a monitor with --rabbitmq-url running? Each of them reads, whether it leads or not.',
        );
      }
      if ((messages ?? 0) > BACKLOG) {
        return warn(
          `${messages} messages wait in the ${what}.`,
          'Its readers do not keep up: look at all monitors with --rabbitmq-url, and at Redis; or start one more.',
        );
      }
      return ok(
        consumers === undefined
          ? `The ${what} exists.`
          : `The ${what} is read by ${consumers}; ${messages} messages wait.`,
      );
    }
  }
}

export function judgeConnection(
  vhost: string,
  error: { readonly message: string; readonly code?: unknown } | undefined,
): Finding {
  if (error === undefined) return ok(`RabbitMQ lets us into the virtual host "${vhost}".`);
  if (/ACCESS[_-]REFUSED/i.test(error.message)) {
    return fail(
      'RabbitMQ refuses the user or its password.',
      'Check --rabbitmq-url (better in a file: --rabbitmq-url-file).',
    );
  }
  // What the client makes of a broker that closes the connection when the virtual host is named.
  if (/NOT[_-]ALLOWED|Expected ConnectionOpenOk/i.test(error.message)) {
    return fail(
      `RabbitMQ has no virtual host "${vhost}", or does not let this user in.`,
      `rabbitmqctl add_vhost ${vhost}; rabbitmqctl set_permissions -p ${vhost} USER '.*' '.*' '.*'`,
    );
  }
  return fail(
    `RabbitMQ cannot be reached: ${error.message || String(error.code)}.`,
    'Check host and port of --rabbitmq-url, and amqps:// for TLS.',
  );
}

/** Each on a channel of its own: the broker closes one with the first refusal. */
async function declare(model: ChannelModel, act: (channel: Channel) => Promise<Declared>): Promise<Declared> {
  const channel = await model.createChannel();
  channel.on('error', () => undefined);
  try {
    const declared = await act(channel);
    await channel.close();
    return declared;
  } catch (error) {
    const { code, message } = error as Error & { code?: unknown };
    if (code === 404) return { kind: 'missing' };
    if (code === 403) return { kind: 'forbidden' };
    return { kind: 'other', text: message };
  }
}

async function lookAtTopology(model: ChannelModel): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const exchange of Object.values(AGENT_EXCHANGES)) {
    const exists = await declare(model, async (channel) => {
      await channel.checkExchange(exchange.name);
      return { kind: 'there' };
    });
    // It is there, so that to declare it as it should be changes nothing, and tells of what it is not.
    const declared =
      exists.kind !== 'there'
        ? exists
        : await declare(model, async (channel) => {
            await channel.assertExchange(exchange.name, exchange.type, { durable: true });
            return { kind: 'there' };
          });
    // Who may look may not have to declare.
    findings.push(judgeDeclared(`exchange ${exchange.name}`, declared.kind === 'forbidden' ? exists : declared));
    if (!('queue' in exchange)) continue;
    const queue = await declare(model, async (channel) => {
      const { messageCount, consumerCount } = await channel.checkQueue(exchange.queue);
      return { kind: 'there', messages: messageCount, consumers: consumerCount };
    });
    findings.push(judgeDeclared(`queue ${exchange.queue}`, queue));
  }
  return findings;
}

async function look({ config }: Means): Promise<Finding[]> {
  const { rabbitmqUrl, rabbitmqVhost, timeout } = config;
  if (rabbitmqUrl === null) return [];
  const { connect } = await import('./amqp.js');
  let model: ChannelModel;
  try {
    model = await connect(connectUrl(rabbitmqUrl, rabbitmqVhost), { timeout });
  } catch (error) {
    return [judgeConnection(rabbitmqVhost, error as Error)];
  }
  model.on('error', () => undefined);
  try {
    return [judgeConnection(rabbitmqVhost, undefined), ...(await lookAtTopology(model))];
  } finally {
    await model.close().catch(() => undefined);
  }
}

export const rabbitmq: Check = {
  name: 'rabbitmq',
  missing: ({ config }) => (config.rabbitmqUrl === null ? 'no RabbitMQ is named (--rabbitmq-url)' : undefined),
  look,
};
