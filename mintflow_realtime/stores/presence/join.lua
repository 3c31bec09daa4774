-- The change of `user_joined`: a user with a lease. keys: leases, users, workspace.
-- args: name of the lease, sid, user (JSON text), lease (ms), life of users and leases (ms), life of the state (ms), most users.
local function change(keys, args)
  if redis.call('HEXISTS', keys[2], args[2]) == 1 then return nil, 'conflict', 'This client is here already' end
  if redis.call('HLEN', keys[2]) >= tonumber(args[7]) then
    return nil, 'too_large', 'A workspace has at most ' .. args[7] .. ' users'
  end
  local clock = redis.call('TIME')
  local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  redis.call('HSET', keys[2], args[2], args[3])
  redis.call('ZADD', keys[1], string.format('%.0f', now + tonumber(args[4])), args[1])
  redis.call('PEXPIRE', keys[2], args[5])
  redis.call('PEXPIRE', keys[1], args[5])
  redis.call('PEXPIRE', keys[3], args[6])
  return {}
end
