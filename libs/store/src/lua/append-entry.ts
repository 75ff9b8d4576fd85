/**
 * The one place that writes to an output log; other scripts include it as text.
 *
 * `appendEntry(now, count, blob)` numbers the entry in its target and in its partition, stores it, publishes it on
 * the target's and on the partition's channel, and trims. Trimming goes by closed *segments* (a list of
 * `<last offset>:<bytes>:<time>`), so that a bound in bytes costs no reading of what is thrown away.
 *
 * KEYS it needs (by these local names): K_LOG, K_META, K_SEGS, K_PSEQ, K_ACTIVE, K_TARGETS, K_USAGE.
 * Locals it needs: C_OUT, C_ALL (channels), TARGET, MAX_ENTRIES, MAX_BYTES, MAX_AGE_MS.
 */
export const APPEND_ENTRY = `
local function int(n) return string.format('%d', n) end

local function appendEntry(now, count, blob)
  local meta = redis.call('HMGET', K_META, 'epoch', 'last', 'bytes', 'segBytes', 'segEntries')
  local epoch = meta[1]
  if not epoch then
    -- A log without its meta cannot be numbered on: begin a new epoch and forget the rest.
    redis.call('DEL', K_LOG, K_SEGS)
    epoch = string.format('%x', now)
    redis.call('HSET', K_META, 'epoch', epoch)
  end
  local last = (tonumber(meta[2]) or 0) + count
  local size = #blob + 96
  local bytes = (tonumber(meta[3]) or 0) + size
  local segBytes = (tonumber(meta[4]) or 0) + size
  local segEntries = (tonumber(meta[5]) or 0) + 1
  local pseq = redis.call('INCR', K_PSEQ)
  local lastText = int(last)
  redis.call('XADD', K_LOG, lastText .. '-0', 'e', blob, 'c', int(count), 't', int(now), 's', int(pseq))
  local grown = size
  if segBytes * 32 >= MAX_BYTES or segEntries * 32 >= MAX_ENTRIES then
    redis.call('RPUSH', K_SEGS, lastText .. ':' .. int(segBytes) .. ':' .. int(now))
    segBytes = 0
    segEntries = 0
    local entries = redis.call('XLEN', K_LOG)
    while true do
      local oldest = redis.call('LINDEX', K_SEGS, 0)
      if not oldest then break end
      local segLast, segSize, segTime = string.match(oldest, '^(%d+):(%d+):(%d+)$')
      if bytes <= MAX_BYTES and entries <= MAX_ENTRIES and now - tonumber(segTime) <= MAX_AGE_MS then break end
      redis.call('LPOP', K_SEGS)
      redis.call('XTRIM', K_LOG, 'MINID', int(tonumber(segLast) + 1) .. '-0')
      entries = redis.call('XLEN', K_LOG)
      bytes = bytes - tonumber(segSize)
      grown = grown - tonumber(segSize)
    end
  end
  redis.call('HSET', K_META, 'last', lastText, 'bytes', int(bytes), 'segBytes', int(segBytes), 'segEntries', int(segEntries))
  redis.call('HINCRBY', K_USAGE, TARGET, int(grown))
  redis.call('ZADD', K_ACTIVE, int(pseq), TARGET)
  redis.call('ZADD', K_TARGETS, int(now), TARGET)
  local message = epoch .. ' ' .. lastText .. ' ' .. int(count) .. ' ' .. int(pseq) .. ' ' .. int(now) .. ' ' .. TARGET .. '\\n' .. blob
  redis.call('SPUBLISH', C_OUT, message)
  redis.call('SPUBLISH', C_ALL, message)
  return last, epoch
end

local function eventBlob(execution, now, event)
  return '1 ' .. execution .. ' 0 ' .. int(now) .. ' -\\n' .. event
end
`;

/** Redis' clock in epoch ms: the only clock that several programs share. */
export const NOW = `
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
`;
