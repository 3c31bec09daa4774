-- Says how requests stand, renews the leases of those that this node runs, and notes that others are followed here.
-- KEYS: the tenant's running requests, then for each request: itself, its user's running requests, its chunks.
-- ARGV: lease (ms), life (ms), then for each request: its id, its name in the tenant, owner ('' where it isn't run
--       here), '1' if a client here follows it.
-- Reply: for each request {status or false, '1' if it is to be cancelled, ms since a client followed it}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease, answers = string.format('%.0f', now + tonumber(ARGV[1])), {}
for i = 2, #KEYS, 3 do
  local at = 3 + 4 * (i - 2) / 3
  local held = redis.call('HMGET', KEYS[i], 'status', 'owner', 'cancel', 'seen')
  local seen = tonumber(held[4] or now)
  if held[1] == 'running' then
    if ARGV[at + 3] == '1' then
      seen = now
      redis.call('HSET', KEYS[i], 'seen', string.format('%.0f', now))
    end
    if ARGV[at + 2] ~= '' and held[2] == ARGV[at + 2] then
      redis.call('ZADD', KEYS[1], 'XX', lease, ARGV[at + 1])
      redis.call('ZADD', KEYS[i + 1], 'XX', lease, ARGV[at])
      for _, key in ipairs({KEYS[1], KEYS[i], KEYS[i + 1], KEYS[i + 2]}) do redis.call('PEXPIRE', key, ARGV[2]) end
    end
  end
  answers[#answers + 1] = {held[1], held[3] or '', string.format('%.0f', now - seen)}
end
return answers
