-- Writes what a node says of itself, with a lease, and forgets nodes that ended long ago. Times by Redis's clock.
-- KEYS: leases (sorted by their end, ms), facts (hash). ARGV: node, facts, lease (ms), how long an ended one is known
--       (ms), most nodes.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[3])), ARGV[1])
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - tonumber(ARGV[4])), 'LIMIT', 0, 100)
local excess = redis.call('ZCARD', KEYS[1]) - #old - tonumber(ARGV[5])
if excess > 0 then
  old = redis.call('ZRANGE', KEYS[1], 0, math.min(#old + excess, 200) - 1)
end
for _, node in ipairs(old) do
  redis.call('ZREM', KEYS[1], node)
  redis.call('HDEL', KEYS[2], node)
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
