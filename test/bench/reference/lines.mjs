/**
 * What every reference program has in common: it takes `--redis-url` and `--targets`, subscribes to one
 * Redis channel per target, and turns each line into the message old clients know. So the programs
 * differ only in what they do with a line, which is what is compared.
 */
import { Redis } from 'ioredis';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: { 'redis-url': { type: 'string' }, targets: { type: 'string', default: '1' } },
});
if (!values['redis-url']) throw new Error('Expected --redis-url, got nothing');

export const redisUrl = values['redis-url'];

/** A new connection gets everything until it subscribes to one target. */
export const EVERYTHING = '*';

/** @type {(target: string, data: string) => string} one output message of the old protocol */
export const encode = (target, data) =>
  `{"type":"stdout","timestamp":"${new Date().toISOString()}","target":"${target}","data":${JSON.stringify(data)}}`;

export const PONG = '{"type":"pong"}';

/** @param {(target: string, data: string) => void} onLine */
export const subscribeLines = async (onLine) => {
  const redis = new Redis(redisUrl);
  redis.on('message', (channel, data) => onLine(channel.slice('bench:'.length), data));
  await redis.subscribe(...Array.from({ length: Number(values.targets) }, (_, i) => `bench:bench-${i}`));
};

/** Tells the driver the port, and ends with it: standard input closes when the driver is gone. */
export const announce = (port) => {
  console.log(JSON.stringify({ port }));
  process.stdin.on('end', () => process.exit(0)).resume();
};
