-- Notes that a tenant is about to have a lease, before it has. KEYS: tenants by when to look at them (ms), when each
-- was noted last. ARGV: tenant, its lease (ms), life of both (ms).
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local looked = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', now))
if not looked or tonumber(looked) > now + ARGV[2] then
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
