-- Notes that something was done that was asked, so that nobody takes it over. KEYS: control stream. ARGV: places in it.
redis.pcall('XACK', KEYS[1], 'engines', unpack(ARGV))
return redis.call('XDEL', KEYS[1], unpack(ARGV))
