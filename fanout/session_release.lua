-- Hears that a session's connection ended, and that it was let go of.
-- KEYS: session. ARGV: generation, life (ms) from now on, 0 to forget it.
-- Reply: 1 where this was the current generation; otherwise nothing is done, but that the newer one learns of it.
local held = redis.call('HGET', KEYS[1], 'generation')
if held ~= ARGV[1] then
  if held then redis.call('HSET', KEYS[1], 'acked', ARGV[1]) end
  return 0
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('HSET', KEYS[1], 'open', '0')
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
