-- Finds expired leases. KEYS: leases. ARGV: most of them, prefix of users.
-- Reply: workspace id and sid of each. A lease is called by its encoded workspace and its sid, and by the workspace
-- itself where that isn't what it is encoded to.
-- A lease whose user is gone is dropped.
local clock = redis.call('TIME')
local now = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000))
local found = {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local workspace, sid, rest = string.match(member, '^([^/]*)/([^/]*)(.*)$')
  if redis.call('HEXISTS', ARGV[2] .. workspace, sid) == 1 then
    found[#found + 1] = rest == '' and workspace or string.sub(rest, 2)
    found[#found + 1] = sid
  else
    redis.call('ZREM', KEYS[1], member)
  end
end
return found
