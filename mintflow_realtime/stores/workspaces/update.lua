-- The change of an update, of two events: the call for the first checks and writes everything, and answers with the
-- state, the version and the time; the call for the second answers with the delta, the version and the time.
-- keys: the workspace.
-- args of the first: base version ('' for any), 'merge' or 'replace', time, life (ms), most bytes, most members,
--       '1' where the second brings the delta, number of members given, their names and values in turn, names that vanish.
-- args of the second: the delta, or ''.
local version, time, delta

-- How many fields one call takes: Lua's stack holds 8,000 values.
local AT_ONCE = 2000

local function call_all(command, key, values)
  for first = 1, #values, AT_ONCE do
    redis.call(command, key, unpack(values, first, math.min(first + AT_ONCE - 1, #values)))
  end
end

-- The JSON pointer of a top-level member, as JSON text. In the text of a name as msgspec writes it, `~` and `/` stand
-- for themselves and are part of no escape.
local function pointer(name)
  return '"/' .. string.gsub(string.gsub(string.sub(name, 2), '~', '~0'), '/', '~1')
end

local function delta_of(written, values, gone, state, most_bytes)
  local operations = {}
  for _, name in ipairs(gone) do operations[#operations + 1] = '{"op":"remove","path":' .. pointer(name) .. '}' end
  for _, name in ipairs(written) do
    operations[#operations + 1] = '{"op":"add","path":' .. pointer(name) .. ',"value":' .. values[name] .. '}'
  end
  local text = '[' .. table.concat(operations, ',') .. ']'
  -- Many small members take several times their own length. So a delta is hardly longer than a state may be.
  if #text > most_bytes then return '[{"op":"replace","path":"","value":' .. state .. '}]' end
  return text
end

local function change(keys, args)
  if version then return {args[1] ~= '' and args[1] or delta, version, time} end
  local key = keys[1]
  local names, values, held, held_time = read_state(key)
  if args[1] ~= '' and args[1] ~= held then
    local state = state_text(names, values)
    return nil, 'conflict', 'The workspace is at version ' .. held, {held, state, held_time}
  end
  local count = tonumber(args[8])
  local replaces = args[2] == 'replace'
  local fresh, fields, written, gone = {}, {}, {}, {}
  for i = 1, count do
    local name, value = args[7 + 2 * i], args[8 + 2 * i]
    fresh[name] = true
    if not (replaces and values[name] == value) then written[#written + 1] = name end
    fields[2 * i - 1], fields[2 * i] = 's:' .. name, value
    if not values[name] then names[#names + 1] = name end
    values[name] = value
  end
  if replaces then
    for _, name in ipairs(names) do
      if not fresh[name] then gone[#gone + 1] = name end
    end
  else
    for i = 9 + 2 * count, #args do
      if values[args[i]] then gone[#gone + 1] = args[i] end
    end
  end
  local lost = {}
  for i, name in ipairs(gone) do
    values[name] = nil
    lost[i] = 's:' .. name
  end
  local state, members = state_text(names, values)
  if #state > tonumber(args[5]) then
    return nil, 'too_large', 'A workspace is at most ' .. args[5] .. ' bytes of JSON'
  end
  if members > tonumber(args[6]) then
    return nil, 'too_large', 'A workspace has at most ' .. args[6] .. ' top-level members'
  end

  version = string.format('%.0f', tonumber(held) + 1)
  -- A node whose clock is behind must not let time run back.
  time = held_time > args[3] and held_time or args[3]
  call_all('HDEL', key, lost)
  call_all('HSET', key, fields)
  redis.call('HSET', key, 'v', version, 't', time)
  redis.call('PEXPIRE', key, args[4])
  if args[7] ~= '1' then delta = delta_of(written, values, gone, state, tonumber(args[5])) end
  return {state, version, time}
end
