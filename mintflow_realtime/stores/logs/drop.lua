-- Removing records with every trace of them. `pre` is what all of a tenant's log keys begin with.
-- A record is the field {ms}-{n} of the hash `rec`; its value is a header, then the JSON text:
--   {a|u}|{message start}|{message end}|{level}|{flow}|{run}|{node}|{…}
-- The header's first letter says whether the message is ASCII; ids are encoded, and never hold a '|'.

-- Redis's Lua unpacks some 8,000 values at most. Even, since ZADD and HSET take pairs.
local UNPACK = 2000
-- A value is up to 64 KB: 32 are 2 MB.
local READ = 32

local function bulk(command, key, list)
  for first = 1, #list, UNPACK do
    redis.call(command, key, unpack(list, first, math.min(first + UNPACK - 1, #list)))
  end
end

local function put(lists, key, value)
  local list = lists[key]
  if list then list[#list + 1] = value else lists[key] = {value} end
end

-- Drops the first `least` of `ids`, and further ones while fewer than `wanted` bytes were freed. `oldest` says that
-- `ids` are the first of all, which makes a range of each index of them: half the price of looking up each member.
local function drop(pre, ids, least, wanted, oldest)
  local gone, bytes = {}, 0
  local levels, flows, runs, nodes = {}, {}, {}, {}
  for first = 1, #ids, READ do
    if first > least and bytes >= wanted then break end
    -- Of those beyond `least` each is read to learn its size, where bytes are wanted.
    local upto = math.min(first + READ - 1, wanted > 0 and #ids or least)
    local values = redis.call('HMGET', pre .. 'rec', unpack(ids, first, upto))
    for i = 1, #values do
      local id, value = ids[first + i - 1], values[i]
      if #gone >= least and bytes >= wanted then break end
      gone[#gone + 1] = id
      if value then
        bytes = bytes + #value
        local level, flow, run, node = string.match(value, '^%a|%d+|%d+|(%a+)|([^|]*)|([^|]*)|([^|]*)|')
        put(levels, level, id)
        if flow ~= '' then put(flows, flow, id) end
        if run ~= '' then put(runs, run, id) end
        if node ~= '' then put(nodes, node, id) end
      end
    end
  end
  if not gone[1] then return end
  bulk('HDEL', pre .. 'rec', gone)
  local upto = oldest and string.match(gone[#gone], '%d+$')
  for kind, lists in pairs({level = levels, flow = flows, run = runs, node = nodes}) do
    for name, list in pairs(lists) do
      local key = pre .. kind .. ':' .. name
      if oldest then redis.call('ZREMRANGEBYSCORE', key, '-inf', upto) else bulk('ZREM', key, list) end
    end
  end
  if oldest then redis.call('ZREMRANGEBYSCORE', pre .. 'all', '-inf', upto) else bulk('ZREM', pre .. 'all', gone) end
  if bytes > 0 then redis.call('HINCRBY', pre .. 'head', 'bytes', -bytes) end
end

-- Removes at most `budget` of the records that unfinished clears have hidden, the earliest clear's first. Answers
-- whether there are more.
local function sweep(pre, budget)
  local name = redis.call('LINDEX', pre .. 'trash', 0)
  while name and budget > 0 do
    local ids = redis.call('ZRANGE', pre .. name, 0, budget - 1)
    drop(pre, ids, #ids, 0)
    if #ids > 0 then redis.call('ZREMRANGEBYRANK', pre .. name, 0, #ids - 1) end
    budget = budget - #ids
    if redis.call('EXISTS', pre .. name) == 0 then
      redis.call('LPOP', pre .. 'trash')
      name = redis.call('LINDEX', pre .. 'trash', 0)
      -- Kept until all are done: a number in it hides only what is older than its clear.
      if not name then redis.call('DEL', pre .. 'cleared') end
    end
  end
  return name and true or false
end
