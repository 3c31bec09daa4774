-- Behind `change.lua`: an event that asks something of the engine, which finds it in the stream of its flow.
-- keys: those of `change`, then the flow's control stream, and what nobody has taken yet. args: those of `change`, then
-- when it is told that nobody took it (ms from now), most that may wait, id, kind, run id, attempt's life (ms), what is asked
-- (JSON text).
local apply = change
local function change(keys, args)
  local asked, life, run_id, kind = table.remove(args), table.remove(args), table.remove(args), table.remove(args)
  local id, most, patience = table.remove(args), tonumber(table.remove(args)), tonumber(table.remove(args))
  local control, unclaimed = keys[8], keys[9]
  local clock = redis.call('TIME')
  if redis.call('EXISTS', keys[1]) == 0 then return nil, 'not_found', 'There is no such run' end
  if redis.call('XLEN', control) >= most then
    return nil, 'too_large', 'The engine of this flow has not taken what was asked of it before'
  end
  local reply, code, text, texts = apply(keys, args)
  if not reply then return reply, code, text, texts end
  redis.call('XADD', control, '*', 'id', id, 'kind', kind, 'run', run_id, 'asked', asked)
  local due = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000) + patience)
  redis.call('ZADD', unclaimed, due, args[6] .. '\n' .. run_id .. '\n' .. kind .. '\n' .. id)
  redis.call('PEXPIRE', control, life)
  redis.call('PEXPIRE', unclaimed, life)
  return reply
end
