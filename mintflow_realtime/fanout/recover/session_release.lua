-- Hears that a session's connection ended, and that it was let go of.
-- KEYS: session. ARGV: generation, life (ms) from now on, 0 to forget it.
-- Reply: 0 where a newer generation goes on with it, which learns of this; else 1, also where it was lost.
-- FREES
local held = redis.call('HGET', KEYS[1], 'generation')
if not held then return 1 end
if held ~= ARGV[1] then
  redis.call('HSET', KEYS[1], 'acked', ARGV[1])
  return 0
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('HSET', KEYS[1], 'open', '0')
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
