-- KEYS[1] the ticket, ARGV[1] the session that shows it, ARGV[2] seconds to remember.
-- Not SET with NX and GET together: Redis 6.2 refuses that.
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) then
  return 1
end
return redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0
