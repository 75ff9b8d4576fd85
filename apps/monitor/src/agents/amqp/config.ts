/** Where agents announce themselves over RabbitMQ. */
import { type ConfigValues, defineSchema, formats } from '@carrierarr/platform';

export const amqpSchema = defineSchema({
  rabbitmqUrl: {
    doc: 'RabbitMQ through which agents register and say that they live; amqps:// for TLS. Without it none is read.',
    format: formats.urlWith(['amqp', 'amqps'], 'amqp://user:password@127.0.0.1:5672'),
    default: null,
    secret: true,
  },
  rabbitmqVhost: {
    doc: 'Virtual host of the agents.',
    format: formats.textMatching(/^[^\p{Cc}]{1,200}$/u, 'the name of a virtual host such as agents', 'NAME'),
    default: 'agents',
  },
});

/** The settings that reading from RabbitMQ needs. */
export type AmqpConfig = ConfigValues<typeof amqpSchema>;

/** Seconds between signs of life; the connection is given up after two without any. */
const HEARTBEAT_S = 5;

/** The address to connect to. The virtual host is the one of its own flag, whatever the URL says. */
export function connectUrl(url: string, vhost: string): string {
  const parsed = new URL(url);
  parsed.pathname = `/${encodeURIComponent(vhost)}`;
  if (!parsed.searchParams.has('heartbeat')) parsed.searchParams.set('heartbeat', String(HEARTBEAT_S));
  return parsed.href;
}
