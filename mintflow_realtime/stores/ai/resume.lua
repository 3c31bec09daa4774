-- Reads a request and its chunks, and the number of the event log at exactly then.
-- KEYS: the request, its chunks, the head of the namespace's event log.
-- ARGV: the index before the first chunk wanted.
-- Reply: {head number, request's fields and values, chunk ids and fields}.
local held = redis.call('HGETALL', KEYS[1])
local chunks = {}
if #held > 0 then
  redis.call('HSET', KEYS[1], 'seen', redis.call('TIME')[1] .. '000')
  chunks = redis.call('XRANGE', KEYS[2], '1-' .. ARGV[1], '+')
end
return {redis.call('HGET', KEYS[3], 'n') or '0', held, chunks}
