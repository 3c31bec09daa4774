-- Writes down the offset that a client showed whose replay begins. KEYS: session. ARGV: generation, offset.
if redis.call('HGET', KEYS[1], 'generation') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'replayed', ARGV[2])
end
return 'ok'
