-- Returns batches that should have been done by now, and gives whoever asks as long for them.
-- KEYS: batches under way. ARGV: how long one may take (ms), how many at most.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[1]), 'LIMIT', 0, ARGV[2])
for _, batch in ipairs(due) do redis.call('ZADD', KEYS[1], 'XX', now, batch) end
return due
