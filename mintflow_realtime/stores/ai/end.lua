-- Ends a request, once: with its node's outcome, or for a node that is gone.
-- keys: the request, its chunks, the user's running requests, the tenant's, the conversation, the user's conversations.
-- args: owner ('' for one whose lease has ended), request id, its name in the tenant, status, life (ms),
--       usage (JSON or ''), error, code, '1' if retryable, a whole answer as JSON ('' if streamed or none),
--       the exchange as JSON ('' for none), most exchanges, most bytes, life of a conversation (ms), conversation id,
--       most conversations, finish reason or '', the model that answered or ''.
-- FREES
local function change(keys, args)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local held = redis.call('HMGET', keys[1], 'status', 'owner')
  if args[1] == '' then
    local lease = redis.call('ZSCORE', keys[4], args[3])
    if not lease or tonumber(lease) > now then return nil, 'conflict', 'another node has it' end
    if held[1] ~= 'running' then
      -- Nobody can be told of a request that nobody knows; its name must not be looked at for ever.
      redis.call('ZREM', keys[4], args[3])
      return nil, 'not_found', 'ended'
    end
  elseif held[1] and (held[1] ~= 'running' or held[2] ~= args[1]) then
    return nil, 'not_found', 'ended'
  end
  redis.call('ZREM', keys[3], args[2])
  redis.call('ZREM', keys[4], args[3])
  redis.call('HSET', keys[1], 'status', args[4], 'owner', args[1])
  if args[6] ~= '' then redis.call('HSET', keys[1], 'usage', args[6]) end
  if args[7] ~= '' then redis.call('HSET', keys[1], 'error', args[7], 'code', args[8], 'retryable', args[9]) end
  if args[17] ~= '' then redis.call('HSET', keys[1], 'finish', args[17]) end
  if args[18] ~= '' then redis.call('HSET', keys[1], 'model', args[18]) end
  if args[10] ~= '' then redis.call('XADD', keys[2], '1-0', 'c', args[10]) end
  redis.call('PEXPIRE', keys[1], args[5])
  redis.call('PEXPIRE', keys[2], args[5])
  if args[11] == '' then return {} end

  -- The newest exchanges that fit: a gap within a conversation would be worse than a short one.
  redis.call('LPUSH', keys[5], args[11])
  redis.call('LTRIM', keys[5], 0, tonumber(args[12]) - 1)
  local kept, bytes = 0, 0
  for _, text in ipairs(redis.call('LRANGE', keys[5], 0, -1)) do
    bytes = bytes + #text
    if bytes > tonumber(args[13]) then break end
    kept = kept + 1
  end
  if kept == 0 then redis.call('DEL', keys[5]) else redis.call('LTRIM', keys[5], 0, kept - 1) end
  redis.call('PEXPIRE', keys[5], args[14])
  redis.call('ZADD', keys[6], now, args[15])
  redis.call('ZREMRANGEBYSCORE', keys[6], '-inf', now - tonumber(args[14]))
  local surplus = redis.call('ZCARD', keys[6]) - tonumber(args[16])
  if surplus > 0 then
    for _, name in ipairs(redis.call('ZRANGE', keys[6], 0, surplus - 1)) do
      redis.call('DEL', string.sub(keys[5], 1, #keys[5] - #args[15]) .. name)
      redis.call('ZREM', keys[6], name)
    end
  end
  redis.call('PEXPIRE', keys[6], args[14])
  return {}
end
