/**
 * Brings one message into the registry, however long Redis is away: the broker keeps what is not acknowledged, and sends
 * no more than a bounded number of messages ahead, so waiting is what loses nothing. A message that Redis answers with an
 * error each time is given up: it would stand in the way of all others for ever.
 */
import { backoffMs, type Clock } from '@carrierarr/platform';
import type { NodeRegistry } from '@carrierarr/store';
import { pause } from '../../pause.js';
import type { AgentMessage } from './decode.js';

/** Between two tries: first and longest bound, ms; full jitter. */
const RETRY = { baseMs: 200, capMs: 5_000 };
const RETRY_MS_MIN = 50;
/** Tries of a message that Redis answers with an error. */
export const ERROR_ANSWERS_MAX = 5;

export type AmqpRegistry = Pick<NodeRegistry, 'register' | 'deregister' | 'amqpBeat'>;

export interface RegistryWriteOptions {
  registry: AmqpRegistry;
  clock: Pick<Clock, 'setTimeout'>;
  /** A try failed, and there will be another. */
  onRetry: (error: Error) => void;
  random?: () => number;
}

export type WriteAnswer =
  | { kind: 'taken' }
  /** Its agent has said since that it goes, or that it is back. */
  | { kind: 'outdated' }
  /** There are as many nodes as are allowed. */
  | { kind: 'refused' }
  | { kind: 'failed'; error: Error }
  /** The signal came first. */
  | { kind: 'given-back' };

/** Never rejects. */
export async function writeToRegistry(
  message: AgentMessage,
  { registry, clock, onRetry, random = Math.random }: RegistryWriteOptions,
  signal: AbortSignal,
): Promise<WriteAnswer> {
  let errorAnswers = 0;
  for (let attempt = 0; ; attempt += 1) {
    if (signal.aborted) return { kind: 'given-back' };
    try {
      return { kind: await write(message, registry) };
    } catch (cause) {
      const error = cause instanceof Error ? cause : new Error(String(cause));
      if (isErrorAnswer(error)) errorAnswers += 1;
      if (errorAnswers >= ERROR_ANSWERS_MAX) return { kind: 'failed', error };
      onRetry(error);
      await pause(clock, Math.max(RETRY_MS_MIN, backoffMs({ ...RETRY, attempt, random })), signal);
    }
  }
}

async function write(message: AgentMessage, registry: AmqpRegistry): Promise<'taken' | 'outdated' | 'refused'> {
  switch (message.kind) {
    case 'register':
      return OUTCOME_OF[(await registry.register(message.node, message.registration, 'amqp')).kind];
    case 'deregister':
      return (await registry.deregister(message.node, message.saidMs, message.start)) === 'outdated'
        ? 'outdated'
        : 'taken';
    case 'heartbeat':
      return OUTCOME_OF[await registry.amqpBeat(message.node, message.heartbeat)];
  }
}

const OUTCOME_OF = { registered: 'taken', ok: 'taken', outdated: 'outdated', full: 'refused' } as const;

/** What Redis says when it cannot write now, whatever is written. */
const PASSING = /^(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|MISCONF|OOM|BUSY|UNBLOCKED)\b/;

/** Redis understood the question and refuses it, other than for the moment. */
function isErrorAnswer({ name, message }: Error): boolean {
  return name === 'ReplyError' && !PASSING.test(message);
}
