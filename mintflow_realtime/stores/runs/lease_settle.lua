-- Says when to look at a tenant next, unless it was noted meanwhile or so lately that its lease may not be there yet:
-- then in a second, as `lease_look.lua` has set it. KEYS: tenants by when to look at them (ms), when each was noted last.
-- ARGV: tenant, when it was noted, when to look ('' for never), life of both (ms), how long a publish may take (ms).
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if (redis.call('HGET', KEYS[2], ARGV[1]) or '0') ~= ARGV[2] or now - ARGV[2] < tonumber(ARGV[5]) then return end
if ARGV[3] == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[1])
else
  redis.call('ZADD', KEYS[1], 'XX', ARGV[3], ARGV[1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
