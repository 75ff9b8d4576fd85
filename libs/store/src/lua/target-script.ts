/**
 * Scripts that work on one target. All of them get the same KEYS and the same first ARGV, so that a script can call
 * the shared pieces, and nobody has to count positions.
 *
 * KEYS  1 log · 2 meta · 3 segs · 4 lease · 5 partition sequence · 6 active · 7 targets · 8 usage · 9 queue · 10 fence ·
 *       11 executions of the target · 12 executions of the partition · 13 pending · 14 leases ·
 *       15 controller fence of the partition
 * ARGV  1 target · 2 output channel · 3 partition channel · 4 log entries max · 5 log bytes max · 6 log age max, ms ·
 *       7 prefix of execution keys · 8 retention of ended executions, ms · 9… the script's own, as A[1]…
 *
 * An *entry script* runs for each entry, so it gets no more than an entry takes: KEYS 1 to 8, ARGV 1 to 6, then its own.
 */
import type { Keys } from '@carrierarr/protocol';
import { partitionOf } from '@carrierarr/protocol';
import { APPEND_ENTRY, NOW } from './append-entry.js';

export const ENTRY_SCRIPT_KEYS = 8;
export const TARGET_SCRIPT_KEYS = 15;

/** How long the record of a probe that has ended is kept, ms: whoever asked reads it within seconds. */
export const PROBE_KEPT_MS = 600_000;

const ENTRY_PREAMBLE = `
local K_LOG, K_META, K_SEGS, K_LEASE = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local K_PSEQ, K_ACTIVE, K_TARGETS, K_USAGE = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local TARGET, C_OUT, C_ALL = ARGV[1], ARGV[2], ARGV[3]
local MAX_ENTRIES, MAX_BYTES, MAX_AGE_MS = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
`;

const PREAMBLE = `${ENTRY_PREAMBLE}
local K_QUEUE, K_FENCE, K_EXECS_OF, K_EXECS = KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local K_PENDING, K_LEASES, K_CONTROLLER = KEYS[13], KEYS[14], KEYS[15]
local EXEC, RETENTION_MS, PROBE_KEPT_MS = ARGV[7], tonumber(ARGV[8]), ${PROBE_KEPT_MS}
local A = {unpack(ARGV, 9)}
`;

/** Ends an execution: its result in the log, its record, its hold on the target. */
const END_EXECUTION = `
-- Nothing of a probe comes to the log: then, no offset and no epoch.
local function appendEvent(id, now, event)
  if redis.call('HGET', EXEC .. id, 'probe') then return end
  return appendEntry(now, 1, eventBlob(id, now, event))
end

-- fields: flat list of further record fields. resultEvent: JSON text.
local function endExecution(id, now, resultEvent, fields)
  local last, epoch = appendEvent(id, now, resultEvent)
  local key = EXEC .. id
  redis.call('HSET', key, 'state', 'ended', 'ended_at', int(now), unpack(fields))
  if last then redis.call('HSET', key, 'last_offset', int(last), 'epoch', epoch) end
  redis.call('PEXPIRE', key, int(last and RETENTION_MS or math.min(RETENTION_MS, PROBE_KEPT_MS)))
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

/** The same for an entry script. */
export function entryScript(body: string): string {
  return `${ENTRY_PREAMBLE}local A = {unpack(ARGV, 7)}${NOW}${APPEND_ENTRY}${body}`;
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

type ScriptArguments = (string | number)[];

/** KEYS and the common ARGV of an entry script for a target. */
export function entryArguments(keys: Keys, target: string, bounds: HistoryBounds): ScriptArguments {
  return [...entryKeys(keys, target), ...entryArgv(keys, target, bounds)];
}

/** KEYS and the common ARGV of any other script for a target. */
export function targetArguments(keys: Keys, target: string, bounds: HistoryBounds): ScriptArguments {
  const p = partitionOf(target);
  return [
    ...entryKeys(keys, target),
    keys.queue(target),
    keys.fence(target),
    keys.executionsOf(target),
    keys.executions(p),
    keys.pending(p),
    keys.leases(p),
    keys.controllerFence(p),
    ...entryArgv(keys, target, bounds),
    keys.executionPrefix(p),
    bounds.executionsMs,
  ];
}

function entryKeys(keys: Keys, target: string): ScriptArguments {
  const p = partitionOf(target);
  return [
    keys.log(target),
    keys.logMeta(target),
    keys.logSegments(target),
    keys.lease(target),
    keys.partitionSequence(p),
    keys.active(p),
    keys.targets(p),
    keys.usage(p),
  ];
}

function entryArgv(keys: Keys, target: string, bounds: HistoryBounds): ScriptArguments {
  return [
    target,
    keys.outputChannel(target),
    keys.partitionChannel(partitionOf(target)),
    bounds.entriesMax,
    bounds.bytesMax,
    bounds.ageMaxMs,
  ];
}
