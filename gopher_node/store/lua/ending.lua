-- How jobs end: for the scripts that take them out of a lane or a lease. What each end needs stands here; the rest is in parts.

-- end_run(...): nobody holds the job any more, nothing of its lease stays, and its place is free. `lease` and `unheard` are
-- as in its hash.
local left, released = {}, {}
local function end_run(id, kind, priority, group, session, lease, unheard)
  count('processing', priority, kind, -1)
  if group ~= '' or policy_of(kind) then parts.limits.run_is_over(kind, group) end
  left[#left + 1] = id
  if not lease then -- a job under an HTTP lease is held by no session
    released[session] = released[session] or {}
    released[session][#released[session] + 1] = id
  end
  if lease or unheard then call('HDEL', P .. 'job:' .. id, 'lease', 'deadline', 'renewed', 'open', 'unheard') end
end

-- finish(...): the job's own hash and its last attempt are written; this moves it to the index of its final state, tells
-- those who wait for that, and stores the job that tells its callback, if it has one.
local finals, expiring = {}, {}
local function add(lists, key, score, member)
  local list = lists[key]
  if not list then
    list = {}
    lists[key] = list
  end
  list[#list + 1] = score
  list[#list + 1] = member
end
local finished = 0
local function finish(id, kind, priority, state, retention, callback, watched, options)
  local of_type = state .. ':' .. kind
  add(finals, state, now, id)
  add(finals, of_type, now, id)
  if retention and state ~= 'failed' then
    expiring[#expiring + 1] = now + retention
    expiring[#expiring + 1] = id
  end
  count(state, priority, kind, 1)
  total_of(of_type)
  finished = finished + 1
  if callback then parts.attempts.call_back(id, kind, state, callback, options) end
  if watched then tell_watchers(id) end
  if options then
    parts.unique.let_go(id, kind, options)
    parts.dependents.job_ended(id, state, options)
  end
end

-- commit_ends(): releases who waits for what has ended, and writes what end_run and finish have gathered.
local function commit_ends()
  if made.dependents then
    parts.dependents.resolve_ends()
    parts.dependents.see_to_workflows()
  end
  for i = 1, #left, 1000 do call('ZREM', P .. 'processing', unpack(left, i, math.min(i + 999, #left))) end
  for session, ids in pairs(released) do
    for i = 1, #ids, 1000 do call('SREM', P .. 'held:' .. session, unpack(ids, i, math.min(i + 999, #ids))) end
  end
  for name, members in pairs(finals) do
    for i = 1, #members, 1000 do
      call('ZADD', P .. 'final:' .. name, unpack(members, i, math.min(i + 999, #members)))
    end
  end
  if expiring[1] then call('ZADD', P .. 'expiring', unpack(expiring)) end
end

-- prune(limit, keep): forget up to `limit` finished jobs that outlived their retention or the number kept of their state.
-- keep: {completed = ms, cancelled = ms, jobs = number}. Returns how many it has seen to. Failed jobs stay until an operator
-- acts, and those that others depend on until these have ended. Without a limit, it sees to twice as many as have ended in
-- this step, of the states in which they have.
local function prune(limit, keep)
  local gone, any_state = 0, limit
  limit = limit or 2 * finished
  if limit == 0 then return 0 end
  local function drop(index, ids)
    for _, id in ipairs(ids) do
      local job = call('HMGET', P .. 'job:' .. id, 'state', 'type', 'priority', 'tags', 'retention', 'options')
      local needed, met = false, false
      if job[6] then needed, met = parts.dependents.is_needed(id) end
      if needed then
        gone = gone - (met and 1 or 0)
      elseif job[1] then
        parts.forgetting.forget_final(id, job[1], job[2], job[3], job[4], job[5], job[6])
      else
        call('ZREM', index, id) -- or it would be found here for ever
      end
      gone = gone + 1
    end
  end
  drop(P .. 'expiring', call('ZRANGEBYSCORE', P .. 'expiring', '-inf', now, 'LIMIT', 0, limit))
  for _, state in ipairs({'completed', 'cancelled'}) do
    local index = P .. 'final:' .. state
    local is_meant = any_state or finals[state]
    if is_meant and gone < limit then
      drop(index, call('ZRANGEBYSCORE', index, '-inf', now - keep[state], 'LIMIT', 0, limit - gone))
    end
    -- Those that are only kept for others, whose scores dependents.lua has moved beyond 1e14, take nobody's place.
    local over = is_meant and math.min(call('ZCOUNT', index, '-inf', '(1e14') - keep.jobs, limit - gone) or 0
    if over > 0 then drop(index, call('ZRANGE', index, 0, over - 1)) end
  end
  if made.dependents then parts.dependents.see_to_workflows() end
  return gone
end

return {end_run = end_run, finish = finish, commit = commit_ends, prune = prune}
