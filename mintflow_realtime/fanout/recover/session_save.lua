-- Saves what has changed of a session, under its current generation alone.
-- KEYS: session. ARGV: generation, life (ms), '1' where everything is given, number of fields, fields and values,
--       number of rooms entered, these with where each began, rooms left.
-- Reply: 'ok', 'superseded' by a newer generation, or 'missing' where it must be given whole.
local held = redis.call('HGET', KEYS[1], 'generation')
if held and held ~= ARGV[1] then return 'superseded' end
if not held and ARGV[3] ~= '1' then return 'missing' end
local at = 5
for _ = 1, tonumber(ARGV[4]) do
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  at = at + 2
end
redis.call('HSET', KEYS[1], 'generation', ARGV[1])
local entered = tonumber(ARGV[at])
at = at + 1
for _ = 1, entered do
  redis.call('HSET', KEYS[1], 'r:' .. ARGV[at], ARGV[at + 1])
  at = at + 2
end
for i = at, #ARGV do redis.call('HDEL', KEYS[1], 'r:' .. ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 'ok'
