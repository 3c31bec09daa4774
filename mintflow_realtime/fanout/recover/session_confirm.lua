-- Forgets the offset that the last connection came with: its client has heard CONNECT. KEYS: session. ARGV: generation.
if redis.call('HGET', KEYS[1], 'generation') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'replayed', '')
end
return 'ok'
