-- Reads a page of a log with its head, as of one moment.
-- KEYS: head, log. ARGV: first number, last number ('+' for the newest), most bytes (one event may exceed them).
-- Reply: {epoch, last number, epoch before, where that ended, 1 if there is more up to the last, messages…}.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'n', 'ended', 'ended_at')
local page = {state[1] or '', state[2] or '0', state[3] or '', state[4] or '0', 0}
local from, bytes, most = ARGV[1], 0, tonumber(ARGV[3])
while true do
  -- Events of 1 MB make 16 MB at once.
  local some = redis.call('XRANGE', KEYS[2], from, ARGV[2], 'COUNT', 16)
  for _, entry in ipairs(some) do
    local message = entry[2][2]
    if bytes > 0 and bytes + #message > most then
      page[5] = 1
      return page
    end
    bytes = bytes + #message
    page[#page + 1] = message
    from = '(' .. entry[1]
  end
  if #some < 16 then return page end
end
