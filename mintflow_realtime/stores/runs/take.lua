-- Takes what is asked of a flow's engine: what one that died had taken, then what nobody has; each for one process alone.
-- KEYS: control stream, what nobody has taken yet. ARGV: consumer, after how long one counts as dead (ms), how many at
-- most, flow id. Reply: an entry for each, {its place in the stream, fields and values}.
if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
-- It is there already, as a rule.
redis.pcall('XGROUP', 'CREATE', KEYS[1], 'engines', '0')
local found, most = {}, tonumber(ARGV[3])
for _, entry in ipairs(redis.call('XAUTOCLAIM', KEYS[1], 'engines', ARGV[1], ARGV[2], '0', 'COUNT', most)[2]) do
  -- 6.2 tells of deleted ones too.
  if entry and entry[2] then found[#found + 1] = entry end
end
if #found < most then
  local new = redis.call('XREADGROUP', 'GROUP', 'engines', ARGV[1], 'COUNT', most - #found, 'STREAMS', KEYS[1], '>')
  for _, entry in ipairs(new and new[1][2] or {}) do found[#found + 1] = entry end
end
for _, entry in ipairs(found) do
  local fields = entry[2]
  redis.call('ZREM', KEYS[2], ARGV[4] .. '\n' .. fields[6] .. '\n' .. fields[4] .. '\n' .. fields[2])
end
return found
