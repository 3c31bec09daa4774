-- Runs a change, numbers its events, appends them to the log and announces them: the part that every publish has.
-- KEYS: head, log, idempotency record, then the change's own, then those of who calls `publish`.
-- argv: channel, epoch to begin if one must, now (ms), digest of the request ('' without idempotency key), number of
--       events; then for each event: '1' if volatile, '2' if it is so and tells some clients of the next one in its
--       place, number of pieces, the pieces, the first of which begins with the header and a newline, number of change
--       arguments, these.
local head, log, record = KEYS[1], KEYS[2], KEYS[3]

-- CAPS

-- CHANGE

-- Caps and lives are looked at now and then, since to look costs as much as to publish: so the log is up to so much older
-- and longer than they say.
local SLACK, EVENTS_SLACK = math.floor(math.min(WINDOW, HEAD_LIFE) / 64), math.floor(MOST_EVENTS / 256)
local NONE = {}

-- Drops what is too old or over the bytes at the log's beginning, and notes in the head when to look again, and at how
-- many bytes ever appended. 'b' of an entry counts those, itself included. Age gives way slowly (32 entries a publish),
-- bytes at once. Each entry that is read costs 2 µs: so one is read first, then twice as many as long as all had to go.
local function trim(now, bytes, look_at)
  local read, dropped = 1, 0
  while true do
    local oldest = redis.call('XRANGE', log, '-', '+', 'COUNT', read)
    local drop, since, before = 0, now, bytes
    for _, entry in ipairs(oldest) do
      local fields = entry[2]
      since, before = tonumber(fields[4]), tonumber(fields[6]) - #fields[2]
      if bytes - before <= MOST_BYTES and now - since <= WINDOW then break end
      drop = drop + 1
    end
    if drop > 0 then
      local last = string.match(oldest[drop][1], '^(%d+)')
      redis.call('XTRIM', log, 'MINID', string.format('%.0f', tonumber(last) + 1))
      dropped = dropped + drop
    end
    if drop < read then
      -- An empty log's next entry comes behind all bytes so far.
      if drop == #oldest then since, before = now, bytes end
      redis.call('HSET', head, 'look_at', string.format('%.0f', look_at),
        'look_bytes', string.format('%.0f', before + MOST_BYTES))
      return
    end
    if dropped >= 32 and bytes - tonumber(oldest[drop][2][6]) <= MOST_BYTES then return end
    read = math.min(read * 2, dropped < 32 and 32 - dropped or 32)
  end
end

-- Returns the offset of each event and its inserts; or nil, code, text, more texts, where the change refuses; or nil
-- and an error. `run_id` is this server's, '' where the client doesn't know it.
local function publish(argv, change_keys, run_id)
  local channel, now, count = argv[1], tonumber(argv[3]), tonumber(argv[5])
  if run_id == '' then return nil, no_right('+info') end
  local no = unannounced(channel)
  if no then return nil, no end

  -- Read every event, and let the change act on each, before anything is numbered.
  local kinds, texts, all_inserts, at = {}, {}, {}, 6
  for i = 1, count do
    local pieces, first_piece = tonumber(argv[at + 1]), at + 2
    local behind = first_piece + pieces
    local argument_count, args = tonumber(argv[behind]), NONE
    if argument_count > 0 then
      args = {}
      for j = 1, argument_count do args[j] = argv[behind + j] end
    end
    local inserts, code, text, more = change(change_keys, args)
    if not inserts then return nil, code, text, more or {} end
    local whole = argv[first_piece]
    if pieces == 2 then
      whole = whole .. inserts[1] .. argv[first_piece + 1]
    elseif pieces > 2 then
      local parts = {whole}
      for j = 2, pieces do parts[2 * j - 2], parts[2 * j - 1] = inserts[j - 1], argv[first_piece + j - 1] end
      whole = table.concat(parts)
    end
    kinds[i], texts[i], all_inserts[i] = argv[at], whole, inserts
    at = behind + argument_count + 1
  end

  -- The numbering. It goes on under a new epoch where this server is not the one that gave the last number: a promoted
  -- replica may lack what was acknowledged. Offsets of the old epoch hold up to where this server saw it end.
  local state = redis.call('HMGET', head, 'epoch', 'n', 'run_id', 'bytes', 'look_at', 'look_bytes')
  local epoch, number, held = state[1], tonumber(state[2] or 0), tonumber(state[4] or 0)
  if not epoch then
    epoch = argv[2]
    redis.call('HSET', head, 'epoch', epoch, 'run_id', run_id)
    redis.call('DEL', log)
  elseif state[3] ~= run_id then
    redis.call('HSET', head, 'epoch', argv[2], 'run_id', run_id, 'ended', epoch, 'ended_at', number)
    epoch = argv[2]
  end

  -- The head goes before the log, so that no number is given twice, and all of it before the first announcement.
  local offsets, messages, ids, sums, bytes = {}, {}, {}, {}, 0
  local function add(i, command)
    if EVENTS_SLACK > 0 then return command('XADD', log, ids[i], 'm', messages[i], 't', argv[3], 'b', sums[i]) end
    return command('XADD', log, 'MAXLEN', MOST_EVENTS, ids[i], 'm', messages[i], 't', argv[3], 'b', sums[i])
  end
  local function number_all()
    local last, first, sum = number, nil, string.format('%.0f', held)
    bytes = held
    for i = 1, count do
      local kind = kinds[i]
      if kind == '0' then
        last = last + 1
        local text = string.format('%.0f', last)
        local offset = epoch .. '-' .. text
        local message = offset .. '\n' .. texts[i]
        bytes = bytes + #message
        sum = string.format('%.0f', bytes)
        offsets[i], messages[i], ids[i], sums[i] = offset, message, text .. '-0', sum
        first = first or i
      else
        offsets[i] = '-'
        messages[i] = (kind == '2' and string.format('-%s-%.0f\n', epoch, last + 1) or '-\n') .. texts[i]
      end
    end
    redis.call('HSET', head, 'n', string.format('%.0f', last), 'bytes', sum)
    return last, first, first and add(first, redis.pcall).err
  end
  local last, first, ahead_of_head = number_all()
  if ahead_of_head then
    state[5] = false
    -- The log is ahead of the head, as earlier versions could leave it: what it holds there counts.
    local ahead = redis.call('XRANGE', log, string.format('%.0f', number + 1), '+')
    if ahead[1] then
      number = tonumber(string.match(ahead[#ahead][1], '^%d+'))
    else
      epoch = argv[2]
      redis.call('HSET', head, 'epoch', epoch)
      redis.call('DEL', log)
    end
    local unexpected
    last, first, unexpected = number_all()
    if unexpected then return nil, redis.error_reply(unexpected) end
  end
  for i = (first or count) + 1, count do
    if ids[i] then add(i, redis.call) end
  end
  for i = 1, count do redis.call('PUBLISH', channel, messages[i]) end
  if EVENTS_SLACK > 0 and math.floor(last / EVENTS_SLACK) > math.floor(number / EVENTS_SLACK) then
    redis.call('XTRIM', log, 'MAXLEN', MOST_EVENTS)
  end
  -- What another publisher noted, whose clock is far ahead of this one's, is not waited for.
  local look_at = tonumber(state[5] or 0)
  if now >= look_at or look_at - now > SLACK or bytes > tonumber(state[6]) then
    -- With its first publish a log lives for the window, and with the second for longer.
    local more = state[5] and SLACK or 0
    redis.call('PEXPIRE', head, HEAD_LIFE)
    redis.call('PEXPIRE', log, string.format('%.0f', WINDOW + more))
    trim(now, bytes, now + more)
  end

  return offsets, all_inserts
end
