-- Returns tenants to be looked at now, and when each was noted; for a second nobody else is told of them.
-- KEYS: tenants by when to look at them (ms), when each was noted last. ARGV: how many at most.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local reply = {}
for _, tenant in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  redis.call('ZADD', KEYS[1], 'XX', string.format('%.0f', now + 1000), tenant)
  reply[#reply + 1] = tenant
  reply[#reply + 1] = redis.call('HGET', KEYS[2], tenant) or '0'
end
return reply
