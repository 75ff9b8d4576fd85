/**
 * Scripts of the registry of nodes. All keys lie in one slot.
 *
 * All but the last have KEYS 1 nodes · 2 aliases · 3 registration by gRPC · 4 by AMQP · 5 status · 6 heartbeat ·
 * 7 streams · 8 seen by gRPC · 9 by AMQP · 10 versions · 11 removed · 12 meta · 13 left · 14 monitors, and ARGV 1 the epoch to begin
 * with if there is none; its own arguments follow as A[1]…
 */
import { NOW } from './append-entry.js';

const NODE_SCRIPT_KEYS = 14;

/** How long it is remembered that a node said that it goes, ms. An agent that is upgraded is back before. */
export const LEFT_KEPT_MS = 600_000;
/** A stream that ends so soon after its agent deregistered was ended by it, ms: what only broke is noticed within that, too. */
const LEFT_STREAM_MS = 60_000;
/** Names and keys of such nodes, with when they said so, that are remembered; the ones that left first go. Up to nine each. */
const LEFT_MAX = 60_000;

const PREAMBLE = `${NOW}
local K_NODES, K_ALIASES, K_REG_GRPC, K_REG_AMQP, K_STATUS, K_BEAT = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local K_STREAMS, K_SEEN_GRPC, K_SEEN_AMQP, K_VERSIONS, K_REMOVED, K_META = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local K_LEFT, K_MONITORS = KEYS[13], KEYS[14]
local PARTS = {K_REG_GRPC, K_REG_AMQP, K_STATUS, K_BEAT, K_STREAMS}
local A = {}
for i = 2, #ARGV do A[i - 1] = ARGV[i] end
local function int(n) return string.format('%.0f', n) end

local function nextVersion()
  if redis.call('HSETNX', K_META, 'epoch', ARGV[1]) == 1 then redis.call('HSET', K_META, 'version', '0', 'floor', '0') end
  return redis.call('HINCRBY', K_META, 'version', 1)
end

local function changed(key)
  redis.call('ZADD', K_VERSIONS, nextVersion(), key)
  redis.call('ZREM', K_REMOVED, key)
end

local function isKnown(key) return redis.call('HEXISTS', K_NODES, key) == 1 end

local function resolve(name)
  local key = redis.call('HGET', K_ALIASES, name)
  if key and isKnown(key) then return key end
  return name
end

local function lastSeen(key)
  return math.max(tonumber(redis.call('ZSCORE', K_SEEN_GRPC, key)) or 0, tonumber(redis.call('ZSCORE', K_SEEN_AMQP, key)) or 0)
end

-- False if there are as many nodes as are allowed.
local function admit(key, max)
  if isKnown(key) then return true end
  if redis.call('HLEN', K_NODES) >= tonumber(max) then return false end
  redis.call('HSET', K_NODES, key, key)
  redis.call('HSET', K_ALIASES, key, key)
  return true
end

local function drop(key)
  for _, name in ipairs({key, redis.call('HGET', K_NODES, key)}) do
    if redis.call('HGET', K_ALIASES, name) == key then redis.call('HDEL', K_ALIASES, name) end
  end
  redis.call('HDEL', K_NODES, key)
  for _, part in ipairs(PARTS) do redis.call('HDEL', part, key) end
  redis.call('ZREM', K_SEEN_GRPC, key)
  redis.call('ZREM', K_SEEN_AMQP, key)
  redis.call('ZREM', K_VERSIONS, key)
  redis.call('ZADD', K_REMOVED, nextVersion(), key)
end

-- K_LEFT has names by when they left, by Redis' clock. When that was by the agent's clock is in a second member of the same
-- score, since earlier releases read the first: the name, a line feed, which no name has, '=' and that time; or '>' and
-- what is known to be no later, if it did not tell. A third one has '#:' and the number of the agent's start, which is no time to
-- releases that look for one. Nil if it is not remembered that it left.
local function leftOf(name)
  local at = redis.call('ZSCORE', K_LEFT, name)
  if not at or now - tonumber(at) >= ${LEFT_KEPT_MS} then return nil end
  local left = {at = at, isExact = false}
  local own = name .. '\\n'
  for _, each in ipairs(redis.call('ZRANGEBYSCORE', K_LEFT, at, at)) do
    if string.sub(each, 1, #own) == own then
      local kind, said = string.sub(each, #own + 1, #own + 1), tonumber(string.sub(each, #own + 2))
      if kind == '#' then
        left.start = math.max(left.start or 0, tonumber(string.sub(each, #own + 3)) or 0)
      elseif said and (not left.said or said > left.said) then
        left.said, left.isExact = said, kind == '='
      end
    end
  end
  return left
end

local function rememberLeft(names, at, said, isExact, start)
  redis.call('ZREMRANGEBYSCORE', K_LEFT, '-inf', int(now - ${LEFT_KEPT_MS}))
  for _, each in ipairs(names) do
    redis.call('ZADD', K_LEFT, at, each)
    if said then redis.call('ZADD', K_LEFT, at, each .. '\\n' .. (isExact and '=' or '>') .. int(said)) end
    if start then redis.call('ZADD', K_LEFT, at, each .. '\\n#:' .. int(start)) end
  end
  redis.call('ZREMRANGEBYRANK', K_LEFT, 0, ${-LEFT_MAX - 1})
  redis.call('PEXPIRE', K_LEFT, ${LEFT_KEPT_MS})
end

local function numberIn(text, field)
  local isRead, value = pcall(cjson.decode, text or '')
  return isRead and type(value) == 'table' and tonumber(value[field]) or nil
end

-- By Redis' clock.
local function registeredMsIn(text) return numberIn(text, 'registered_ms') end

-- The largest of what it said over AMQP and was taken last; nil if it told none.
local function lastIn(key, field)
  local last
  for _, part in ipairs({K_REG_AMQP, K_BEAT}) do
    local said = numberIn(redis.call('HGET', part, key), field)
    if said and (not last or said > last) then last = said end
  end
  return last
end

-- Called so by itself, it says that it goes. By its own clock that is at 'said', if it told; 'start' is the number of that start.
local function rememberGoing(key, name, said, start)
  local names = {key, name, redis.call('HGET', K_NODES, key)}
  rememberLeft(names, int(now), said or lastIn(key, 'said_ms'), said ~= nil, start or lastIn(key, 'start_number'))
end

local function leave(key, name, said, start)
  rememberGoing(key, name, said, start)
  drop(key)
end
`;

const registryScript = (body: string) => PREAMBLE + body;

/**
 * A: 1 name or '' · 2 instance id or '' · 3 registration without its registered_ms · 4 'grpc' | 'amqp' · 5 most nodes · 6 how long a silent node
 * keeps its name, ms · 7 when it said so by its own clock, epoch ms, or '' · 8 registered_ms
 * · 9 silence from which a node is stale if no monitor has said, ms · 10 number of the agent's start, or ''.
 * Returns {'registered', key, name} | {'full', n} | {'outdated', key}: by AMQP, and older than the word that it goes.
 */
const REGISTER = registryScript(`
local name, instance = A[1], A[2]
if name == '' then name = instance end
local key = instance ~= '' and instance or resolve(name)
-- Several monitors read the queue, so what an agent said before it left may be heard after that. The start that left says nothing
-- any more, and a later one counts whatever the clock says. Without such numbers time by time only: an agent that tells seconds may
-- be back within the one in which it left.
if A[4] == 'amqp' then
  local said, start = tonumber(A[7]), tonumber(A[10])
  for _, each in ipairs({key, name}) do
    local left = leftOf(each)
    if left and start and left.start then
      if start <= left.start then return {'outdated', key} end
    elseif left and said and left.said and said < left.said then
      return {'outdated', key}
    end
  end
end
if not admit(key, A[5]) then return {'full', int(redis.call('HLEN', K_NODES))} end
if instance ~= '' and name ~= key and isKnown(name) then
  -- It was known by its host name alone so far: that node is this one.
  for _, part in ipairs(PARTS) do
    local value = redis.call('HGET', part, name)
    if value then redis.call('HSETNX', part, key, value) end
  end
  for _, seen in ipairs({K_SEEN_GRPC, K_SEEN_AMQP}) do
    local score = redis.call('ZSCORE', seen, name)
    if score then redis.call('ZADD', seen, 'GT', score, key) end
  end
  drop(name)
  redis.call('HSET', K_ALIASES, name, key)
end
local since = A[8]
if A[4] == 'amqp' and isKnown(key) then
  -- Agents repeat it while they live. One that was not silent has been there since the first.
  local staleMs = string.match(redis.call('HGET', K_META, 'limits') or '', '^%d+') or A[9]
  local before = registeredMsIn(redis.call('HGET', K_REG_AMQP, key))
  if before and before < tonumber(since) and now - lastSeen(key) < tonumber(staleMs) then since = int(before) end
end
local registration = '{"registered_ms":' .. since .. ',' .. string.sub(A[3], 2)
if A[4] == 'grpc' then
  local holder = redis.call('HGET', K_ALIASES, name)
  -- What a machine was called before leads to it only until another is called so.
  local isHolders = holder and redis.call('HGET', K_NODES, holder) == name
  if not isHolders or holder == key or now - lastSeen(holder) >= tonumber(A[6]) then
    if isHolders and holder ~= key then
      redis.call('HSET', K_NODES, holder, holder)
      changed(holder)
    end
    redis.call('HSET', K_ALIASES, name, key)
    redis.call('HSET', K_NODES, key, name)
  end
  redis.call('HSET', K_REG_GRPC, key, registration)
  redis.call('ZADD', K_SEEN_GRPC, int(now), key)
else
  redis.call('HSET', K_REG_AMQP, key, registration)
  redis.call('ZADD', K_SEEN_AMQP, int(now), key)
end
changed(key)
return {'registered', key, redis.call('HGET', K_NODES, key)}
`);

/**
 * A: 1 name · 2 key that is known to be meant, or '' · 3 monitor · 4 most nodes · 5 channel.
 * Returns {'open', key, fence, name} | {'full', n}.
 */
const OPEN_STREAM = registryScript(`
local key = A[2] ~= '' and isKnown(A[2]) and A[2] or resolve(A[1])
if not admit(key, A[4]) then return {'full', int(redis.call('HLEN', K_NODES))} end
-- Also above Redis' clock: after a failover that lost the last writes, a new fence is still above every older one.
local fence = int(math.max((tonumber(redis.call('HGET', K_META, 'fence')) or 0) + 1, now))
redis.call('HSET', K_META, 'fence', fence)
redis.call('HSET', K_STREAMS, key, fence .. ' ' .. int(now) .. ' ' .. A[3])
redis.call('ZADD', K_SEEN_GRPC, int(now), key)
changed(key)
redis.call('SPUBLISH', A[5], fence .. ' ' .. key)
return {'open', key, fence, redis.call('HGET', K_NODES, key)}
`);

/**
 * A: 1 key · 2 fence of the stream · 3 'status' (4 its text) | 'close' | 'alive' | 'goodbye': it goes, and the node with it.
 * Returns {'ok', key} | {'fenced'}: another stream of the node is newer.
 */
const STREAM_SAYS = registryScript(`
local key = resolve(A[1])
local stream = redis.call('HGET', K_STREAMS, key)
if not stream or string.match(stream, '^%d+') ~= A[2] then return {'fenced'} end
if A[3] == 'close' then
  local since = string.match(stream, '^%d+ (%d+) ')
  if not since then return {'ok', key} end
  -- Over AMQP it said meanwhile that it goes.
  local left = redis.call('HEXISTS', K_REG_AMQP, key) == 0 and leftOf(key)
  if left and tonumber(left.at) >= tonumber(since) and now - tonumber(left.at) < ${LEFT_STREAM_MS} then
    drop(key)
    return {'ok', key}
  end
  redis.call('HSET', K_STREAMS, key, A[2] .. ' ' .. int(now))
  changed(key)
  return {'ok', key}
end
if A[3] == 'goodbye' then
  leave(key, A[1])
  return {'ok', key}
end
redis.call('ZADD', K_SEEN_GRPC, int(now), key)
if A[3] == 'status' then
  redis.call('HSET', K_STATUS, key, A[4])
  changed(key)
end
return {'ok', key}
`);

/** A: 1 name. A heartbeat by gRPC. Returns {'ok', key} | {'unknown'}. */
const BEAT_GRPC = registryScript(`
local key = resolve(A[1])
if not isKnown(key) then return {'unknown'} end
redis.call('ZADD', K_SEEN_GRPC, int(now), key)
return {'ok', key}
`);

/**
 * A: 1 name · 2 heartbeat · 3 most nodes · 4 when it said so by its own clock, epoch ms, or '' · 5 number of the agent's start, or ''.
 * Returns {'ok', key} | {'full', n} | {'outdated', key}: it has left, and this does not say that it is back over AMQP.
 */
const BEAT_AMQP = registryScript(`
local key = resolve(A[1])
-- Heartbeats have a queue of their own, so one may be heard after the word that its node goes. Where neither starts nor times tell, it
-- waits for a registration, or until that word is forgotten: agents register when they start.
local left = (not isKnown(key) or redis.call('HEXISTS', K_REG_AMQP, key) == 0) and leftOf(key)
if left then
  local said, start = tonumber(A[4]), tonumber(A[5])
  local isBack = said and left.isExact and said > left.said
  if start and left.start then isBack = start > left.start end
  if not isBack then return {'outdated', key} end
end
if not admit(key, A[3]) then return {'full', int(redis.call('HLEN', K_NODES))} end
redis.call('HSET', K_BEAT, key, A[2])
redis.call('ZADD', K_SEEN_AMQP, int(now), key)
changed(key)
return {'ok', key}
`);

/**
 * A: 1 name · 2 when it said so by its own clock, epoch ms, or '' · 3 pause after which a monitor does not live, ms
 * · 4 number of the agent's start, or ''. It said over AMQP that it goes.
 * Returns {'removed', key} | {'kept', key}: it has a stream, whose end takes it away if that follows soon
 * | {'outdated', key}: it registered anew since | {'unknown'}.
 */
const DEREGISTER = registryScript(`
local key = resolve(A[1])
local said, start = tonumber(A[2]), tonumber(A[4])
if not isKnown(key) then
  -- It said so over its stream before, and now when; or what it said earlier is still to come.
  local left = leftOf(key)
  if not left or said or start then rememberLeft({key}, left and left.at or int(now), said, true, start) end
  return {'unknown'}
end
-- Several monitors read the queue, so an agent that restarts may be heard in the wrong order.
local registration = redis.call('HGET', K_REG_AMQP, key)
local registered, started = numberIn(registration, 'said_ms'), numberIn(registration, 'start_number')
if start and started then
  if started > start then return {'outdated', key} end
elseif said and registered and registered > said then
  return {'outdated', key}
end
-- What a monitor served that died is no stream.
local monitor = string.match(redis.call('HGET', K_STREAMS, key) or '', '^%d+ %d+ (.+)$')
if monitor and now - (tonumber(redis.call('ZSCORE', K_MONITORS, monitor)) or 0) <= tonumber(A[3]) then
  rememberGoing(key, A[1], said, start)
  redis.call('HDEL', K_REG_AMQP, key)
  redis.call('HDEL', K_BEAT, key)
  redis.call('ZREM', K_SEEN_AMQP, key)
  changed(key)
  return {'kept', key}
end
leave(key, A[1], said, start)
return {'removed', key}
`);

/**
 * A: 1 last seen before, epoch ms · 2 most removals remembered · 3… keys. Forgets those that were silent since.
 * Returns {'ok', forgotten}.
 */
const FORGET = registryScript(`
local count = 0
for i = 3, #A do
  if isKnown(A[i]) and lastSeen(A[i]) < tonumber(A[1]) then
    drop(A[i])
    count = count + 1
  end
end
local surplus = redis.call('ZCARD', K_REMOVED) - tonumber(A[2])
if surplus > 0 then
  local gone = redis.call('ZPOPMIN', K_REMOVED, surplus)
  redis.call('HSET', K_META, 'floor', gone[#gone])
end
return {'ok', int(count)}
`);

/**
 * This monitor listens. KEYS 1 listening · 2 monitors. ARGV 1 monitor, or '' if it serves no agents · 2 longest pause that is none, ms
 * · 3… channels.
 * Returns {'ok'}.
 */
const LISTEN = `${NOW}
local function int(n) return string.format('%.0f', n) end
if ARGV[1] ~= '' then redis.call('ZADD', KEYS[2], int(now), ARGV[1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', int(now - 100 * tonumber(ARGV[2])))
for i = 3, #ARGV do
  local since, untilMs = string.match(redis.call('HGET', KEYS[1], ARGV[i]) or '', '^(%d+) (%d+)$')
  if not since or now > tonumber(untilMs) then since = int(now) end
  redis.call('HSET', KEYS[1], ARGV[i], since .. ' ' .. int(now + tonumber(ARGV[2])))
end
return {'ok'}
`;

/** What ioredis' `defineCommand` needs, by the name of the method it makes. */
export const NODE_SCRIPTS = {
  carrierarrRegister: { lua: REGISTER, numberOfKeys: NODE_SCRIPT_KEYS },
  carrierarrOpenStream: { lua: OPEN_STREAM, numberOfKeys: NODE_SCRIPT_KEYS },
  carrierarrStreamSays: { lua: STREAM_SAYS, numberOfKeys: NODE_SCRIPT_KEYS },
  carrierarrBeatGrpc: { lua: BEAT_GRPC, numberOfKeys: NODE_SCRIPT_KEYS },
  carrierarrBeatAmqp: { lua: BEAT_AMQP, numberOfKeys: NODE_SCRIPT_KEYS },
  carrierarrDeregister: { lua: DEREGISTER, numberOfKeys: NODE_SCRIPT_KEYS },
  carrierarrForgetNodes: { lua: FORGET, numberOfKeys: NODE_SCRIPT_KEYS },
  carrierarrListen: { lua: LISTEN, numberOfKeys: 2 },
} as const;
