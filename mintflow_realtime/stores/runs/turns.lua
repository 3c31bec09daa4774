-- What an event does to the status of a run or node: the table of turns, which docs/flows.md shows.
-- By event, then by the status before ('none' where there is none yet): the status after it; '=' where the event changes
-- nothing, since an end stays; '+' where it begins the next attempt. What isn't there is impossible.
local TURNS = {
  flow_queued = {none = 'queued', queued = 'queued', completed = '+', failed = '+', cancelled = '+', lost = '+'},
  flow_started = {
    none = 'started', queued = 'started', started = 'started', waiting = 'started',
    completed = '+', failed = '+', cancelled = '+', lost = '+',
  },
  flow_waiting = {none = 'waiting', queued = 'waiting', started = 'waiting', waiting = 'waiting', lost = 'waiting'},
  flow_progress = {
    none = 'started', queued = 'started', started = 'started', waiting = 'waiting',
    completed = '=', failed = '=', cancelled = '=', lost = 'started',
  },
  flow_cancelling = {none = 'started', queued = 'queued', started = 'started', waiting = 'waiting', lost = 'lost'},
  -- The server's own, which publishers can't say; neither they nor the one before come from the run.
  flow_signalled = {queued = 'queued', started = 'started', waiting = 'waiting', lost = 'lost'},
  flow_unclaimed = {
    queued = 'queued', started = 'started', waiting = 'waiting', lost = 'lost',
    completed = '=', failed = '=', cancelled = '=',
  },
  flow_completed = {
    none = 'completed', queued = 'completed', started = 'completed', waiting = 'completed', lost = 'completed',
    completed = '=', failed = '=', cancelled = '=',
  },
  flow_failed = {
    none = 'failed', queued = 'failed', started = 'failed', waiting = 'failed', lost = 'failed',
    completed = '=', failed = '=', cancelled = '=',
  },
  flow_cancelled = {
    none = 'cancelled', queued = 'cancelled', started = 'cancelled', waiting = 'cancelled', lost = 'cancelled',
    cancelled = '=',
  },
  flow_lost = {none = 'lost', queued = 'lost', started = 'lost', waiting = 'lost'},
  node_started = {
    none = 'started', started = 'started', waiting = 'started',
    completed = '+', failed = '+', skipped = '+', cancelled = '+',
  },
  node_waiting = {none = 'waiting', started = 'waiting', waiting = 'waiting'},
  node_completed = {
    none = 'completed', started = 'completed', waiting = 'completed',
    completed = '=', failed = '=', skipped = '=', cancelled = '=',
  },
  node_failed = {
    none = 'failed', started = 'failed', waiting = 'failed',
    completed = '=', failed = '=', skipped = '=', cancelled = '=',
  },
  node_skipped = {none = 'skipped', started = 'skipped', waiting = 'skipped', skipped = '='},
  node_cancelled = {none = 'cancelled', started = 'cancelled', waiting = 'cancelled', cancelled = '='},
}
local ASKED = {flow_cancelling = true, flow_signalled = true, flow_unclaimed = true}
local GOING = {queued = true, started = true, waiting = true}

-- Returns status and attempt after an event, and what it is: 'begins' an attempt, 'turns', or 'stale', which changes
-- nothing; only nil where it is impossible. An attempt that is told decides: one before changes nothing, a later one
-- begins with any event.
local function turn(event, status, attempt, told)
  local turns = TURNS[event]
  if not status then return turns.none, told or 1, 'begins' end
  if told and told < attempt then return status, attempt, 'stale' end
  if told and told > attempt then return turns.none, told, 'begins' end
  local after = turns[status]
  if after == '+' and not told then return turns.none, attempt + 1, 'begins' end
  -- The same attempt goes on.
  if after == '+' and status == 'lost' then return turns.none, attempt, 'turns' end
  if after == '+' or after == '=' then return status, attempt, 'stale' end
  if after then return after, attempt, 'turns' end
end

-- Returns nothing where all events of `plan` are possible one after the other, else a refusal: code, text, texts.
-- The plan is, from `at` on, a type, a node id and an attempt for each event ('' where there is none).
-- `taken_up`, '1': who asks has said to everybody that a run which was queued or lost goes on.
local function impossible(run, plan, at, taken_up)
  local held = redis.call('HMGET', run, 'status', 'attempt')
  local status, attempt = held[1], tonumber(held[2] or 1)
  local nodes, anew = {}, false
  for i = at, #plan, 3 do
    local event, node, told = plan[i], plan[i + 1], tonumber(plan[i + 2])
    local of_node = node ~= ''
    local after, number, what = turn(of_node and 'flow_progress' or event, status, attempt, not of_node and told or nil)
    if not after then return 'conflict', event .. ' is impossible: the run is ' .. status, {event, status} end
    local told_to_all = status == 'queued' and (event == 'flow_started' or event == 'flow_waiting')
    local resumes = what == 'turns' and after ~= status and GOING[after] and (status == 'lost' or status == 'queued')
    if i == at and taken_up ~= '1' and resumes and not told_to_all then
      return 'not_found', 'taken up', {string.format('%.0f', attempt)}
    end
    if what == 'begins' then nodes, anew = {}, true end
    status, attempt = after, number
    if of_node then
      local of = nodes[node]
      if not of then
        local found = anew and {} or redis.call('HMGET', run, 's:' .. node, 'a:' .. node)
        of = {found[1], tonumber(found[2] or 1)}
      end
      local next_status, next_attempt = turn(event, of[1] or nil, of[2], told)
      if not next_status then return 'conflict', event .. ' is impossible: the node is ' .. of[1], {event, of[1]} end
      nodes[node] = {next_status, next_attempt}
    end
  end
end
