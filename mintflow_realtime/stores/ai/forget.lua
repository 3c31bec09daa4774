-- Forgets all conversations of a user.
-- KEYS: the user's conversations. ARGV: what their keys begin with.
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do redis.call('DEL', ARGV[1] .. name) end
redis.call('DEL', KEYS[1])
return 'ok'
