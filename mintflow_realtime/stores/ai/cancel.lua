-- Asks the node that runs a request to cancel it.
-- KEYS: the request. Reply: its status, or false where there is none.
local status = redis.call('HGET', KEYS[1], 'status')
if status == 'running' then redis.call('HSET', KEYS[1], 'cancel', '1') end
return status
