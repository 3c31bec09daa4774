-- Adds lines to what a node writes of who is connected to it, and forgets the oldest of many. KEYS: pieces (list).
-- ARGV: lines, bytes of a whole piece, most pieces, how long they are known (ms). Reply: 1 where there were any before, else 0.
local lines = ARGV[1]
local last = redis.call('LINDEX', KEYS[1], -1)
if last and #last + #lines <= tonumber(ARGV[2]) then
  redis.call('LTRIM', KEYS[1], 0, -2)
  lines = last .. lines
end
redis.call('RPUSH', KEYS[1], lines)
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[3]), -1)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return last and 1 or 0
