-- Puts an answer where who has asked looks for it. KEYS: answers. ARGV: answer, life (ms).
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
