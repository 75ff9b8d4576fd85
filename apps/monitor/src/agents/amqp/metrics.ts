/** What reading agents' messages from RabbitMQ counts. */
import { Counter, Gauge, type Registry } from 'prom-client';

/** What became of a message. `given-back` ones are delivered again, to whichever monitor reads then. */
export const OUTCOMES = ['taken', 'outdated', 'malformed', 'refused', 'failed', 'given-back'] as const;
export type MessageOutcome = (typeof OUTCOMES)[number];

export type AmqpMetrics = ReturnType<typeof createAmqpMetrics>;

export function createAmqpMetrics(registry: Registry) {
  const registers = [registry];
  return {
    consuming: new Gauge({
      name: 'carrierarr_monitor_rabbitmq_consuming',
      help: '1 while messages of agents are read from RabbitMQ.',
      registers,
    }),
    messages: new Counter({
      name: 'carrierarr_monitor_rabbitmq_messages_total',
      help:
        'Messages of agents by queue and outcome: taken; outdated (read after what the same agent said later); malformed; ' +
        'refused (too many nodes); failed (the registry could never be written with it); given-back (the connection or ' +
        'this monitor ended first).',
      labelNames: ['queue', 'outcome'],
      registers,
    }),
    inHand: new Gauge({
      name: 'carrierarr_monitor_rabbitmq_in_hand',
      help: 'Messages that were received and are not in the registry yet; the prefetch bounds them.',
      registers,
    }),
    retries: new Counter({
      name: 'carrierarr_monitor_rabbitmq_retries_total',
      help: 'Writes of the registry that were tried again, as while Redis is away.',
      registers,
    }),
    disconnects: new Counter({
      name: 'carrierarr_monitor_rabbitmq_disconnects_total',
      help: 'Times that reading ended though nobody had stopped it.',
      registers,
    }),
    connectErrors: new Counter({
      name: 'carrierarr_monitor_rabbitmq_connect_errors_total',
      help: 'Tries to connect and begin reading that failed.',
      registers,
    }),
  };
}
