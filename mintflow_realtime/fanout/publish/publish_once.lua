-- A publish in one script, behind `publish.lua`: all of it, or nothing. ARGV is `publish`'s argv, then this server's run_id.
-- With a digest the last of KEYS is the idempotency record as earlier versions name it, which counts for this request
-- alone.
-- Reply: {'ok' | 'repeated', offset of each event, inserts of each event} or {'refused', code, text, more texts}.
local digest, own = ARGV[4], #KEYS
if digest ~= '' then
  own = own - 1
  local earlier = redis.call('HMGET', record, 'digest', 'reply')
  if not earlier[1] and redis.call('HGET', KEYS[#KEYS], 'digest') == digest then
    record = KEYS[#KEYS]
    earlier = redis.call('HMGET', record, 'digest', 'reply')
  end
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
for i = 4, own do change_keys[i - 3] = KEYS[i] end
local offsets, inserts, text, more = publish(ARGV, change_keys, ARGV[#ARGV])
if not offsets and type(inserts) == 'table' then return inserts end
if not offsets then return {'refused', inserts, text, more} end
local reply = {'ok', offsets, inserts}
if digest ~= '' then
  redis.call('HSET', record, 'digest', digest, 'reply', cmsgpack.pack(reply))
  redis.call('PEXPIRE', record, RECORD_LIFE)
end
return reply
