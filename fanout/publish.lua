-- Runs a change, numbers its events, appends them to the log and announces them: the part that every publish has.
-- KEYS: head, log, idempotency record, then the change's own, then those of who calls `publish`.
-- argv: channel, epoch to begin if one must, now (ms), window (ms), most events, most bytes, life of the head (ms),
--       digest of the request ('' without idempotency key), life of the idempotency record (ms), number of events;
--       then for each event: header, '1' if volatile, '2' if it is so and tells some clients of the next one in its
--       place, number of pieces, the pieces, number of change arguments, these.
local head, log, record = KEYS[1], KEYS[2], KEYS[3]

-- CHANGE

-- Returns the offset of each event and its inserts; or nil, code, text, more texts, where the change refuses.
local function publish(argv, change_keys)
  local channel, fresh_epoch, now, window = argv[1], argv[2], tonumber(argv[3]), tonumber(argv[4])
  local most_events, most_bytes, head_life = argv[5], tonumber(argv[6]), argv[7]
  local count = tonumber(argv[10])

  -- Read every event, and let the change act on each, before anything is numbered.
  local events, at = {}, 11
  for i = 1, count do
    local header, volatile, pieces = argv[at], argv[at + 1], tonumber(argv[at + 2])
    local first_piece = at + 3
    local argument_count = tonumber(argv[first_piece + pieces])
    local args = {}
    for j = 1, argument_count do args[j] = argv[first_piece + pieces + j] end
    local inserts, code, text, more = change(change_keys, args)
    if not inserts then return nil, code, text, more or {} end
    local payload = {argv[first_piece]}
    for j = 2, pieces do
      payload[#payload + 1] = inserts[j - 1]
      payload[#payload + 1] = argv[first_piece + j - 1]
    end
    events[i] = {header .. '\n' .. table.concat(payload), inserts, volatile}
    at = first_piece + pieces + argument_count + 1
  end

  -- The numbering. It goes on under a new epoch where this server is not the one that gave the last number: a promoted
  -- replica may lack what was acknowledged. Offsets of the old epoch hold up to where this server saw it end.
  local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  local state = redis.call('HMGET', head, 'epoch', 'n', 'run_id', 'bytes')
  local epoch, number, bytes = state[1], tonumber(state[2] or 0), tonumber(state[4] or 0)
  if not epoch then
    epoch = fresh_epoch
    redis.call('DEL', log)
    redis.call('HSET', head, 'epoch', epoch, 'run_id', run_id)
  elseif state[3] ~= run_id then
    redis.call('HSET', head, 'epoch', fresh_epoch, 'run_id', run_id, 'ended', epoch, 'ended_at', number)
    epoch = fresh_epoch
  end

  local all_inserts, offsets = {}, {}
  for i = 1, count do
    local message = '-\n' .. events[i][1]
    offsets[i] = '-'
    if events[i][3] == '2' then
      message = string.format('-%s-%.0f\n', epoch, number + 1) .. events[i][1]
    elseif events[i][3] == '0' then
      number = number + 1
      local text = string.format('%.0f', number)
      offsets[i] = epoch .. '-' .. text
      message = offsets[i] .. '\n' .. events[i][1]
      bytes = bytes + #message
      redis.call('XADD', log, text .. '-0', 'm', message, 't', now, 'b', string.format('%.0f', bytes))
    end
    redis.call('PUBLISH', channel, message)
    all_inserts[i] = events[i][2]
  end
  redis.call('HSET', head, 'n', string.format('%.0f', number), 'bytes', string.format('%.0f', bytes))
  redis.call('PEXPIRE', head, head_life)
  redis.call('PEXPIRE', log, window)

  -- Caps. 'b' counts the bytes ever appended, so the oldest entry tells what the log holds now. Age gives way slowly
  -- (32 entries a publish), bytes and entries at once.
  redis.call('XTRIM', log, 'MAXLEN', most_events)
  while true do
    local oldest = redis.call('XRANGE', log, '-', '+', 'COUNT', 32)
    local drop = 0
    for _, entry in ipairs(oldest) do
      local fields = entry[2]
      local held = bytes - tonumber(fields[6]) + #fields[2]
      if held > most_bytes or now - tonumber(fields[4]) > window then drop = drop + 1 else break end
    end
    if drop > 0 then
      local last = string.match(oldest[drop][1], '^(%d+)')
      redis.call('XTRIM', log, 'MINID', string.format('%.0f', tonumber(last) + 1))
    end
    if drop < 32 or bytes - tonumber(oldest[32][2][6]) <= most_bytes then break end
  end

  return offsets, all_inserts
end
