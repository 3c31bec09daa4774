-- KEYS[1] the revocation. ARGV: its time in unix seconds, seconds to live, the channel, the message.
-- The later time stays where two nodes' clocks differ: an earlier one would let tokens in again.
local at = ARGV[1]
local before = redis.call('GET', KEYS[1])
if before and tonumber(before) > tonumber(at) then
  at = before
end
redis.call('SET', KEYS[1], at, 'EX', ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
