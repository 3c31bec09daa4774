-- Applies one event to a run: its state, and the events that are kept for those who come later.
-- keys: run, its kept events, the run id's pointer to its flow.
-- args: event type, name ('flow' or 'node'), status, node id, timestamp, progress, error (JSON text), flow id,
--       life (ms), most events, most bytes, most nodes, payload start, payload end.
local function change(keys, args)
  local run, kept, pointer = keys[1], keys[2], keys[3]
  local subject, status, node, timestamp = args[2], args[3], args[4], args[5]
  local life, most_events, most_bytes = args[9], tonumber(args[10]), tonumber(args[11])
  local seq = redis.call('HINCRBY', run, 'seq', 1)
  local text = string.format('%.0f', seq)
  local held = redis.call('HMGET', run, 'status', 'startedAt', 'nodes')
  local final = held[1] == 'completed' or held[1] == 'failed'
  if not held[1] then
    -- Of an earlier run by this id, of which Redis has lost the state.
    redis.call('DEL', kept)
    redis.call('HSET', run, 'status', 'started', 'startedAt', timestamp, 'progress', '0')
  end
  if args[6] ~= '' and not final then redis.call('HSET', run, 'progress', args[6]) end
  if subject == 'node' then
    -- A field for each part of a node, since Lua must not decode JSON. Completed and failed are final here too.
    local before = redis.call('HGET', run, 's:' .. node)
    local known = before or (tonumber(held[3] or 0) < tonumber(args[12]))
    if known and not (before == 'completed' or before == 'failed') then
      if not before then redis.call('HINCRBY', run, 'nodes', 1) end
      redis.call('HSET', run, 's:' .. node, status)
      if status == 'started' then
        redis.call('HSET', run, 'b:' .. node, timestamp)
      else
        redis.call('HSET', run, 'f:' .. node, timestamp)
        if args[7] ~= '' then redis.call('HSET', run, 'e:' .. node, args[7]) end
      end
    end
  elseif args[1] ~= 'flow_progress' and status ~= 'started' and not final then
    redis.call('HSET', run, 'status', status, 'finishedAt', timestamp)
    if status == 'completed' then redis.call('HSET', run, 'progress', '100') end
    if args[7] ~= '' then redis.call('HSET', run, 'error', args[7]) end
  end

  -- The kept events: 'b' counts the bytes ever kept, so the oldest entry tells what is held now.
  local payload = args[13] .. text .. args[14]
  local bytes = redis.call('HINCRBY', run, 'bytes', #payload)
  -- Last, so that a field `type` of the publisher's own data doesn't hide what happened.
  local typed = string.sub(payload, 1, -2) .. ',"type":"' .. args[1] .. '"}'
  redis.call('XADD', kept, 'MAXLEN', most_events, text .. '-0', 'p', typed, 'b', string.format('%.0f', bytes))
  while true do
    local oldest = redis.call('XRANGE', kept, '-', '+', 'COUNT', 1)[1]
    if not oldest or bytes - tonumber(oldest[2][4]) <= most_bytes then break end
    redis.call('XDEL', kept, oldest[1])
  end
  redis.call('SET', pointer, args[8], 'PX', life)
  redis.call('PEXPIRE', run, life)
  redis.call('PEXPIRE', kept, life)
  return {text}
end
