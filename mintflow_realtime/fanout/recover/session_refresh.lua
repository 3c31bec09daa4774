-- Lets sessions of one tenant live on. KEYS: sessions. ARGV: life (ms), then the generation of each.
-- Reply for each: 1 refreshed, 0 gone, -1 superseded by a newer generation.
local reply = {}
for i, key in ipairs(KEYS) do
  local held = redis.call('HGET', key, 'generation')
  if not held then
    reply[i] = 0
  elseif held ~= ARGV[i + 1] then
    reply[i] = -1
  else
    redis.call('PEXPIRE', key, ARGV[1])
    reply[i] = 1
  end
end
return reply
