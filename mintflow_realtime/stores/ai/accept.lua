-- Takes on a request, unless its id is in use or its user has too many.
-- KEYS: the request, the user's running requests, the tenant's running requests.
-- ARGV: request id, its name in the tenant, lease (ms), most running of a user, life (ms), owner, model, '1' if streamed,
--       the digest of what is asked ('' for none).
-- Reply: 'ok', also where the same node had taken it on (whose first answer may have been lost), 'repeated' where another
--        had, or it has ended; 'conflict' where something else was asked under this id; or 'rate_limited'.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('EXISTS', KEYS[1]) == 1 then
  local held = redis.call('HMGET', KEYS[1], 'digest', 'status', 'owner')
  if ARGV[9] == '' or held[1] ~= ARGV[9] then return 'conflict' end
  return held[2] == 'running' and held[3] == ARGV[6] and 'ok' or 'repeated'
end
-- A killed node's requests count until their lease ends, no longer.
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then return 'rate_limited' end
local lease = string.format('%.0f', now + tonumber(ARGV[3]))
redis.call('ZADD', KEYS[2], lease, ARGV[1])
redis.call('ZADD', KEYS[3], lease, ARGV[2])
redis.call('HSET', KEYS[1], 'status', 'running', 'owner', ARGV[6], 'model', ARGV[7], 'stream', ARGV[8], 'next', '0',
  'seen', string.format('%.0f', now), 'digest', ARGV[9])
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[5]) end
return 'ok'
