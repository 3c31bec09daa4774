-- Lets leases, and the workspaces that they are in, live on. KEYS: leases.
-- ARGV: lease (ms), life of users and leases (ms), life of a state (ms), prefix of users, prefix of workspaces, then
--       encoded workspace, sid and name of each lease.
-- Reply: the places (0, 1, …) of those whose lease and user are gone.
local leases, clock = KEYS[1], redis.call('TIME')
local expiry = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[1]))
local missing, seen = {}, {}
for i = 6, #ARGV, 3 do
  local member = ARGV[i + 2]
  if redis.call('ZSCORE', leases, member) or redis.call('HEXISTS', ARGV[4] .. ARGV[i], ARGV[i + 1]) == 1 then
    redis.call('ZADD', leases, expiry, member)
  else
    missing[#missing + 1] = (i - 6) / 3
  end
  if not seen[ARGV[i]] then
    seen[ARGV[i]] = true
    redis.call('PEXPIRE', ARGV[4] .. ARGV[i], ARGV[2])
    redis.call('PEXPIRE', ARGV[5] .. ARGV[i], ARGV[3])
  end
end
-- Not before its users: who is listed must have a lease by which it can leave.
redis.call('PEXPIRE', leases, ARGV[2])
return missing
