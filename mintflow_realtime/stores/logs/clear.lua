-- The change of a clear: the index becomes trash, and all records of it up to the last number are hidden at once.
-- What is physically there goes later, in slices. Answers with how many records vanished.
-- args: kind (flow, run or log), id, prefix, ttl ms. keys: head, rec, all, trash, cleared.
-- FREES

-- How many members are compared in one call, some 0.3 µs each.
local COMPARE = 5000
local MAX_TRASH = 64

local function number(id) return tonumber(string.match(id, '%d+$')) end

local function hidden(pre, id, value, low)
  local _, flow, run = string.match(value, '^%a|%d+|%d+|(%a+)|([^|]*)|([^|]*)|')
  local upto = redis.call('HMGET', pre .. 'cleared', 'flow:' .. flow, 'run:' .. run)
  local n = number(id)
  return n < low or n <= tonumber(upto[1] or 0) or n <= tonumber(upto[2] or 0)
end

-- How many members of the sorted set `key` an unfinished clear has hidden already; nil where that is too much work.
local function overlap(pre, key, count, low)
  local names = redis.call('LRANGE', pre .. 'trash', 0, MAX_TRASH)
  if #names >= MAX_TRASH then return nil end
  local total = 0
  for _, name in ipairs(names) do total = total + redis.call('ZCARD', pre .. name) end
  if math.min(total, count * #names) > COMPARE then return nil end
  local seen, found = {}, 0
  for _, name in ipairs(names) do
    local walked, other = pre .. name, key
    if count * #names < total then walked, other = key, pre .. name end
    local size = redis.call('ZCARD', walked)
    for first = 0, size - 1, 1000 do
      local ids = redis.call('ZRANGE', walked, first, first + 999)
      local scores = redis.call('ZMSCORE', other, unpack(ids))
      for i = 1, #ids do
        if scores[i] and not seen[ids[i]] and number(ids[i]) >= low then
          seen[ids[i]] = true
          found = found + 1
        end
      end
    end
  end
  return found
end

local function change(keys, args)
  local kind, id, pre, ttl = args[1], args[2], args[3], args[4]
  -- What is below is trimmed, though still there.
  local low = tonumber(redis.call('HGET', keys[1], 'low') or 0)
  if kind == 'log' then
    local value = redis.call('HGET', keys[2], id)
    if not value or hidden(pre, id, value, low) then return {'0'} end
    drop(pre, {id}, 1, 0)
    return {'1'}
  end
  local name = kind .. ':' .. id
  local count = redis.call('ZCOUNT', pre .. name, string.format('%d', low), '+inf')
  if count == 0 then return {'0'} end
  local gone = overlap(pre, pre .. name, count, low)
  if not gone then return nil, 'unavailable', 'An earlier clear is still being finished; try again' end
  -- With full memory a script goes on whose first write needs none: clearing is what gives some back.
  redis.call('PEXPIRE', keys[4], ttl)
  local trash = 'trash:' .. redis.call('HINCRBY', keys[1], 'trashes', 1)
  redis.call('RENAME', pre .. name, pre .. trash)
  redis.call('RPUSH', keys[4], trash)
  redis.call('PEXPIRE', keys[4], ttl)
  redis.call('HSET', keys[5], name, redis.call('HGET', keys[1], 'n'))
  redis.call('PEXPIRE', keys[5], ttl)
  return {string.format('%d', count - gone)}
end
