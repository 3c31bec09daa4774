-- Behind `change.lua`: an event that says that nobody took what was asked, once. keys: those of `change`, then what nobody
-- has taken yet. args: those of `change`, then which one.
local apply = change
local function change(keys, args)
  local which = table.remove(args)
  -- The one command that can't be asked for, so it comes before the first write.
  redis.call('TIME')
  if redis.call('EXISTS', keys[1]) == 0 or redis.call('ZREM', keys[8], which) == 0 then
    return nil, 'conflict', 'Somebody has taken it'
  end
  return apply(keys, args)
end
