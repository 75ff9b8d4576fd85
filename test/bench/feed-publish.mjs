/**
 * Feeds a reference as `feed-store.mjs` feeds ours, by one PUBLISH a line: where latency is compared, all lines come
 * from the same program in the same language, so that what differs is the system.
 */
import { Redis } from 'ioredis';
import { feedOptions, paceLines } from './pace.mjs';

const connection = new Redis(feedOptions().redisUrl);
await connection.ping();
await paceLines((target, lines) => Promise.all(lines.map((line) => connection.publish(`bench:${target}`, line))));
