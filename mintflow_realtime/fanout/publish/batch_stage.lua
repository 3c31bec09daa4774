-- Lays down part of a batch; with the last part it is to be published, whatever becomes of who laid it down.
-- KEYS: batch, idempotency record, the same as earlier versions name it, which counts for this request alone.
-- ARGV: life of what is not to be published yet (ms), life of what is (ms), '1' for the last part,
--       digest of the request ('' without idempotency key), life of the idempotency record (ms);
--       then fields and values.
-- Reply: {'ok'}; {'gone'} where an earlier part is; or, for a request that was made before, {'repeated', reply},
--        {'pending', its batch} or {'conflict'}: then nothing is left of this one.
local batch, record = KEYS[1], KEYS[2]
local last, digest = ARGV[3] == '1', ARGV[4]
if digest ~= '' then
  local earlier = redis.call('HMGET', record, 'digest', 'reply', 'batch')
  if not earlier[1] and redis.call('HGET', KEYS[3], 'digest') == digest then
    earlier = redis.call('HMGET', KEYS[3], 'digest', 'reply', 'batch')
  end
  if earlier[1] then
    redis.call('DEL', batch)
    if earlier[1] ~= digest then return {'conflict'} end
    if earlier[2] then return {'repeated', earlier[2]} end
    return {'pending', earlier[3]}
  end
end
-- The first part brings the script; without it, this batch was taken for abandoned.
local first = false
for i = 6, #ARGV, 2 do first = first or ARGV[i] == 'lua' end
if not first and redis.call('HEXISTS', batch, 'lua') == 0 then return {'gone'} end
redis.call('HSET', batch, unpack(ARGV, 6))
redis.call('PEXPIRE', batch, last and ARGV[2] or ARGV[1])
if last then
  redis.call('HSET', batch, 'next', 0)
  if digest ~= '' then
    redis.call('HSET', record, 'digest', digest, 'batch', batch)
    redis.call('PEXPIRE', record, ARGV[5])
  end
end
return {'ok'}
