-- Renews a run that says nothing for a while: its lease and its life.
-- KEYS: run, its kept events, the run id's pointer to its flow; list of runs, rows, order of leaving, leases.
-- ARGV: the run in the list, life (ms). Reply: {status, attempt, why it is to be cancelled or ''}; {} for no run.
local run, order, leases, member, life = KEYS[1], KEYS[6], KEYS[7], ARGV[1], ARGV[2]
local held = redis.call('HMGET', run, 'status', 'attempt', 'lease', 'cancelling')
if not held[1] then return {} end
local answer = {held[1], held[2] or '1', held[4] or ''}
if not GOING[held[1]] then return answer end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if held[3] then redis.call('ZADD', leases, whole(now + held[3] * 1000), member) end
redis.call('ZADD', order, 'XX', whole(GOES_ON + now), member)
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, life) end
return answer
