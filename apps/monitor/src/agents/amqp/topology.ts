/**
 * Exchanges, queues and bindings that agents publish into. Agents do not declare them, so whoever reads does, at each
 * connection: what is there already as it should be is left alone.
 */
import { AGENT_EXCHANGES } from '@carrierarr/protocol';
import type { Channel, ChannelModel } from 'amqplib';

const PRECONDITION_FAILED = 406;

/** Throws an error that says what to do where something is there already and is not what agents expect. */
export async function declareTopology(model: ChannelModel): Promise<void> {
  // A channel of its own: the broker closes it with the first refusal.
  const channel = await model.createChannel();
  channel.on('error', () => undefined);
  for (const exchange of Object.values(AGENT_EXCHANGES)) {
    await declare(`exchange ${exchange.name}`, `a durable ${exchange.type} exchange`, () =>
      channel.assertExchange(exchange.name, exchange.type, { durable: true }),
    );
    if (!('queue' in exchange)) continue;
    await declare(`queue ${exchange.queue}`, 'a durable classic queue without arguments', () =>
      channel.assertQueue(exchange.queue, { durable: true }),
    );
    for (const key of exchange.keys) await channel.bindQueue(exchange.queue, exchange.name, key);
  }
  await channel.close();
}

async function declare(what: string, expected: string, act: () => Promise<unknown>): Promise<void> {
  try {
    await act();
  } catch (error) {
    if (!isCode(error, PRECONDITION_FAILED)) throw error;
    const advice = 'Delete it, or read its messages to the end first if they matter; it is declared anew then.';
    throw new Error(
      `Expected the ${what} to be ${expected}, and it is there as something else (${error.message}). ${advice}`,
      { cause: error },
    );
  }
}

/** A reply code of the broker, as amqplib hands it on. */
function isCode(error: unknown, code: number): error is Error {
  return error instanceof Error && 'code' in error && error.code === code;
}

/** Most messages that are in hand at once, of each queue. */
export const PREFETCH = { registration: 50, heartbeat: 200 } as const;

/** A channel that gives at most so many messages at once. */
export async function openChannel(model: ChannelModel, prefetch: number): Promise<Channel> {
  const channel = await model.createChannel();
  channel.on('error', () => undefined);
  await channel.prefetch(prefetch);
  return channel;
}
