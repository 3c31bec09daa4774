-- Applies one event to a run: its state, the events that are kept for those who come later, and its row in the list.
-- keys: run, its kept events, the run id's pointer to its flow; list of runs, rows, order of leaving, leases.
-- args: event type, node id ('' where it is of the run), timestamp, progress, error (JSON text), flow id, run id,
--       life (ms), most events, most bytes, most nodes, payload start, payload end, attempt ('' where it isn't told),
--       the run's path in keys, what keys of runs begin with, most runs, what a search looks at, error for the list,
--       what the run waits for or why it is to be cancelled (JSON text),
--       'expired' where the event holds only if the lease is over, number of texts of the run's own fields, these (name,
--       value, …); then, for the first event of a script that may refuse, `taken_up` and the plan of `impossible`; and
--       LAST for the last event of a script. All events of a script are of one run, so what holds for all is done once.
local LAST = '\1last'
local clock, now, moved
local OVER = {completed = true, failed = true, cancelled = true, lost = true, skipped = true}

local function change_node(run, event, node, timestamp, error, told, most_nodes, known_nodes)
  -- A field for each part of a node, since Lua must not decode JSON.
  local of = redis.call('HMGET', run, 's:' .. node, 'a:' .. node, 'b:' .. node)
  local before, current = of[1] or nil, tonumber(of[2] or 1)
  local after, attempt, what = turn(event, before, current, told)
  if not after then return current end
  if what == 'stale' then return told or attempt end
  if not before then
    if known_nodes >= most_nodes then return attempt end
    redis.call('HINCRBY', run, 'nodes', 1)
  end
  if what == 'begins' and (before or attempt > 1) then
    redis.call('HDEL', run, 'b:' .. node, 'f:' .. node, 'e:' .. node)
    redis.call('HSET', run, 'a:' .. node, attempt)
  end
  redis.call('HSET', run, 's:' .. node, after)
  if OVER[after] then
    redis.call('HSET', run, 'f:' .. node, timestamp)
    if error ~= '' then redis.call('HSET', run, 'e:' .. node, error) end
  elseif after == 'started' and (before ~= 'waiting' or not of[3]) then
    redis.call('HSET', run, 'b:' .. node, timestamp)
  end
  return attempt
end

-- Drops the oldest kept events beyond `most_bytes`. 'b' counts the bytes ever kept, so the oldest entry tells what is held
-- now. Returns how many bytes may have been kept until there is something to drop again.
local function trim_kept(kept, bytes, most_bytes)
  while true do
    local oldest = redis.call('XRANGE', kept, '-', '+', 'COUNT', 1)[1]
    if not oldest then return bytes + most_bytes end
    -- The first entry's own bytes count as dropped.
    local upto = tonumber(oldest[2][4]) + most_bytes
    if bytes <= upto then return upto end
    redis.call('XDEL', kept, oldest[1])
  end
end

local function change(keys, args)
  local run, kept, pointer = keys[1], keys[2], keys[3]
  local list = {runs = keys[4], rows = keys[5], order = keys[6], leases = keys[7]}
  local event, node, timestamp, progress, error = args[1], args[2], args[3], args[4], args[5]
  local flow_id, run_id, life = args[6], args[7], tonumber(args[8])
  local told, path, base, context = tonumber(args[14]), args[15], args[16], args[20]
  local member = flow_id .. '\n' .. run_id
  local last = args[#args] == LAST
  if last then table.remove(args) end
  clock = clock or redis.call('TIME')
  now = now or clock[1] * 1000 + math.floor(clock[2] / 1000)

  local first_of_plan = 23 + tonumber(args[22])
  if args[21] == 'expired' then
    local ends = redis.call('ZSCORE', list.leases, member)
    if not ends or tonumber(ends) > now then return nil, 'conflict', 'The lease goes on' end
  end
  if args[first_of_plan] then
    local code, text, texts = impossible(run, args, first_of_plan + 1, args[first_of_plan])
    if code then return nil, code, text, texts end
  end

  local of_node = node ~= ''
  local held = redis.call('HMGET', run, 'status', 'attempt', 'nodes', 'bytes', 'seq', 'startedAt', 'finishedAt',
    'progress', 'name', 'tags', 'lease', 'parent', 'total', 'search', 'brief', 'trim_at')
  local status, current = held[1] or nil, tonumber(held[2] or 1)
  local nodes, bytes, started, finished = tonumber(held[3] or 0), held[4], held[6], held[7] or ''
  local own = {name = held[9], tags = held[10], lease = held[11], parent = held[12], total = held[13], search = held[14]}
  local percent, brief = held[8] or '0', held[15] or ''
  local after, attempt, what = turn(of_node and 'flow_progress' or event, status, current, not of_node and told or nil)
  -- Of a batch that was checked as a whole, before others came between: told, and nothing changes.
  if not after then after, attempt, what = status, current, 'stale' end

  if what == 'begins' then
    if not status then
      -- Of an earlier run by this id, of which Redis has lost the state.
      redis.call('DEL', kept)
    else
      -- Nodes begin anew with it, and what is kept of the events goes on.
      redis.call('DEL', run)
      redis.call('HSET', run, 'seq', held[5] or '0', 'bytes', bytes or '0')
      for _, name in ipairs({'name', 'tags', 'parent', 'total', 'search'}) do
        if own[name] then redis.call('HSET', run, name, own[name]) end
      end
      own.lease, nodes = false, 0
    end
    started, finished, percent, brief = timestamp, '', '0', ''
    redis.call('HSET', run, 'status', after, 'startedAt', timestamp, 'progress', '0', 'attempt', attempt)
    if after == 'queued' then redis.call('HSET', run, 'queuedAt', timestamp) end
  elseif after ~= status then
    redis.call('HSET', run, 'status', after)
    if status == 'queued' and after == 'started' then
      started = timestamp
      redis.call('HSET', run, 'startedAt', timestamp)
    end
    redis.call('HDEL', run, 'waiting')
    if status == 'lost' then redis.call('HDEL', run, 'finishedAt', 'error', 'brief') end
    finished, brief = '', ''
  end
  local goes_on = GOING[after]
  local seq = whole(redis.call('HINCRBY', run, 'seq', 1))
  if what ~= 'stale' then
    for i = 23, first_of_plan - 1, 2 do
      own[args[i]] = args[i + 1]
      redis.call('HSET', run, args[i], args[i + 1])
    end
    if progress ~= '' then percent = progress end
    if after == 'completed' then percent = '100' end
    if percent ~= (what == 'begins' and '0' or held[8]) then redis.call('HSET', run, 'progress', percent) end
    if OVER[after] and not of_node and (what == 'begins' or after ~= status) then
      finished, brief = timestamp, args[19]
      redis.call('HSET', run, 'finishedAt', timestamp)
      redis.call('HDEL', run, 'waiting')
      if after ~= 'lost' then redis.call('HDEL', run, 'cancelling') end
      if error ~= '' then redis.call('HSET', run, 'error', error, 'brief', brief) end
    end
    if context ~= '' then redis.call('HSET', run, event == 'flow_waiting' and 'waiting' or 'cancelling', context) end
  end
  if of_node then attempt = change_node(run, event, node, timestamp, error, told, tonumber(args[11]), nodes) end

  -- Its lease, which any event renews that is its engine's, but one of an attempt before.
  if own.lease and goes_on and what ~= 'stale' and not ASKED[event] then
    redis.call('ZADD', list.leases, whole(now + own.lease * 1000), member)
    redis.call('PEXPIRE', list.leases, life)
  elseif not goes_on then
    redis.call('ZREM', list.leases, member)
  end

  -- Its row: every criterion of a list is a text that stands in it, and what is searched comes first.
  if what == 'begins' or (last and not redis.call('ZSCORE', list.runs, member)) then
    local at = clock[1] * 1e6 + clock[2]
    while redis.call('ZCOUNT', list.runs, whole(at), whole(at)) > 0 do at = at + 1 end
    redis.call('ZADD', list.runs, whole(at), member)
    redis.call('ZADD', list.order, whole(goes_on and GOES_ON + now or now), member)
  end
  moved = moved or goes_on or what ~= 'stale'
  if last then
    if moved then redis.call('ZADD', list.order, whole(goes_on and GOES_ON + now or now), member) end
    local run_attempt = (of_node or what == 'stale') and current or attempt
    redis.call('HSET', list.rows, member, '\nq:' .. args[18] .. '\1' .. (own.search or '') .. '\ns:' .. after .. '\na:'
      .. whole(run_attempt) .. '\np:' .. percent .. '\nb:' .. started .. '\nd:' .. finished .. '\nn:' .. seq
      .. '\nf:' .. flow_id .. '\nr:' .. run_id .. '\nu:' .. (own.parent or '') .. '\nt:\t' .. (own.tags or '')
      .. '\t\nN:' .. (own.name or '') .. '\nT:' .. (own.total or '') .. '\ne:' .. brief .. '\nk:' .. path .. '\n')
  end

  -- What the payload lacks: whose turn it was, and what has come of it.
  local filled = seq .. ',"attempt":' .. whole(what == 'stale' and told or attempt)
  if ASKED[event] then filled = filled .. ',"status":"' .. after .. '"' end
  -- The kept events: 'b' counts the bytes ever kept, so the oldest entry tells what is held now.
  local payload = args[12] .. filled .. args[13]
  local total = (tonumber(bytes) or 0) + #payload
  -- Last, so that a field `type` of the publisher's own data doesn't hide what happened.
  local typed = string.sub(payload, 1, -2) .. ',"type":"' .. event .. '"}'
  redis.call('XADD', kept, seq .. '-0', 'p', typed, 'b', whole(total))
  -- Beyond the most events there may be some more: to trim costs as much as to add.
  if tonumber(seq) % math.max(1, math.floor(tonumber(args[9]) / 64)) == 0 then
    redis.call('XTRIM', kept, 'MAXLEN', args[9])
  end
  local trim_at = what ~= 'begins' and tonumber(held[16])
  if not trim_at or total > trim_at then trim_at = trim_kept(kept, total, tonumber(args[10])) end
  redis.call('HSET', run, 'bytes', whole(total), 'trim_at', whole(trim_at))
  if last or what == 'begins' then
    redis.call('SET', pointer, flow_id, 'PX', life)
    for _, key in ipairs({run, kept, list.runs, list.rows, list.order}) do redis.call('PEXPIRE', key, life) end
  end
  if what == 'begins' then trim(list, base, now, life, tonumber(args[17])) end
  return {filled}
end
