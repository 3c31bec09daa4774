-- Takes a session over for a new connection, if it is the same user's with the same permissions.
-- KEYS: session. ARGV: user, '1' for an anonymous one, scope, node, life (ms), the offset that the client shows, how
--       often it may be taken from an open connection within a minute.
-- Reply: {'unknown' | 'user' | 'scope' | 'taken'} or {'ok', generation, node before, '1' if it looks open, fields and values…}.
local fields = redis.call('HGETALL', KEYS[1])
local session = {}
for i = 1, #fields, 2 do session[fields[i]] = fields[i + 1] end
if not session.generation then return {'unknown'} end
if session.anonymous ~= ARGV[2] or (ARGV[2] ~= '1' and session.user ~= ARGV[1]) then return {'user'} end
if session.scope ~= ARGV[3] then return {'scope'} end
-- Two tabs of which one was duplicated from the other have one session, and would take it from each other for ever.
if session.open == '1' and tonumber(session.taken or '0') >= tonumber(ARGV[7]) then
  if tonumber(redis.call('TIME')[1]) - tonumber(session.taken_since) < 60 then return {'taken'} end
end
local generation = string.format('%.0f', tonumber(session.generation) + 1)
redis.call('HSET', KEYS[1], 'generation', generation, 'node', ARGV[4], 'open', '1', 'replayed', ARGV[6])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return {'ok', generation, session.node, session.open, unpack(fields)}
