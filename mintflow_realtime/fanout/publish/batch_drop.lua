-- Drops a batch that is not to be published: 1; 0 where it is, after all. KEYS: batch.
if redis.call('HEXISTS', KEYS[1], 'next') == 1 then return 0 end
redis.call('DEL', KEYS[1])
return 1
