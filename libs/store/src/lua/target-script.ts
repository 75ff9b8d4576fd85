/**
 * Scripts that work on one target. All of them get the same KEYS and the same first ARGV, so that a script can call
 * the shared pieces, and nobody has to count positions.
 *
 * KEYS  1 log · 2 meta · 3 segs · 4 queue · 5 lease · 6 fence · 7 executions of the target · 8 executions of the
 *       partition · 9 partition sequence · 10 active · 11 pending · 12 leases · 13 targets · 14 usage ·
 *       15 controller fence of the partition
 * ARGV  1 target · 2 output channel · 3 partition channel · 4 prefix of execution keys · 5 log entries max ·
 *       6 log bytes max · 7 log age max, ms · 8 retention of ended executions, ms · 9… the script's own, as A[1]…
 */
import type { Keys } from '@carrierarr/protocol';
import { partitionOf } from '@carrierarr/protocol';
import { APPEND_ENTRY, NOW } from './append-entry.js';

export const TARGET_SCRIPT_KEYS = 15;

const PREAMBLE = `
local K_LOG, K_META, K_SEGS, K_QUEUE, K_LEASE, K_FENCE = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local K_EXECS_OF, K_EXECS, K_PSEQ, K_ACTIVE, K_PENDING = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local K_LEASES, K_TARGETS, K_USAGE, K_CONTROLLER = KEYS[12], KEYS[13], KEYS[14], KEYS[15]
local TARGET, C_OUT, C_ALL, EXEC = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local MAX_ENTRIES, MAX_BYTES, MAX_AGE_MS, RETENTION_MS = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local A = {}
for i = 9, #ARGV do A[i - 8] = ARGV[i] end
`;

/** Ends an execution: its result in the log, its record, its hold on the target. */
const END_EXECUTION = `
-- fields: flat list of further record fields. resultEvent: JSON text.
local function endExecution(id, now, resultEvent, fields)
  local last, epoch = appendEntry(now, 1, eventBlob(id, now, resultEvent))
  local key = EXEC .. id
  redis.call('HSET', key, 'state', 'ended', 'ended_at', int(now), 'last_offset', int(last), 'epoch', epoch, unpack(fields))
  redis.call('PEXPIRE', key, int(RETENTION_MS))
  return last
end

local function markPending(now)
  if redis.call('LLEN', K_QUEUE) > 0 then
    redis.call('ZADD', K_PENDING, int(now), TARGET)
    return 1
  end
  redis.call('ZREM', K_PENDING, TARGET)
  return 0
end

local function releaseTarget(now)
  redis.call('DEL', K_LEASE)
  redis.call('SREM', K_LEASES, TARGET)
  return markPending(now)
end
`;

/** The whole text of a target script with this body. */
export function targetScript(body: string): string {
  return PREAMBLE + NOW + APPEND_ENTRY + END_EXECUTION + body;
}

/** Bounds of the output history, as the scripts need them. */
export interface HistoryBounds {
  /** Entries kept per target. */
  entriesMax: number;
  /** Bytes kept per target. */
  bytesMax: number;
  /** Age of output kept, ms. */
  ageMaxMs: number;
  /** How long records of ended executions are kept, ms. */
  executionsMs: number;
}

/** KEYS and the common ARGV for a target. */
export function targetArguments(keys: Keys, target: string, bounds: HistoryBounds): (string | number)[] {
  const p = partitionOf(target);
  return [
    keys.log(target),
    keys.logMeta(target),
    keys.logSegments(target),
    keys.queue(target),
    keys.lease(target),
    keys.fence(target),
    keys.executionsOf(target),
    keys.executions(p),
    keys.partitionSequence(p),
    keys.active(p),
    keys.pending(p),
    keys.leases(p),
    keys.targets(p),
    keys.usage(p),
    keys.controllerFence(p),
    target,
    keys.outputChannel(target),
    keys.partitionChannel(p),
    keys.executionPrefix(p),
    bounds.entriesMax,
    bounds.bytesMax,
    bounds.ageMaxMs,
    bounds.executionsMs,
  ];
}
