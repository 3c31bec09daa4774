-- Finds requests whose leases are over, by Redis's clock, which gave them. KEYS: the tenant's running requests.
-- ARGV: most of them. Reply: their names.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
