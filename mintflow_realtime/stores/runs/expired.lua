-- Finds a tenant's leases that are over. KEYS: leases. ARGV: how many at most.
-- Reply: {when the next one of the others ends (ms) or '', runs whose leases are over…}.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local over = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
local following = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local reply = {following[2] or ''}
for _, member in ipairs(over) do reply[#reply + 1] = member end
return reply
