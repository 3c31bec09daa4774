-- Reads a page of a log with its head, as of one moment; of a longer one it says how far it goes, so that Redis writes
-- the rest to the caller as it is: to pass an entry through Lua costs four times as much as to read it.
-- KEYS: head, log. ARGV: first number, last number ('+' for the newest), most bytes (one event may exceed them).
-- Reply: {epoch, last number, epoch before, where that ended, 1 if there is more up to the last, number of the page's
--         last event where it is not among the messages, its offset, messages…}.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'n', 'ended', 'ended_at')
local page = {state[1] or '', state[2] or '0', state[3] or '', state[4] or '0', 0, '', ''}
-- Events of 1 MB make 16 MB at once.
local SOME, bytes, most = 16, 0, tonumber(ARGV[3])
local some = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[2], 'COUNT', SOME)
for _, entry in ipairs(some) do
  local message = entry[2][2]
  if bytes > 0 and bytes + #message > most then
    page[5] = 1
    return page
  end
  bytes = bytes + #message
  page[#page + 1] = message
end
if #some < SOME then return page end

-- 'b' counts the bytes ever appended: the last event up to which they are not too many is looked for by halves.
local function entry_from(number)
  return redis.call('XRANGE', KEYS[2], string.format('%.0f', number), ARGV[2], 'COUNT', 1)[1]
end
local function number_of(entry) return tonumber(string.match(entry[1], '^%d+')) end
local least = some[SOME]
local within, limit = number_of(least), tonumber(least[2][6]) - bytes + most
local beyond = (ARGV[2] == '+' and tonumber(page[2]) or tonumber(ARGV[2])) + 1
local last, newest = least, entry_from(beyond - 1)
if newest and tonumber(newest[2][6]) <= limit then
  last = newest
else
  while beyond - within > 1 do
    local middle = math.floor((within + beyond) / 2)
    local entry = entry_from(middle)
    if entry and tonumber(entry[2][6]) <= limit then
      last, within = entry, number_of(entry)
    else
      beyond = middle
    end
  end
  if entry_from(number_of(last) + 1) then page[5] = 1 end
end
if last ~= least then
  page[6], page[7] = string.match(last[1], '^%d+'), string.match(last[2][2], '^[^\n]*')
end
return page
