/**
 * Forgetting: the bounds that no single append can keep. Appends trim their own target's log by entries, bytes and age;
 * here are the bound over all targets, logs that nobody writes to any more, ids of executions whose records have
 * expired, and targets of which nothing is left.
 *
 * A trimmed log keeps its epoch and its last offset, so numbering goes on and readers see a gap, not a new log.
 */
import type { Keys } from '@carrierarr/protocol';
import { PARTITIONS } from '@carrierarr/protocol';
import type { RedisConnection } from './connection.js';
import type { HistoryBounds } from './lua/target-script.js';
import { NOW } from './lua/append-entry.js';

/**
 * KEYS  1 log · 2 segs · 3 meta · 4 usage · 5 leases · 6 lease · 7 queue · 8 executions of the target · 9 targets ·
 *       10 active · 11 pending · 12 fence
 * ARGV  1 target · 2 age max of output, ms · 3 life of ended executions, ms · 4 prefix of execution keys ·
 *       5 '1' to remove the whole log
 * Returns {bytes removed, 1 if the target is forgotten}.
 */
const TIDY_TARGET = `
${NOW}
local TARGET, AGE, LIFE, EXEC = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local function int(n) return string.format('%.0f', n) end
local seen = tonumber(redis.call('ZSCORE', KEYS[9], TARGET)) or 0
local bytes = tonumber(redis.call('HGET', KEYS[3], 'bytes')) or 0
local removed = 0
if ARGV[5] == '1' or (bytes > 0 and now - seen > AGE) then
  redis.call('DEL', KEYS[1], KEYS[2])
  if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('HSET', KEYS[3], 'bytes', '0', 'segBytes', '0', 'segEntries', '0') end
  redis.call('HDEL', KEYS[4], TARGET)
  removed = bytes
else
  while true do
    local oldest = redis.call('LINDEX', KEYS[2], 0)
    if not oldest then break end
    local last, size, time = string.match(oldest, '^(%d+):(%d+):(%d+)$')
    if now - tonumber(time) <= AGE then break end
    redis.call('LPOP', KEYS[2])
    redis.call('XTRIM', KEYS[1], 'MINID', int(tonumber(last) + 1) .. '-0')
    removed = removed + tonumber(size)
  end
  if removed > 0 then
    redis.call('HINCRBY', KEYS[3], 'bytes', int(-removed))
    redis.call('HINCRBY', KEYS[4], TARGET, int(-removed))
  end
end
-- A target that was closed after a loss, and has had nothing to run since.
local lease = redis.call('HMGET', KEYS[6], 'state', 'until')
local queued = redis.call('LLEN', KEYS[7])
if lease[1] == 'closed' and now >= tonumber(lease[2]) and queued == 0 then
  redis.call('DEL', KEYS[6])
  redis.call('SREM', KEYS[5], TARGET)
  lease[1] = false
end
local old = redis.call('ZRANGEBYSCORE', KEYS[8], '-inf', now - LIFE, 'LIMIT', 0, 500)
for _, id in ipairs(old) do
  if redis.call('EXISTS', EXEC .. id) == 0 then redis.call('ZREM', KEYS[8], id) end
end
if not lease[1] and queued == 0 and now - seen > math.max(AGE, LIFE)
  and redis.call('EXISTS', KEYS[1], KEYS[8]) == 0 then
  redis.call('ZREM', KEYS[9], TARGET)
  redis.call('ZREM', KEYS[10], TARGET)
  redis.call('ZREM', KEYS[11], TARGET)
  redis.call('HDEL', KEYS[4], TARGET)
  -- The next fence is above Redis' clock, and so above this one.
  redis.call('DEL', KEYS[3], KEYS[12])
  return {removed, 1}
end
return {removed, 0}
`;

/**
 * KEYS  1 executions of a partition
 * ARGV  1 life of ended executions, ms · 2 prefix of execution keys
 * Returns the number of ids removed.
 */
const TIDY_EXECUTIONS = `
${NOW}
local removed = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[1]), 'LIMIT', 0, 2000)) do
  if redis.call('EXISTS', ARGV[2] .. id) == 0 then removed = removed + redis.call('ZREM', KEYS[1], id) end
end
return removed
`;

export interface RetentionOptions {
  connection: RedisConnection;
  keys: Keys;
  history: HistoryBounds;
  /** Bytes that the logs of all targets may hold together. */
  totalBytesMax: number;
}

export interface TidyReport {
  /** Bytes of output removed. */
  bytes: number;
  /** Ids of executions removed. */
  executions: number;
  /** Targets forgotten. */
  targets: number;
}

const ALL_PARTITIONS = Array.from({ length: PARTITIONS }, (_, p) => p);
const SCAN_COUNT = 500;

export class Retention {
  readonly #o: RetentionOptions;

  constructor(options: RetentionOptions) {
    this.#o = options;
  }

  /** True if `owner` may tidy now; nobody else may for `ms`. */
  async acquire(owner: string, ms: number): Promise<boolean> {
    return (await this.#o.connection.set(this.#o.keys.retentionLock(), owner, 'PX', ms, 'NX')) === 'OK';
  }

  /** Tidies the targets and executions of one partition. */
  async tidyPartition(partition: number): Promise<TidyReport> {
    const { connection, keys, history } = this.#o;
    const report: TidyReport = { bytes: 0, executions: 0, targets: 0 };
    let cursor = '0';
    do {
      const [next, flat] = await connection.zscan(keys.targets(partition), cursor, 'COUNT', SCAN_COUNT);
      cursor = next;
      const targets = flat.filter((_, i) => i % 2 === 0);
      for (const [bytes, forgotten] of await Promise.all(
        targets.map((target) => this.#tidy(partition, target, false)),
      )) {
        report.bytes += bytes;
        report.targets += forgotten;
      }
    } while (cursor !== '0');
    const ids = await connection.eval(
      TIDY_EXECUTIONS,
      1,
      keys.executions(partition),
      history.executionsMs,
      keys.executionPrefix(partition),
    );
    report.executions = Number(ids);
    return report;
  }

  /** Bytes that all logs hold. */
  async totalBytes(): Promise<number> {
    const usages = await Promise.all(ALL_PARTITIONS.map((p) => this.#o.connection.hvals(this.#o.keys.usage(p))));
    return usages.flat().reduce((sum, bytes) => sum + Number(bytes), 0);
  }

  /** Removes whole logs, least recently active targets first, until all together are within their bound. */
  async trimTotal(): Promise<{ bytes: number; targets: string[] }> {
    let total = await this.totalBytes();
    const trimmed: string[] = [];
    let bytes = 0;
    if (total <= this.#o.totalBytesMax) return { bytes, targets: trimmed };
    for (const { target, partition } of await this.#leastRecentFirst()) {
      if (total <= this.#o.totalBytesMax) break;
      const [removed] = await this.#tidy(partition, target, true);
      total -= removed;
      bytes += removed;
      trimmed.push(target);
    }
    return { bytes, targets: trimmed };
  }

  async #leastRecentFirst(): Promise<{ target: string; partition: number; seenMs: number }[]> {
    const { connection, keys } = this.#o;
    const found = await Promise.all(
      ALL_PARTITIONS.map(async (partition) => {
        const holding = await connection.hkeys(keys.usage(partition));
        if (holding.length === 0) return [];
        const seen = await connection.zmscore(keys.targets(partition), ...holding);
        return holding.map((target, i) => ({ target, partition, seenMs: Number(seen[i] ?? 0) }));
      }),
    );
    return found.flat().toSorted((a, b) => a.seenMs - b.seenMs);
  }

  async #tidy(partition: number, target: string, isWholeLog: boolean): Promise<[bytes: number, forgotten: number]> {
    const { connection, keys, history } = this.#o;
    const names = [
      ...[
        keys.log(target),
        keys.logSegments(target),
        keys.logMeta(target),
        keys.usage(partition),
        keys.leases(partition),
      ],
      ...[keys.lease(target), keys.queue(target), keys.executionsOf(target), keys.targets(partition)],
      ...[keys.active(partition), keys.pending(partition), keys.fence(target)],
    ];
    const reply = await connection.eval(
      TIDY_TARGET,
      names.length,
      ...names,
      ...[target, history.ageMaxMs, history.executionsMs, keys.executionPrefix(partition), isWholeLog ? '1' : '0'],
    );
    return reply as [number, number];
  }
}
