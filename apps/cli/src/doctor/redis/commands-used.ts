/**
 * The Redis commands that carrierarr uses, each with arguments for a dry run. A scenario compares it with what a whole
 * installation was counted to use.
 */
import type { Keys } from '@carrierarr/protocol';

type Call = readonly [command: string, ...args: string[]];

/** Nothing is run, so the keys need not be there, nor of the right kind. */
export function commandsUsed(keys: Keys): readonly Call[] {
  const key = keys.queue('doctor');
  const bull = `${keys.bullPrefix}:commands:wait`;
  const channel = keys.outputChannel('doctor');
  return [
    ...['PING', 'TIME', 'MULTI', 'EXEC', 'INFO'].map((command): Call => [command]),
    ...['GET', 'DEL', 'EXISTS', 'HGETALL', 'HKEYS', 'HLEN', 'INCR', 'LLEN', 'LPOP', 'PTTL'].map((command): Call => [
      command,
      key,
    ]),
    ...['SCARD', 'SMEMBERS', 'XLEN', 'ZCARD', 'ZPOPMIN'].map((command): Call => [command, key]),
    ...['HGET', 'HDEL', 'HEXISTS', 'HMGET', 'LPOS', 'LPUSH', 'RPUSH', 'SADD', 'SET', 'SISMEMBER', 'SREM'].map(
      (command): Call => [command, key, 'a'],
    ),
    ...['ZREM', 'ZSCORE'].map((command): Call => [command, key, 'a']),
    ['LINDEX', key, '0'],
    ['PEXPIRE', key, '1'],
    ...['HINCRBY', 'HSET', 'HSETNX', 'HMSET'].map((command): Call => [command, key, 'a', '1']),
    ...['LRANGE', 'LREM', 'ZRANGE', 'ZREVRANGE', 'ZRANGEBYSCORE', 'ZREVRANGEBYSCORE', 'ZREMRANGEBYSCORE'].map(
      (command): Call => [command, key, '0', '1'],
    ),
    ['ZADD', key, '1', 'a'],
    ['XADD', key, '*', 'a', '1'],
    ['XRANGE', key, '-', '+'],
    ['XREVRANGE', key, '+', '-'],
    ['XTRIM', key, 'MAXLEN', '1'],
    ['EVAL', 'return 1', '1', key],
    ['EVALSHA', '0'.repeat(40), '1', key],
    ['SPUBLISH', channel, 'a'],
    ['SSUBSCRIBE', channel],
    ['SUNSUBSCRIBE', channel],
    // Of BullMQ, in its own slot.
    ['BZPOPMIN', bull, '1'],
    ['RPOPLPUSH', bull, bull],
    ['LPUSH', bull, 'a'],
    ['XADD', bull, '*', 'a', '1'],
  ];
}
