-- A publish in one script, behind `publish.lua`: all of it, or nothing. ARGV is `publish`'s argv.
-- Reply: {'ok' | 'repeated', offset of each event, inserts of each event} or {'refused', code, text, more texts}.
local digest = ARGV[8]
if digest ~= '' then
  local earlier = redis.call('HMGET', record, 'digest', 'reply')
  if earlier[1] == digest and earlier[2] then
    local reply = cmsgpack.unpack(earlier[2])
    -- A write that changes nothing, so that a WAIT that follows waits for the first call's writes too.
    redis.call('HSET', record, 'digest', digest)
    reply[1] = 'repeated'
    return reply
  elseif earlier[1] == digest then
    return {'refused', 'unavailable', 'The first request with this Idempotency-Key is not done yet', {}}
  elseif earlier[1] then
    return {'refused', 'conflict', 'This Idempotency-Key was used for another request', {}}
  end
end

local change_keys = {}
for i = 4, #KEYS do change_keys[i - 3] = KEYS[i] end
local offsets, inserts, text, more = publish(ARGV, change_keys)
if not offsets then return {'refused', inserts, text, more} end
local reply = {'ok', offsets, inserts}
if digest ~= '' then
  redis.call('HSET', record, 'digest', digest, 'reply', cmsgpack.pack(reply))
  redis.call('PEXPIRE', record, ARGV[9])
end
return reply
