-- The change of `user_left`: takes a user and its lease away and answers with the user, once; refuses where the user
-- is gone, or where only an expired lease may be taken and this one was refreshed. keys: leases, users.
-- args: name of the lease, sid, '1' where only an expired lease may be taken.
-- FREES
local function change(keys, args)
  local member = args[1]
  local user = redis.call('HGET', keys[2], args[2])
  if not user then return nil, 'not_found', 'There is no such user' end
  if args[3] == '1' then
    local expiry, clock = redis.call('ZSCORE', keys[1], member), redis.call('TIME')
    if expiry and tonumber(expiry) > clock[1] * 1000 + math.floor(clock[2] / 1000) then
      return nil, 'not_found', 'The user is still here'
    end
  end
  redis.call('HDEL', keys[2], args[2])
  redis.call('ZREM', keys[1], member)
  return {user}
end
