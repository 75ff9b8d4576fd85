/** Scripts of the mail between runners and agents: one hash for each request that is under way. All keys lie in one slot. */
import { NOW } from './append-entry.js';

const MAIL = `${NOW}
local function int(n) return string.format('%.0f', n) end
local OPEN, MAIL = KEYS[1], KEYS[2]
`;

/**
 * KEYS 1 open mail · 2 this mail. ARGV 1 execution · 2 node · 3 fence · 4 request · 5 life, ms · 6 most open · 7 channel.
 * Returns {'ok'} | {'full', n}.
 */
const MAIL_PUT = `${MAIL}
-- The same again, because the answer to the first was lost: it may be with the agent already.
if redis.call('HGET', MAIL, 'fence') == ARGV[3] then return {'ok'} end
local open = redis.call('SCARD', OPEN)
if open >= tonumber(ARGV[6]) and redis.call('SISMEMBER', OPEN, ARGV[1]) == 0 then return {'full', int(open)} end
-- What an earlier start of the same execution left.
redis.call('DEL', MAIL)
redis.call('HSET', MAIL, 'node', ARGV[2], 'fence', ARGV[3], 'request', ARGV[4], 'state', 'waiting', 'contact', int(now))
redis.call('PEXPIRE', MAIL, ARGV[5])
redis.call('SADD', OPEN, ARGV[1])
redis.call('SPUBLISH', ARGV[7], ARGV[1] .. ' ' .. ARGV[2])
return {'ok'}
`;

/**
 * Before a command is written to a stream. KEYS as above. ARGV 1 '1' if it may be sent again · 2 fence of the stream.
 * Returns {'send', request, kill or '', '1' if it was never sent before} | {'never-sent'} | {'already'} | {'gone'}.
 */
const MAIL_SEND = `${MAIL}
local mail = redis.call('HMGET', MAIL, 'request', 'state', 'kill', 'result')
if not mail[1] or mail[4] then return {'gone'} end
if mail[2] == 'waiting' then
  redis.call('HSET', MAIL, 'state', 'sent')
  if mail[3] == '1' then return {'never-sent'} end
elseif ARGV[1] ~= '1' then return {'already'} end
redis.call('HSET', MAIL, 'contact', int(now), 'stream', ARGV[2], 'repeatable', ARGV[1])
return {'send', mail[1], mail[3] or '', mail[2] == 'waiting' and '1' or ''}
`;

/** KEYS as above. ARGV 1 fence of the execution. Returns {'ok'} | {'gone'}. */
const MAIL_ACCEPTED = `${MAIL}
if redis.call('HGET', MAIL, 'fence') ~= ARGV[1] then return {'gone'} end
redis.call('HSET', MAIL, 'state', 'accepted', 'contact', int(now))
return {'ok'}
`;

/** The agents of these are within reach. KEYS mails. Returns {'ok'}. */
const MAIL_CONTACT = `${NOW}
for i = 1, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then redis.call('HSET', KEYS[i], 'contact', string.format('%.0f', now)) end
end
return {'ok'}
`;

/**
 * KEYS as above. ARGV 1 execution · 2 its fence, or '' for an agent that knows none · 3 result · 4 channel.
 * Returns {'ok'} | {'repeated'} | {'gone'}: nobody waits for it.
 */
const MAIL_RESULT = `${MAIL}
local mail = redis.call('HMGET', MAIL, 'fence', 'result')
if not mail[1] or (ARGV[2] ~= '' and mail[1] ~= ARGV[2]) then return {'gone'} end
if mail[2] then return {'repeated'} end
redis.call('HSET', MAIL, 'result', ARGV[3], 'contact', int(now))
redis.call('SPUBLISH', ARGV[4], ARGV[1])
return {'ok'}
`;

/** KEYS as above. ARGV 1 execution · 2 channel. Asks for its end. Returns {'ok'} | {'gone'}. */
const MAIL_KILL = `${MAIL}
local node = redis.call('HGET', MAIL, 'node')
if not node then return {'gone'} end
redis.call('HSET', MAIL, 'kill', '1')
redis.call('SPUBLISH', ARGV[2], ARGV[1] .. ' ' .. node)
return {'ok'}
`;

/**
 * KEYS as above. Returns {'look', state, ms since the agent was within reach, result or '', '1' if it was sent to an
 * agent that may get it again} | {'gone'}.
 */
const MAIL_LOOK = `${MAIL}
local mail = redis.call('HMGET', MAIL, 'state', 'contact', 'result', 'repeatable')
if not mail[1] then return {'gone'} end
return {'look', mail[1], int(math.max(0, now - tonumber(mail[2]))), mail[3] or '', mail[4] or ''}
`;

/** KEYS as above. ARGV 1 execution · 2 fence. Returns {'withdrawn'} | {'sent'}: too late | {'gone'}. */
const MAIL_WITHDRAW = `${MAIL}
local mail = redis.call('HMGET', MAIL, 'fence', 'state', 'result')
if mail[1] ~= ARGV[2] then return {'gone'} end
if mail[2] ~= 'waiting' or mail[3] then return {'sent'} end
redis.call('DEL', MAIL)
redis.call('SREM', OPEN, ARGV[1])
return {'withdrawn'}
`;

/** KEYS as above. ARGV 1 execution · 2 fence · 3 channel. Returns {'removed'} | {'gone'}. */
const MAIL_REMOVE = `${MAIL}
local mail = redis.call('HMGET', MAIL, 'fence', 'node', 'result')
if mail[1] and mail[1] ~= ARGV[2] then return {'gone'} end
redis.call('DEL', MAIL)
redis.call('SREM', OPEN, ARGV[1])
-- What has ended need not be told to end.
if mail[2] and not mail[3] then redis.call('SPUBLISH', ARGV[3], ARGV[1] .. ' ' .. mail[2]) end
return {mail[1] and 'removed' or 'gone'}
`;

/** What ioredis' `defineCommand` needs, by the name of the method it makes. */
export const MAIL_SCRIPTS = {
  carrierarrMailPut: { lua: MAIL_PUT, numberOfKeys: 2 },
  carrierarrMailSend: { lua: MAIL_SEND, numberOfKeys: 2 },
  carrierarrMailAccepted: { lua: MAIL_ACCEPTED, numberOfKeys: 2 },
  carrierarrMailContact: { lua: MAIL_CONTACT },
  carrierarrMailResult: { lua: MAIL_RESULT, numberOfKeys: 2 },
  carrierarrMailKill: { lua: MAIL_KILL, numberOfKeys: 2 },
  carrierarrMailLook: { lua: MAIL_LOOK, numberOfKeys: 2 },
  carrierarrMailWithdraw: { lua: MAIL_WITHDRAW, numberOfKeys: 2 },
  carrierarrMailRemove: { lua: MAIL_REMOVE, numberOfKeys: 2 },
} as const;
