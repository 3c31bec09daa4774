-- The tenant's list of runs: by their start (`runs`, microseconds), a row of text each (`rows`), and in the order in
-- which they leave (`order`): those that have ended by the end, then those that go on by their last event.
local GOES_ON = 4e15

local function whole(number) return string.format('%.0f', number) end

local function forget(list, base, member)
  local row = redis.call('HGET', list.rows, member)
  redis.call('HDEL', list.rows, member)
  redis.call('ZREM', list.runs, member)
  redis.call('ZREM', list.order, member)
  redis.call('ZREM', list.leases, member)
  local path = row and string.match(row, '\nk:([^\n]+)')
  if path then redis.call('DEL', base .. path, base .. path .. ':events') end
end

-- Forgets a few of those whose life (ms) is over, and of those that are more than `most`.
local function trim(list, base, now, life, most)
  for _, begin in ipairs({0, GOES_ON}) do
    local old = redis.call('ZRANGEBYSCORE', list.order, whole(begin), whole(begin + now - life), 'LIMIT', 0, 10)
    for _, member in ipairs(old) do forget(list, base, member) end
  end
  local beyond = math.min(redis.call('ZCARD', list.runs) - most, 10)
  if beyond > 0 then
    for _, member in ipairs(redis.call('ZRANGE', list.order, 0, beyond - 1)) do forget(list, base, member) end
  end
end
