/**
 * The state machine of commands, one Lua script a transition. Redis runs each alone, so each is the fence.
 *
 *   submit            nothing -> queued            (once per idempotency id)
 *   claim             queued  -> running           (head of the list, if the target is free)
 *   renew, append     running -> running           (only with the newest fence)
 *   finish            running -> ended             (only with the newest fence; a repeat is harmless)
 *   kill              queued  -> ended | running -> running with a kill request
 *   reap              running -> ended as lost, or queued again if idempotent; the target stays closed for a while
 */
import { EXECUTION_VERSION } from '@carrierarr/protocol';
import { ENTRY_SCRIPT_KEYS, entryScript, TARGET_SCRIPT_KEYS, targetScript } from './target-script.js';

/**
 * A: 1 execution id · 2 idempotency key or '' · 3 its life, ms · 4 digest of the command · 5 queue length max ·
 * 6 pending targets max · 7 fence of the leader that submits it, or '' · 8 '1' for only if the target is idle ·
 * 9 '1' for a probe · 10… record fields, flat.
 * Returns {'accepted' | 'duplicate', id, position} | {'conflict', id} | {'queue_full', n} | {'too_many_pending', n} |
 * {'deposed', fence of the newest leader} | {'busy'}.
 */
const SUBMIT = targetScript(`
local id = A[1]
if A[7] ~= '' then
  -- Before all else: a leader that is deposed must not even learn that its command was accepted, and act on it.
  local newest = redis.call('GET', K_CONTROLLER)
  local known = tonumber(newest) or 0
  if tonumber(A[7]) < known then return {'deposed', newest} end
  if tonumber(A[7]) > known then redis.call('SET', K_CONTROLLER, A[7]) end
end
local function position(of)
  local lease = redis.call('HMGET', K_LEASE, 'exec', 'state')
  local running = (lease[1] and lease[2] == 'running') and 1 or 0
  if lease[1] == of then return 0 end
  local index = redis.call('LPOS', K_QUEUE, of)
  if index then return index + running end
  return 0
end
if A[2] ~= '' then
  local known = redis.call('GET', A[2])
  if known then
    local first, digest = string.match(known, '^(%S+) (.*)$')
    if digest ~= A[4] then return {'conflict', first} end
    return {'duplicate', first, position(first)}
  end
end
local length = redis.call('LLEN', K_QUEUE)
if A[8] == '1' then
  local lease = redis.call('HMGET', K_LEASE, 'exec', 'state', 'until')
  local held = lease[1] and not (lease[2] == 'closed' and now >= tonumber(lease[3]))
  if length > 0 or held then return {'busy'} end
end
if length >= tonumber(A[5]) then return {'queue_full', length} end
local pendingTargets = redis.call('ZCARD', K_PENDING)
if pendingTargets >= tonumber(A[6]) and not redis.call('ZSCORE', K_PENDING, TARGET) then
  return {'too_many_pending', pendingTargets}
end
local fields = {}
for i = 10, #A do fields[#fields + 1] = A[i] end
redis.call('HSET', EXEC .. id, 'id', id, 'target', TARGET, 'state', 'queued', 'accepted_at', int(now), 'attempt', '0', unpack(fields))
redis.call('RPUSH', K_QUEUE, id)
if A[9] == '1' then
  redis.call('ZADD', K_TARGETS, 'NX', int(now), TARGET)
else
  redis.call('ZADD', K_EXECS, int(now), id)
  redis.call('ZADD', K_EXECS_OF, int(now), id)
  redis.call('ZADD', K_TARGETS, int(now), TARGET)
end
redis.call('ZADD', K_PENDING, 'NX', int(now), TARGET)
if A[2] ~= '' then redis.call('SET', A[2], id .. ' ' .. A[4], 'PX', A[3]) end
return {'accepted', id, position(id)}
`);

/**
 * A: 1 runner id · 2 incarnation · 3 JSON of the started event without its closing brace (the record's fields follow).
 * Returns {'claimed', id, fence, HGETALL of the record} | {'busy', closed-until ms or 0} | {'empty'} |
 * {'newer', id, version of its record}.
 */
const CLAIM = targetScript(`
local lease = redis.call('HMGET', K_LEASE, 'exec', 'state', 'until')
if lease[1] then
  if lease[2] == 'closed' and now >= tonumber(lease[3]) then
    releaseTarget(now)
  else
    return {'busy', lease[2] == 'closed' and lease[3] or '0'}
  end
end
local id, head
while true do
  id = redis.call('LINDEX', K_QUEUE, 0)
  if not id then
    redis.call('ZREM', K_PENDING, TARGET)
    return {'empty'}
  end
  head = redis.call('HMGET', EXEC .. id, 'state', 'v')
  if head[1] == 'queued' then break end
  redis.call('LPOP', K_QUEUE)
end
if (tonumber(head[2]) or 1) > ${EXECUTION_VERSION} then return {'newer', id, head[2]} end
redis.call('LPOP', K_QUEUE)
-- Also above Redis' clock: after a failover that lost the last writes, a new fence is still above every older one.
local fence = math.max((tonumber(redis.call('GET', K_FENCE)) or 0) + 1, now)
redis.call('SET', K_FENCE, int(fence))
redis.call('HSET', K_LEASE, 'exec', id, 'state', 'running', 'fence', int(fence), 'runner', A[1], 'incarnation', A[2], 'seq', '0', 'beat', '0')
redis.call('SADD', K_LEASES, TARGET)
local key = EXEC .. id
local attempt = redis.call('HINCRBY', key, 'attempt', 1)
markPending(now)
redis.call('HSET', key, 'state', 'running', 'started_at', int(now), 'runner', A[1], 'fence', int(fence))
if redis.call('HGET', key, 'probe') then return {'claimed', id, int(fence), redis.call('HGETALL', key)} end
local record = redis.call('HMGET', key, 'command', 'args', 'subject')
local event = cjson.encode({type = 'started', command = record[1], subject = record[3], runner = A[1], attempt = attempt})
-- args is already JSON text; cjson would turn an empty list into an object.
event = string.sub(event, 1, -2) .. ',"args":' .. record[2] .. '}'
local last, epoch = appendEntry(now, 1, eventBlob(id, now, event))
redis.call('HSET', key, 'epoch', epoch)
redis.call('HSETNX', key, 'first_offset', int(last))
return {'claimed', id, int(fence), redis.call('HGETALL', key)}
`);

/** A: 1 fence. Returns {'ok', kill requested by or ''} | {'fenced'}. */
const RENEW = `
local lease = redis.call('HMGET', KEYS[1], 'fence', 'state', 'kill')
if lease[1] ~= ARGV[1] or lease[2] ~= 'running' then return {'fenced'} end
redis.call('HINCRBY', KEYS[1], 'beat', 1)
return {'ok', lease[3] or ''}
`;

/**
 * A: 1 fence · 2 sequence of the entry · 3 lines · 4 entry.
 * Returns {'ok', last offset} | {'repeated'} | {'hole', newest sequence known} | {'fenced'}.
 */
const APPEND = entryScript(`
local lease = redis.call('HMGET', K_LEASE, 'fence', 'state', 'seq')
if lease[1] ~= A[1] or lease[2] ~= 'running' then return {'fenced'} end
local seq, known = tonumber(A[2]), tonumber(lease[3])
if seq <= known then return {'repeated'} end
if seq > known + 1 then return {'hole', known} end
redis.call('HSET', K_LEASE, 'seq', A[2])
return {'ok', (appendEntry(now, tonumber(A[3]), A[4]))}
`);

/** A: 1 lines · 2 entry. Returns {'ok', last offset}. */
const APPEND_LOG = entryScript(`
return {'ok', (appendEntry(now, tonumber(A[1]), A[2]))}
`);

/**
 * A: 1 execution id · 2 fence · 3 newest sequence of its entries · 4 JSON of an error event or '' · 5 JSON of the
 * result event · 6… record fields, flat.
 * Returns {'ok', 1 if more is waiting} | {'repeated'} | {'hole', newest sequence known} | {'fenced'}.
 */
const FINISH = targetScript(`
local lease = redis.call('HMGET', K_LEASE, 'fence', 'state', 'seq')
if lease[1] ~= A[2] or lease[2] ~= 'running' then
  local ended = redis.call('HMGET', EXEC .. A[1], 'state', 'fence', 'outcome')
  if ended[1] == 'ended' and ended[2] == A[2] and ended[3] ~= 'lost' then return {'repeated'} end
  return {'fenced'}
end
if tonumber(lease[3]) < tonumber(A[3]) then return {'hole', tonumber(lease[3])} end
if A[4] ~= '' then appendEvent(A[1], now, A[4]) end
local fields = {}
for i = 6, #A do fields[#fields + 1] = A[i] end
endExecution(A[1], now, A[5], fields)
return {'ok', releaseTarget(now)}
`);

/**
 * A: 1 execution id, or '' for what runs now (else what is next) · 2 who asks · 3 JSON of the result event of one
 * that never started.
 * Returns {'cancelled', id} | {'running', id, runner} | {'ended', id} | {'none'}.
 */
const KILL = targetScript(`
local lease = redis.call('HMGET', K_LEASE, 'exec', 'state', 'runner')
local running = lease[2] == 'running' and lease[1] or false
local id = A[1]
if id == '' then
  -- A probe is not what anybody wants to end who does not name it.
  id = running and not redis.call('HGET', EXEC .. running, 'probe') and running
  for _, waiting in ipairs(id and {} or redis.call('LRANGE', K_QUEUE, 0, -1)) do
    if not redis.call('HGET', EXEC .. waiting, 'probe') then
      id = waiting
      break
    end
  end
end
if not id then return {'none'} end
local key = EXEC .. id
if id == running then
  redis.call('HSET', K_LEASE, 'kill', A[2])
  redis.call('HSETNX', key, 'kill_requested_by', A[2])
  return {'running', id, lease[3]}
end
local state = redis.call('HGET', key, 'state')
if not state then return {'none'} end
if state == 'ended' then return {'ended', id} end
redis.call('LREM', K_QUEUE, 0, id)
if redis.call('LLEN', K_QUEUE) == 0 then redis.call('ZREM', K_PENDING, TARGET) end
endExecution(id, now, A[3], {'outcome', 'killed', 'exit_code', '-1', 'kill_requested_by', A[2], 'reason', 'killed before it started'})
return {'cancelled', id}
`);

/**
 * A: 1 execution id · 2 beat last observed, or '' for any (its runner has said that it is gone) · 3 how long the target stays closed, ms ·
 * 4 starts max of an idempotent command · 5 JSON of the error event · 6 JSON of the result event ·
 * 7 incarnation that must not be the lease's, or ''.
 * Returns {'lost' | 'requeued', id} | {'alive'}.
 */
const REAP = targetScript(`
local lease = redis.call('HMGET', K_LEASE, 'exec', 'state', 'beat', 'incarnation')
if lease[1] ~= A[1] or lease[2] ~= 'running' then return {'alive'} end
if A[2] ~= '' and lease[3] ~= A[2] then return {'alive'} end
if A[7] ~= '' and lease[4] == A[7] then return {'alive'} end
local key = EXEC .. A[1]
local record = redis.call('HMGET', key, 'idempotent', 'attempt', 'kill_requested_by')
appendEvent(A[1], now, A[5])
local answer = 'lost'
if record[1] == '1' and tonumber(record[2]) < tonumber(A[4]) and not record[3] then
  redis.call('HSET', key, 'state', 'queued')
  -- The lost runner's own ending must not be taken for the one recorded later.
  redis.call('HDEL', key, 'fence')
  redis.call('LPUSH', K_QUEUE, A[1])
  answer = 'requeued'
else
  endExecution(A[1], now, A[6], {'outcome', 'lost', 'exit_code', '-1', 'reason', 'its runner died or lost touch'})
end
-- No fence may fit any more, and nothing may start until the lost runner is known to have ended its script.
redis.call('HSET', K_LEASE, 'state', 'closed', 'until', int(now + tonumber(A[3])))
redis.call('HDEL', K_LEASE, 'kill')
markPending(now)
return {answer, A[1]}
`);

/** What ioredis' `defineCommand` needs, by the name of the method it makes. */
export const COMMAND_SCRIPTS = {
  carrierarrSubmit: { lua: SUBMIT, numberOfKeys: TARGET_SCRIPT_KEYS },
  carrierarrClaim: { lua: CLAIM, numberOfKeys: TARGET_SCRIPT_KEYS },
  carrierarrRenew: { lua: RENEW, numberOfKeys: 1 },
  carrierarrAppend: { lua: APPEND, numberOfKeys: ENTRY_SCRIPT_KEYS },
  carrierarrAppendLog: { lua: APPEND_LOG, numberOfKeys: ENTRY_SCRIPT_KEYS },
  carrierarrFinish: { lua: FINISH, numberOfKeys: TARGET_SCRIPT_KEYS },
  carrierarrKill: { lua: KILL, numberOfKeys: TARGET_SCRIPT_KEYS },
  carrierarrReap: { lua: REAP, numberOfKeys: TARGET_SCRIPT_KEYS },
} as const;
