-- One slice of physical removal: what clears have hidden, then what trimming has. Answers whether there is more.
-- KEYS: head, rec, all, trash, cleared. ARGV: prefix, records at most.
-- FREES
local slice = tonumber(ARGV[2])
if redis.call('EXISTS', KEYS[4]) == 1 then
  sweep(ARGV[1], slice)
  return 1
end
local low = tonumber(redis.call('HGET', KEYS[1], 'low') or 0)
local ids = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', string.format('(%d', low), 'LIMIT', 0, slice)
drop(ARGV[1], ids, #ids, 0, true)
return #ids == slice and 1 or 0
