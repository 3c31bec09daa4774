-- KEYS[1] the revocation. ARGV: its time in unix seconds, seconds to live, the channel, the message.
-- The later time stays where two nodes' clocks differ: an earlier one would let tokens in again.
-- FREES
local at = ARGV[1]
local before = redis.call('GET', KEYS[1])
if before and tonumber(before) > tonumber(at) then
  at = before
end
local no = unannounced(ARGV[3])
if no then return no end
-- With full memory a script goes on whose first write frees some: who is locked out must be.
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], at, 'EX', ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
