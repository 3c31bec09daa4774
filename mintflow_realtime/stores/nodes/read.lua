-- Reads the nodes that are there, or were. KEYS: leases, facts. Reply: now (ms), then node, end of its lease (ms) and
-- facts of each, the last to end first.
local clock = redis.call('TIME')
local reply = {string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000))}
local leases = redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', '-inf', 'WITHSCORES')
for i = 1, #leases, 2 do
  local facts = redis.call('HGET', KEYS[2], leases[i])
  if facts then
    reply[#reply + 1] = leases[i]
    reply[#reply + 1] = leases[i + 1]
    reply[#reply + 1] = facts
  end
end
return reply
