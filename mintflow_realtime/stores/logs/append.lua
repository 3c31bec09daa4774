-- The change of an append: called once a record, it answers with the id and time at once and writes all of the
-- script's records in the last call, whose args go on after the seventh: one ZADD of many costs half of many ZADDs.
-- args: ms, level, flow, run, node, mark (the header's first three parts), body
-- and in the last: prefix, max records, ttl ms, max bytes.
-- keys: head, rec, all, trash, cleared.
local batch, last, now = {}, nil, nil

local TEXT = {}
local function iso(ms)
  if TEXT[ms] then return TEXT[ms] end
  -- Days to a date of the Gregorian calendar, in eras of 400 years that begin in March.
  local floor = math.floor
  local seconds = floor(ms / 1000)
  local z = floor(seconds / 86400) + 719468
  local era = floor(z / 146097)
  local doe = z - era * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
  local mp = floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  local text = string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month,
    doy - floor((153 * mp + 2) / 5) + 1, floor(seconds / 3600) % 24, floor(seconds / 60) % 60, seconds % 60, ms % 1000)
  TEXT[ms] = text
  return text
end

-- How many records of a full log, and how many that clears have hidden, an append removes; what is left stays hidden
-- until later appends, or a purge, remove it: four times as many as a slice of a batch brings. Beyond `SLACK` records
-- hidden by `low`, an append removes as many as it adds.
local SLICE, SWEEP, SLACK = 100, 100, 10000

-- What comes due with each append is looked at, or removed, for many of them at once: age each time that a part
-- of the ttl has passed, and what is beyond the most records, which nobody sees, once there are so many.
local PARTS, BEYOND = 1024, 32

-- At most `max` records and `max_bytes`, and none older than `ttl`, by the oldest. While a clear is unfinished, `all`
-- counts records that nobody sees any more, and the oldest that are seen would go in their place: let it have more then.
-- `look` says to look at age. Answers the number below which records are trimmed, and whether there may be more to do.
local function trim(pre, added, max, ttl, max_bytes, bytes, clearing, low, look)
  local all = pre .. 'all'
  local over = clearing and 0 or redis.call('ZCARD', all) - max
  if over > 0 then low = math.max(low, tonumber(string.match(redis.call('ZRANGE', all, over, over)[1], '%d+$'))) end
  local horizon, excess = last.ms - ttl, bytes - max_bytes
  local function due(id)
    local ms, n = string.match(id, '(%d+)-(%d+)')
    return tonumber(n) < low or tonumber(ms) < horizon
  end
  if excess <= 0 and not look and over < math.min(BEYOND, max / 64) then return low, false end
  if excess <= 0 and not due(redis.call('ZRANGE', all, 0, 0)[1]) then return low, false end
  -- Large records push out more small ones than there are of them.
  local budget = SLICE + (excess > 0 and math.floor(added / 2048) or 0) + (over > SLACK and #batch or 0)
  local ids = redis.call('ZRANGE', all, 0, (look or excess > 0) and budget - 1 or math.min(budget, over) - 1)
  local least = 0
  while least < #ids and due(ids[least + 1]) do least = least + 1 end
  drop(pre, ids, least, excess, true)
  return low, least == budget
end

local function put_pair(lists, key, n, id)
  local list = lists[key]
  if list then
    local size = #list
    list[size + 1], list[size + 2] = n, id
  else
    lists[key] = {n, id}
  end
end

local function flush(pre, max, ttl, max_bytes)
  local clearing = sweep(pre, SWEEP)
  local every, values, added = {}, {}, 0
  local lists = {level = {}, flow = {}, run = {}, node = {}}
  local levels, flows, runs, nodes = lists.level, lists.flow, lists.run, lists.node
  for i = 1, #batch do
    local id, n, args = batch[i].id, batch[i].n, batch[i].args
    local level, flow, run, node = args[2], args[3], args[4], args[5]
    local value = args[6] .. '|' .. level .. '|' .. flow .. '|' .. run .. '|' .. node .. '|{"logId":"' .. id
      .. args[7] .. batch[i].iso .. '"}'
    added = added + #value
    values[2 * i - 1], values[2 * i] = id, value
    every[2 * i - 1], every[2 * i] = n, id
    put_pair(levels, level, n, id)
    if flow ~= '' then put_pair(flows, flow, n, id) end
    if run ~= '' then put_pair(runs, run, n, id) end
    if node ~= '' then put_pair(nodes, node, n, id) end
  end
  bulk('HSET', pre .. 'rec', values)
  bulk('ZADD', pre .. 'all', every)
  for kind, keys in pairs(lists) do
    for name, list in pairs(keys) do
      bulk('ZADD', pre .. kind .. ':' .. name, list)
      redis.call('PEXPIRE', pre .. kind .. ':' .. name, ttl)
    end
  end
  local bytes = redis.call('HINCRBY', pre .. 'head', 'bytes', added)
  local part = math.max(1, math.floor(ttl / PARTS))
  local look = last.more or math.floor(last.ms / part) > math.floor(last.before / part)
  local low, more = trim(pre, added, max, ttl, max_bytes, bytes, clearing, last.low, look)
  redis.call('HSET', pre .. 'head', 'n', last.n, 'ms', last.ms, 'low', string.format('%d', low), 'more', more and 1 or 0)
  for _, name in ipairs({'rec', 'all', 'head'}) do redis.call('PEXPIRE', pre .. name, ttl) end
end

local function change(keys, args)
  if not last then
    local saved = redis.call('HMGET', keys[1], 'n', 'ms', 'low', 'more')
    last = {n = tonumber(saved[1] or 0), ms = tonumber(saved[2] or 0), low = tonumber(saved[3] or 0)}
    last.before, last.more = last.ms, saved[4] ~= '0'
    local clock = redis.call('TIME')
    now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  end
  last.n = last.n + 1
  -- Never back, since order by time is order by number; never ahead of Redis's clock, since one node whose clock
  -- is a year ahead would date all records of its tenant for a year.
  last.ms = math.max(last.ms, math.min(tonumber(args[1]), now))
  local n, text = string.format('%d', last.n), iso(last.ms)
  local id = string.format('%d-', last.ms) .. n
  batch[#batch + 1] = {id = id, n = n, ms = last.ms, iso = text, args = args}
  if args[8] then
    flush(args[8], tonumber(args[9]), tonumber(args[10]), tonumber(args[11]))
    batch = {}
  end
  return {id, text}
end
