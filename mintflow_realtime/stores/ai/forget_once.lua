-- The change of a `clear_history` that may be repeated: forgets one conversation, or all of a user's; answers the time.
-- keys: the user's conversations, the one conversation.
-- args: '1' for all, what the keys of conversations begin with, the time.
local function change(keys, args)
  if args[1] == '1' then
    for _, name in ipairs(redis.call('ZRANGE', keys[1], 0, -1)) do redis.call('DEL', args[2] .. name) end
    redis.call('DEL', keys[1])
  else
    redis.call('DEL', keys[2])
  end
  return {args[3]}
end
