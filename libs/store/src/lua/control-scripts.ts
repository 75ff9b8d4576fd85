/**
 * Scripts that work on what monitors share: who leads, the status of workers, and resources. All of it lies in one
 * slot, so a write can be refused in the same instant in which its writer ceases to lead.
 *
 * A *fenced* script has KEYS[1] = the leader's lease and ARGV[1] = the fence of the writer, or '' for a writer that
 * need not lead. It answers {'deposed', present fence or ''} and changes nothing when the fence is not that of the
 * lease, or when the lease has run out.
 */
import { NOW } from './append-entry.js';

const INT = `
local function int(n) return string.format('%.0f', n) end
`;

const FENCED = `
local function deposed()
  if ARGV[1] == '' then return nil end
  local lease = redis.call('HMGET', KEYS[1], 'fence', 'until')
  if lease[1] == ARGV[1] and now < tonumber(lease[2]) then return nil end
  return {'deposed', lease[1] or ''}
end
local refused = deposed()
if refused then return refused end
`;

/**
 * Takes or renews the lease.
 * KEYS 1 lease · 2 last fence. ARGV 1 holder · 2 length of the lease, ms · 3 channel.
 * Returns {'leads', fence} | {'held', holder, ms left}.
 */
const HOLD = `${NOW}${INT}
local lease = redis.call('HMGET', KEYS[1], 'holder', 'fence', 'until')
local lengthMs = tonumber(ARGV[2])
if lease[1] then
  local untilMs = tonumber(lease[3])
  if lease[1] == ARGV[1] and now < untilMs then
    redis.call('HSET', KEYS[1], 'until', int(now + lengthMs))
    return {'leads', lease[2]}
  end
  if untilMs > now + lengthMs then
    -- Longer than a lease can be: Redis' clock went back. Otherwise nobody could lead until it has caught up.
    untilMs = now + lengthMs
    redis.call('HSET', KEYS[1], 'until', int(untilMs))
  end
  if now < untilMs then return {'held', lease[1], int(untilMs - now)} end
end
-- Also above Redis' clock: after a failover that lost the last writes, a new fence is still above every older one.
local fence = int(math.max((tonumber(redis.call('GET', KEYS[2])) or 0) + 1, now))
redis.call('SET', KEYS[2], fence)
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'fence', fence, 'until', int(now + lengthMs))
redis.call('SPUBLISH', ARGV[3], fence)
return {'leads', fence}
`;

/** KEYS 1 lease. ARGV 1 holder · 2 fence · 3 channel. Returns {'released'} | {'deposed'}. */
const RELEASE = `
local lease = redis.call('HMGET', KEYS[1], 'holder', 'fence')
if lease[1] ~= ARGV[1] or lease[2] ~= ARGV[2] then return {'deposed'} end
redis.call('DEL', KEYS[1])
redis.call('SPUBLISH', ARGV[3], '')
return {'released'}
`;

/**
 * Lies in the slot of a partition. KEYS 1 queue · 2 lease · 3 executions of the target.
 * ARGV 1 what stands before an id in the key of an execution · 2 waiting ones looked at · 3 newest ones looked at.
 * Returns {'ok', now, length of the queue, state of the lease or '', until when it is closed, …} and for each execution
 * that waits, runs or is among the newest: subject, client id or '', state, ended_at or ''.
 */
const TARGET_COMMANDS = `${NOW}${INT}
local lease = redis.call('HMGET', KEYS[2], 'exec', 'state', 'until')
local answer = {'ok', int(now), redis.call('LLEN', KEYS[1]), lease[2] or '', lease[3] or '0'}
local seen = {}
local function add(id)
  if seen[id] then return end
  seen[id] = true
  local record = redis.call('HMGET', ARGV[1] .. id, 'subject', 'client_id', 'state', 'ended_at', 'probe')
  if not record[1] or record[5] then return end
  for i = 1, 4 do answer[#answer + 1] = record[i] or '' end
end
if lease[1] and lease[2] == 'running' then add(lease[1]) end
for _, id in ipairs(redis.call('LRANGE', KEYS[1], 0, ARGV[2] - 1)) do add(id) end
for _, id in ipairs(redis.call('ZREVRANGE', KEYS[3], 0, ARGV[3] - 1)) do add(id) end
return answer
`;

/** Lies in the slot of a partition. KEYS 1 controller fence. ARGV 1 fence. Returns {'ok'}. */
const RAISE = `
local known = tonumber(redis.call('GET', KEYS[1])) or 0
if tonumber(ARGV[1]) > known then redis.call('SET', KEYS[1], ARGV[1]) end
return {'ok'}
`;

/**
 * Writes a part of one poll. A record whose text is the stored one is no change. A record that is another source's is
 * not removed: two may know a machine by one id, and it is gone only when the one that shows it says so.
 * KEYS 1 lease · 2 workers · 3 versions · 4 removed · 5 seen · 6 meta · 7 sources.
 * ARGV 1 fence · 2 epoch to begin with if there is none · 3 most removals remembered · 4 source · 5 its report, or ''
 *      · 6 channel, or '' · 7… triples: 'upsert', id, record | 'remove', id, '' | 'seen', id, epoch ms.
 * Returns {'ok', version} | {'deposed', …}.
 */
const PUBLISH_STATUS = `${NOW}${INT}${FENCED}
local meta = redis.call('HMGET', KEYS[6], 'epoch', 'version')
local before = tonumber(meta[2]) or 0
local version = before
if not meta[1] then
  -- Records without their versions cannot be told apart from later ones: begin anew.
  redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5])
  redis.call('HSET', KEYS[6], 'epoch', ARGV[2], 'version', '0', 'floor', '0')
end
local function isOthers(record)
  local ok, fields = pcall(cjson.decode, record)
  return ok and type(fields) == 'table' and fields.source and fields.source ~= ARGV[4]
end
for i = 7, #ARGV, 3 do
  local what, id, value = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if what == 'upsert' then
    if redis.call('HGET', KEYS[2], id) ~= value then
      version = version + 1
      redis.call('HSET', KEYS[2], id, value)
      redis.call('ZADD', KEYS[3], int(version), id)
      redis.call('ZREM', KEYS[4], id)
    end
  elseif what == 'remove' then
    redis.call('HDEL', KEYS[5], id)
    local stored = redis.call('HGET', KEYS[2], id)
    if stored and not isOthers(stored) then
      redis.call('HDEL', KEYS[2], id)
      version = version + 1
      redis.call('ZREM', KEYS[3], id)
      redis.call('ZADD', KEYS[4], int(version), id)
    end
  elseif redis.call('HEXISTS', KEYS[2], id) == 1 then
    redis.call('HSET', KEYS[5], id, value)
  end
end
if version > before then
  redis.call('HSET', KEYS[6], 'version', int(version))
  local surplus = redis.call('ZCARD', KEYS[4]) - tonumber(ARGV[3])
  if surplus > 0 then
    local forgotten = redis.call('ZPOPMIN', KEYS[4], surplus)
    redis.call('HSET', KEYS[6], 'floor', forgotten[#forgotten])
  end
end
if ARGV[5] ~= '' then redis.call('HSET', KEYS[7], ARGV[4], ARGV[5]) end
if ARGV[6] ~= '' then redis.call('SPUBLISH', ARGV[6], int(version)) end
return {'ok', int(version)}
`;

/** KEYS 1 lease · 2 sources. ARGV 1 fence · 2… sources to keep. Returns {'ok'} | {'deposed', …}. */
const KEEP_SOURCES = `${NOW}${FENCED}
local kept = {}
for i = 2, #ARGV do kept[ARGV[i]] = true end
for _, source in ipairs(redis.call('HKEYS', KEYS[2])) do
  if not kept[source] then redis.call('HDEL', KEYS[2], source) end
end
return {'ok'}
`;

/** KEYS 1 lease · 2 orphans. ARGV 1 fence · 2… pairs: id, record, or '' to forget it. Returns {'ok'} | {'deposed', …}. */
const WRITE_ORPHANS = `${NOW}${FENCED}
for i = 2, #ARGV, 2 do
  if ARGV[i + 1] == '' then redis.call('HDEL', KEYS[2], ARGV[i])
  else redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
end
return {'ok'}
`;

/**
 * What both writes of resources share. A revision is also above Redis' clock, so that after a failover that lost the
 * last writes no revision is given out twice; each journal entry names the revision before it (`p`), so that a reader
 * sees a hole.
 */
const RESOURCE = `${NOW}${INT}${FENCED}
local name, expected, channel = ARGV[3], ARGV[4], ARGV[2]
local function journal(kind, json)
  local last = tonumber(redis.call('GET', KEYS[3])) or 0
  local revision = int(math.max(last + 1, now))
  redis.call('SET', KEYS[3], revision)
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[5], revision .. '-0', 'p', int(last), 't', kind, 'o', json)
  redis.call('SPUBLISH', channel, revision)
  return revision
end
local stored = redis.call('HGET', KEYS[2], name)
local present, presentJson
if stored then present, presentJson = string.match(stored, '^(%d+) (.*)$') end
local function targetOf(worker, json) return cjson.decode(json).spec.target or worker end
local function release(target)
  if redis.call('HGET', KEYS[5], target) == name then redis.call('HDEL', KEYS[5], target) end
end
`;

/**
 * A target has one Worker. The index of targets is only as good as who wrote it: what it says is looked up, and where
 * there is none yet (of an older version, or lost) it is made.
 */
const TARGETS = `
local function index()
  if redis.call('EXISTS', KEYS[5]) == 1 then return end
  local workers = redis.call('HGETALL', KEYS[2])
  for i = 1, #workers, 2 do
    redis.call('HSETNX', KEYS[5], targetOf(workers[i], string.match(workers[i + 1], '^%d+ (.*)$')), workers[i])
  end
end
-- The Worker that has this target, if another one has.
local function otherAt(target)
  local other = redis.call('HGET', KEYS[5], target)
  if not other or other == name then return nil end
  local worker = redis.call('HGET', KEYS[2], other)
  if worker and targetOf(other, string.match(worker, '^%d+ (.*)$')) == target then return other end
end
`;

/**
 * KEYS 1 lease · 2 resources of the kind · 3 revision · 4 journal · 5 targets.
 * ARGV 1 fence or '' · 2 channel · 3 name · 4 expected revision, '0' for none there, '' for any · 5 journal entries
 *      max · 6 target of a Worker, or '' · 7 JSON without its resourceVersion.
 * Returns {'ok', revision} | {'conflict', revision or ''} | {'taken', name of the target's Worker} | {'not_found'}
 * | {'deposed', …}.
 */
const PUT_RESOURCE = `${RESOURCE}${TARGETS}
if expected == '0' and present then return {'conflict', present} end
if expected ~= '' and expected ~= '0' then
  if not present then return {'not_found'} end
  if present ~= expected then return {'conflict', present} end
end
local target, json = ARGV[6], ARGV[7]
if presentJson == json then return {'ok', present} end
if target ~= '' then
  index()
  if redis.call('HGET', KEYS[5], target) ~= name then
    local before = presentJson and targetOf(name, presentJson)
    local other = otherAt(target)
    -- Two that have shared a target since before there was an index are left as they are.
    if other and before ~= target then return {'taken', other} end
    if not other then redis.call('HSET', KEYS[5], target, name) end
    if before and before ~= target then release(before) end
  end
end
local revision = journal(present and 'MODIFIED' or 'ADDED', json)
redis.call('HSET', KEYS[2], name, revision .. ' ' .. json)
return {'ok', revision}
`;

/** KEYS and ARGV 1 to 5 as for PUT_RESOURCE. Returns {'ok', revision} | {'conflict', revision} | {'not_found'} | {'deposed', …}. */
const REMOVE_RESOURCE = `${RESOURCE}
if not present then return {'not_found'} end
if expected ~= '' and present ~= expected then return {'conflict', present} end
redis.call('HDEL', KEYS[2], name)
if cjson.decode(presentJson).kind == 'Worker' then release(targetOf(name, presentJson)) end
return {'ok', journal('DELETED', presentJson)}
`;

/**
 * Counts an event, or adds it; the longest unrepeated ones give way.
 * KEYS 1 lease · 2 events. ARGV 1 fence or '' · 2 event · 3 events max · 4 life, ms.
 * Values are '<count> <first ms> <last ms>'. Returns {'ok'} | {'deposed', …}.
 */
const RECORD_EVENT = `${NOW}${INT}${FENCED}
local known = redis.call('HGET', KEYS[2], ARGV[2])
local count, first = 0, int(now)
if known then count, first = string.match(known, '^(%d+) (%d+)') end
redis.call('HSET', KEYS[2], ARGV[2], int(tonumber(count) + 1) .. ' ' .. first .. ' ' .. int(now))
redis.call('PEXPIRE', KEYS[2], ARGV[4])
local all = redis.call('HGETALL', KEYS[2])
local oldest, oldestMs
for i = 1, #all, 2 do
  local lastMs = tonumber(string.match(all[i + 1], '(%d+)$'))
  if lastMs < now - tonumber(ARGV[4]) then
    redis.call('HDEL', KEYS[2], all[i])
  elseif all[i] ~= ARGV[2] and (not oldestMs or lastMs < oldestMs) then
    oldest, oldestMs = all[i], lastMs
  end
end
if redis.call('HLEN', KEYS[2]) > tonumber(ARGV[3]) then redis.call('HDEL', KEYS[2], oldest) end
return {'ok'}
`;

/** What ioredis' `defineCommand` needs, by the name of the method it makes. */
export const CONTROL_SCRIPTS = {
  carrierarrHold: { lua: HOLD, numberOfKeys: 2 },
  carrierarrRelease: { lua: RELEASE, numberOfKeys: 1 },
  carrierarrTargetCommands: { lua: TARGET_COMMANDS, numberOfKeys: 3 },
  carrierarrRaise: { lua: RAISE, numberOfKeys: 1 },
  carrierarrPublishStatus: { lua: PUBLISH_STATUS, numberOfKeys: 7 },
  carrierarrKeepSources: { lua: KEEP_SOURCES, numberOfKeys: 2 },
  carrierarrWriteOrphans: { lua: WRITE_ORPHANS, numberOfKeys: 2 },
  carrierarrPutResource: { lua: PUT_RESOURCE, numberOfKeys: 5 },
  carrierarrRemoveResource: { lua: REMOVE_RESOURCE, numberOfKeys: 5 },
  carrierarrRecordEvent: { lua: RECORD_EVENT, numberOfKeys: 2 },
} as const;
