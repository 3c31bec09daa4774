-- One slice of a batch that was laid down, behind `publish.lua`: by whoever comes first, once.
-- KEYS: head, log, idempotency record, the change's own, batch.
-- ARGV: number of the slice, from 0; life of the batch once it is done (ms); this server's run_id.
-- Reply: the number of the next slice, which is their count at the end; -1 where there is no such batch.
local batch, index = KEYS[#KEYS], tonumber(ARGV[1])
local held = redis.call('HMGET', batch, 'next', 'of', 's' .. index)
local following, count = tonumber(held[1]), tonumber(held[2])
if not following then return -1 end
if following ~= index then
  -- A write that changes nothing, so that a WAIT that follows waits for the other's writes too.
  redis.call('HSET', batch, 'next', following)
  return following
end

-- A node of an earlier version may finish this batch, which gives no run_id.
local run_id = ARGV[3] or string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local argv, change_keys = cmsgpack.unpack(held[3]), {}
for i = 4, #KEYS - 1 do change_keys[i - 3] = KEYS[i] end
local offsets, inserts, text = publish(argv, change_keys, run_id)
if not offsets and type(inserts) == 'table' then return inserts end
if not offsets then return redis.error_reply('A change that is sliced must not refuse: ' .. text) end
redis.call('HSET', batch, 'next', index + 1, 'r' .. index, cmsgpack.pack({offsets, inserts}))
redis.call('HDEL', batch, 's' .. index)
if index + 1 == count then
  redis.call('PEXPIRE', batch, ARGV[2])
  if argv[4] ~= '' then
    local all_offsets, all_inserts, at = {}, {}, 0
    for i = 0, index do
      local part = cmsgpack.unpack(redis.call('HGET', batch, 'r' .. i))
      for j = 1, #part[1] do
        at = at + 1
        all_offsets[at], all_inserts[at] = part[1][j], part[2][j]
      end
    end
    redis.call('HSET', record, 'reply', cmsgpack.pack({'ok', all_offsets, all_inserts}))
    redis.call('PEXPIRE', record, RECORD_LIFE)
  end
end
return index + 1
