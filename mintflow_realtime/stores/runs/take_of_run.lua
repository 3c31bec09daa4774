-- Takes what is asked of one run, or of any of its flow; not what an engine of the flow has taken.
-- KEYS: control stream, what nobody has taken yet. ARGV: flow id, run id ('' for any), kind ('' for any), how many at most.
-- Reply: an entry for each, {its place in the stream, fields and values}; nobody else gets it.
if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
local found = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
  local fields = entry[2]
  if (ARGV[2] == '' or fields[6] == ARGV[2]) and (ARGV[3] == '' or fields[4] == ARGV[3]) and #found < tonumber(ARGV[4]) then
    local held = redis.pcall('XPENDING', KEYS[1], 'engines', entry[1], entry[1], 1)
    if held.err or #held == 0 then found[#found + 1] = entry end
  end
end
for _, entry in ipairs(found) do
  local fields = entry[2]
  redis.call('XDEL', KEYS[1], entry[1])
  redis.call('ZREM', KEYS[2], ARGV[1] .. '\n' .. fields[6] .. '\n' .. fields[4] .. '\n' .. fields[2])
end
return found
