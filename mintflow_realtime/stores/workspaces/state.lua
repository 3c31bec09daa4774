-- A state lies in one hash: field `s:` and the JSON text of a member's name, its value as JSON text; `v` is the
-- version, `t` the time of the last update. Nothing of it is ever decoded here.
local function read_state(key)
  local names, values, version, time = {}, {}, '0', ''
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local field = fields[i]
    if field == 'v' then
      version = fields[i + 1]
    elseif field == 't' then
      time = fields[i + 1]
    else
      local name = string.sub(field, 3)
      names[#names + 1] = name
      values[name] = fields[i + 1]
    end
  end
  return names, values, version, time
end

-- Names without a value are left out. Returns the text and how many members it has.
local function state_text(names, values)
  local members = {}
  for _, name in ipairs(names) do
    if values[name] then members[#members + 1] = name .. ':' .. values[name] end
  end
  return '{' .. table.concat(members, ',') .. '}', #members
end
