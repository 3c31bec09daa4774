-- Counts that a session was taken from a connection whose client was there still.
-- KEYS: session.
local now = tonumber(redis.call('TIME')[1])
local since = redis.call('HGET', KEYS[1], 'taken_since')
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if not since or now - tonumber(since) >= 60 then
  redis.call('HSET', KEYS[1], 'taken_since', string.format('%.0f', now), 'taken', '0')
end
return redis.call('HINCRBY', KEYS[1], 'taken', 1)
