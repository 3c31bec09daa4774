-- Notes that a batch is under way. KEYS: batches under way. ARGV: batch, life of the list (ms).
local clock = redis.call('TIME')
redis.call('ZADD', KEYS[1], clock[1] * 1000 + math.floor(clock[2] / 1000), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
