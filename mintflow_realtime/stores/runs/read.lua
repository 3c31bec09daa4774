-- Reads a run, and its events after a seq where all of them are held: of both, as much as an answer carries.
-- KEYS: run, its kept events, the head of the namespace's event log.
-- ARGV: since ('' for no events), most bytes of the run and of its events together.
-- Reply: {head number, run's fields and values, events or false, '1' where there are more events, nodes that are left
--         out, errors of nodes that are left out}.
local run = redis.call('HGETALL', KEYS[1])
local head = redis.call('HGET', KEYS[3], 'n') or '0'
local most = tonumber(ARGV[2])
if #run == 0 then return {head, run, false, '0', 0, 0} end

-- What a node takes in an answer beside its id, its times and its error.
local NODE_BYTES = 80
local size = 0
for i = 1, #run do size = size + #run[i] end

local function shortened(room)
  local kept, ids, parts, left_nodes, left_errors = {}, {}, {b = {}, e = {}, f = {}, s = {}}, 0, 0
  for i = 1, #run, 2 do
    local kind, id = string.match(run[i], '^([besf]):(.*)$')
    if kind then
      parts[kind][id] = run[i + 1]
      if kind == 's' then ids[#ids + 1] = id end
    else
      kept[#kept + 1], kept[#kept + 2] = run[i], run[i + 1]
      room = room - #run[i + 1]
    end
  end
  local function keep(kind, id)
    local text = parts[kind][id]
    if text then kept[#kept + 1], kept[#kept + 2] = kind .. ':' .. id, text end
  end
  local shown = {}
  -- What is under way or has failed comes first, and errors last: without them the others still say how the run goes.
  for _, done in ipairs({false, true}) do
    for _, id in ipairs(ids) do
      if (parts.s[id] == 'completed') == done then
        local cost = NODE_BYTES + #id + #(parts.b[id] or '') + #(parts.f[id] or '')
        if cost <= room then
          room = room - cost
          shown[#shown + 1] = id
          keep('s', id)
          keep('b', id)
          keep('f', id)
        else
          left_nodes = left_nodes + 1
        end
      end
    end
  end
  for _, id in ipairs(shown) do
    local text = parts.e[id]
    if text and #text + 16 <= room then
      room = room - #text - 16
      keep('e', id)
    elseif text then
      left_errors = left_errors + 1
    end
  end
  return kept, left_nodes, left_errors
end

local left_nodes, left_errors = 0, 0
local wanted = ARGV[1] ~= ''
-- Fields count more than their share of the answer: a node's id is in up to four of them.
if size > (wanted and most / 2 or most) then
  run, left_nodes, left_errors = shortened(wanted and most / 2 or most)
  size = 0
  for i = 1, #run do size = size + #run[i] end
end
local function answer(events, more) return {head, run, events, more, left_nodes, left_errors} end
if not wanted then return answer(false, '0') end

local since, seq = tonumber(ARGV[1]), tonumber(redis.call('HGET', KEYS[1], 'seq'))
if since >= seq then return answer({}, '0') end
local events, next_seq = {}, since + 1
while next_seq <= seq do
  local entries = redis.call('XRANGE', KEYS[2], string.format('%.0f', next_seq), '+', 'COUNT', 100)
  if #entries == 0 then return answer(false, '0') end
  for _, entry in ipairs(entries) do
    if tonumber(string.match(entry[1], '^%d+')) ~= next_seq then return answer(false, '0') end
    size = size + #entry[2][2]
    if size > most and #events > 0 then return answer(events, '1') end
    events[#events + 1] = entry[2][2]
    next_seq = next_seq + 1
  end
end
return answer(events, '0')
