-- Reads a slice of the list of runs, newest first, with the head of the event log as of the same moment.
-- KEYS: list of runs, rows, order of leaving, leases, head. ARGV: highest start, lowest start (µs, as ZREVRANGEBYSCORE
-- takes them), most rows of the answer, most bytes, most rows to look at, life (ms), what keys of runs begin with,
-- most runs, text ('' for any), number of lines of which a row must have one, these, then parts that it must have all.
-- Reply: {epoch, number, where to go on (a start, '' at the end), rows looked at, rows…}.
local list = {runs = KEYS[1], rows = KEYS[2], order = KEYS[3], leases = KEYS[4]}
local from, least = ARGV[1], ARGV[2]
local most, room, looks = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local text, first_line = ARGV[9], 11 + tonumber(ARGV[10])
local clock = redis.call('TIME')
trim(list, ARGV[7], clock[1] * 1000 + math.floor(clock[2] / 1000), tonumber(ARGV[6]), tonumber(ARGV[8]))

local function matches(row)
  for i = first_line, #ARGV do if not string.find(row, ARGV[i], 1, true) then return false end end
  if text ~= '' then
    -- What is searched comes first in a row.
    local at = string.find(row, text, 4, true)
    if not at or at > string.find(row, '\n', 4, true) then return false end
  end
  if first_line == 11 then return true end
  for i = 11, first_line - 1 do if string.find(row, ARGV[i], 1, true) then return true end end
  return false
end

local head = redis.call('HMGET', KEYS[5], 'epoch', 'n')
local reply, looked, last = {head[1] or '', head[2] or '0', '', 0}, 0, nil
-- Scores are asked for one by one: with each member they cost as much as the members.
local function start_of(member) return member and redis.call('ZSCORE', list.runs, member) or '' end

while looked < looks do
  local count = math.min(200, looks - looked)
  local members = redis.call('ZREVRANGEBYSCORE', list.runs, from, least, 'LIMIT', 0, count)
  if #members == 0 then
    reply[4] = looked
    return reply
  end
  local rows = redis.call('HMGET', list.rows, unpack(members))
  for i = 1, #members do
    local row = rows[i]
    if row and matches(row) then
      if #reply - 4 == most or (#reply > 4 and #row > room) then
        reply[3], reply[4] = start_of(last), looked
        return reply
      end
      reply[#reply + 1] = row
      room = room - #row
    end
    last = members[i]
    looked = looked + 1
  end
  from = '(' .. start_of(last)
end
reply[3], reply[4] = start_of(last), looked
return reply
