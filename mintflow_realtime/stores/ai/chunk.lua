-- Keeps one chunk of a running request. A chunk that is kept already is 'repeated': its outcome was unknown.
-- keys: the request, its chunks.
-- args: owner, index, the chunk's text as JSON, life (ms).
local function change(keys, args)
  local held = redis.call('HMGET', keys[1], 'status', 'owner', 'next')
  if held[1] ~= 'running' or held[2] ~= args[1] then return nil, 'not_found', 'ended' end
  if tonumber(args[2]) < tonumber(held[3]) then return nil, 'conflict', 'repeated' end
  redis.call('XADD', keys[2], '1-' .. args[2], 'c', args[3])
  redis.call('HSET', keys[1], 'next', string.format('%.0f', tonumber(args[2]) + 1))
  redis.call('PEXPIRE', keys[2], args[4])
  return {}
end
