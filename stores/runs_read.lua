-- Reads a run, and its events after a seq where all of them are held and fit.
-- KEYS: run, its kept events, the head of the namespace's event log.
-- ARGV: since ('' for no events), most bytes of events.
-- Reply: {head number, run's fields and values, events or false}.
local run = redis.call('HGETALL', KEYS[1])
local head = redis.call('HGET', KEYS[3], 'n') or '0'
if #run == 0 then return {head, run, false} end
if ARGV[1] == '' then return {head, run, false} end
local since, seq = tonumber(ARGV[1]), tonumber(redis.call('HGET', KEYS[1], 'seq'))
if since >= seq then return {head, run, {}} end
local events, next_seq, size = {}, since + 1, 0
while next_seq <= seq do
  local entries = redis.call('XRANGE', KEYS[2], string.format('%.0f', next_seq), '+', 'COUNT', 100)
  if #entries == 0 then return {head, run, false} end
  for _, entry in ipairs(entries) do
    if tonumber(string.match(entry[1], '^%d+')) ~= next_seq then return {head, run, false} end
    size = size + #entry[2][2]
    if size > tonumber(ARGV[2]) then return {head, run, false} end
    events[#events + 1] = entry[2][2]
    next_seq = next_seq + 1
  end
end
return {head, run, events}
