-- Reads a workspace, who is in it, and the head of the namespace's event log, all as of one moment.
-- KEYS: workspace, its users, head. ARGV: life to give the workspace (ms), '' to leave it as it is.
-- Reply: {head number, version, time of the last update, state, users}.
local names, values, version, time = read_state(KEYS[1])
if ARGV[1] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
local head = redis.call('HGET', KEYS[3], 'n') or '0'
local state = state_text(names, values)
return {head, version, time, state, redis.call('HVALS', KEYS[2])}
