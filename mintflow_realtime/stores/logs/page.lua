-- One slice of a page, newest first, or of an export, oldest first: the smallest index is walked, the other criteria
-- are looked up in theirs.
-- KEYS: rec, all, trash, head, and where asked for the head of an event log.
-- ARGV: prefix, before number or '', from ms or '', to ms or '', flow, run, node, levels joined by ',', records
--   wanted, bytes wanted, members walked at most, needle of a search or '', and for oldest first the number above which
--   to begin, else ''.
-- Answers {event number, id to which was read or '' for nothing, 1 at the end or 2 where the bytes are used up, texts
--   read for a search, values…}.
local rec, all = KEYS[1], KEYS[2]
local pre, before, from, to = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local want, room, walk, needle = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11]), ARGV[12]
local above = tonumber(ARGV[13])
-- A value is up to 64 KB, so that some are read at a time. A search compares this many bytes a slice: in the worst case
-- each of them with the whole needle.
local READ, SEARCH_BYTES = 32, 65536

local head = '0'
if KEYS[5] then head = redis.call('HGET', KEYS[5], 'n') or '0' end
if want == 0 then return {head, '', 1, 0} end

local function number(id) return tonumber(string.match(id, '%d+$')) end
local function time(id) return tonumber(string.match(id, '^%d+')) end

-- What is trimmed may still be there.
local least = redis.call('HGET', KEYS[4], 'low') or '-inf'
-- The number of the first one that is later than `moment`: ids of `all` are in order of time as well as of number.
local function first_after(moment)
  local low, high = 0, redis.call('ZCARD', all)
  local size = high
  while low < high do
    local middle = math.floor((low + high) / 2)
    if time(redis.call('ZRANGE', all, middle, middle)[1]) <= moment then low = middle + 1 else high = middle end
  end
  return low < size and number(redis.call('ZRANGE', all, low, low)[1]) or math.huge
end
local below = tonumber(before) or math.huge
if to then below = math.min(below, first_after(to)) end
local bound = below == math.huge and '+inf' or string.format('(%d', below)
if above then
  if from then above = math.max(above, first_after(from - 1) - 1) end
  if above == math.huge then return {head, '', 1, 0} end
  least = string.format('%d', math.max(tonumber(least) or 0, above + 1))
end
local function range(key)
  if above then return redis.call('ZRANGEBYSCORE', key, least, bound, 'LIMIT', 0, walk) end
  return redis.call('ZREVRANGEBYSCORE', key, bound, least, 'LIMIT', 0, walk)
end

-- Each criterion is a union of indexes that share no member.
local criteria = {}
for i, kind in ipairs({'flow', 'run', 'node'}) do
  if ARGV[4 + i] ~= '' then criteria[#criteria + 1] = {pre .. kind .. ':' .. ARGV[4 + i]} end
end
if ARGV[8] ~= '' then
  local levels = {}
  for level in string.gmatch(ARGV[8], '%a+') do levels[#levels + 1] = pre .. 'level:' .. level end
  criteria[#criteria + 1] = levels
end
local source, smallest = {all}, redis.call('ZCARD', all)
for _, keys in ipairs(criteria) do
  local size = 0
  for _, key in ipairs(keys) do size = size + redis.call('ZCARD', key) end
  if size < smallest then source, smallest = keys, size end
end

-- While clears are unfinished, what they hide is still there, and a member of the index that each made its trash:
-- looked up in each, 1,000 members some 0.3 ms. The more there are, the fewer are walked, and the rest is the next
-- slice's.
local trash = redis.call('LRANGE', KEYS[3], 0, -1)
if #trash > 2 then walk = math.max(math.floor(2 * walk / #trash), math.min(walk, 32)) end
-- Where nothing is looked up, each that is walked is one of the page; one more tells whether it is the last.
if not trash[1] and needle == '' and (#criteria == 0 or (#criteria == 1 and source == criteria[1])) then
  walk = math.min(walk, want + 1)
end

local ids = {}
if #source == 1 then
  ids = range(source[1])
else
  local parts, numbers, at = {}, {}, {}
  -- Upward the smallest number is next: the largest one of the negative ones.
  local sign = above and -1 or 1
  local function rank(id) return id and sign * number(id) or -math.huge end
  for k, key in ipairs(source) do
    parts[k] = range(key)
    at[k] = 1
    numbers[k] = rank(parts[k][1])
  end
  while #ids < walk do
    local best = 1
    for k = 2, #parts do
      if numbers[k] > numbers[best] then best = k end
    end
    if numbers[best] == -math.huge then break end
    ids[#ids + 1] = parts[best][at[best]]
    at[best] = at[best] + 1
    numbers[best] = rank(parts[best][at[best]])
  end
end
local finished = #ids < walk
if from and not above and ids[1] and time(ids[#ids]) < from then
  finished = true
  while ids[1] and time(ids[#ids]) < from do ids[#ids] = nil end
end
-- The next slice goes on beyond this one.
local reached = ids[#ids] or ''

for _, keys in ipairs(criteria) do
  if keys ~= source and ids[1] then
    local member = {}
    for _, key in ipairs(keys) do
      local scores = redis.call('ZMSCORE', key, unpack(ids))
      for i = 1, #ids do
        if scores[i] then member[i] = true end
      end
    end
    local kept = {}
    for i = 1, #ids do
      if member[i] then kept[#kept + 1] = ids[i] end
    end
    ids = kept
  end
end

for _, name in ipairs(trash) do
  if not ids[1] then break end
  local scores, kept = redis.call('ZMSCORE', pre .. name, unpack(ids)), {}
  for i = 1, #ids do
    if not scores[i] then kept[#kept + 1] = ids[i] end
  end
  ids = kept
end

local answer, texts, searched, done = {head, '', finished and 1 or 0, 0}, 0, 0, false
-- What a search reads beyond its bytes is read in vain, so it begins with few.
local first, count = 1, needle == '' and READ or 2
while first <= #ids do
  local values = redis.call('HMGET', rec, unpack(ids, first, math.min(first + count - 1, #ids)))
  for i = 1, #values do
    local value, at = values[i], first + i - 1
    if value and needle ~= '' then
      texts = texts + 1
      searched = searched + #value
      done = texts == want or searched >= SEARCH_BYTES
      -- A message with other letters than ASCII's is left to the caller, who knows how those fold.
      local kind, start, stop = string.match(value, '^(%a)|(%d+)|(%d+)|')
      if kind == 'a' and not string.find(string.lower(string.sub(value, -start, -stop - 1)), needle, 1, true) then
        value = false
      end
    elseif value then
      if #value > room then
        answer[3] = 2
        done = true
        break
      end
      room = room - #value
      want = want - 1
      done = want == 0
    end
    if value then answer[#answer + 1] = value end
    answer[2] = ids[at]
    if done then
      if at < #ids then answer[3] = 0 end
      break
    end
  end
  if done then break end
  first, count = first + count, math.min(2 * count, READ)
end
if not done then answer[2] = reached end
answer[4] = texts
return answer
