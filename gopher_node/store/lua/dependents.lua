-- How jobs wait for others, and what they are to their workflow.
--
-- dependents:<parent> has every job that waits for this one, or may still want its result: all that have not ended and
-- have it in depends_on. Its score says whether the edge between the two is resolved (-1) or not (what `fanned` was when
-- it came). As long as there is one, a parent that has ended is not pruned.

local EDGES_A_STEP = 200 -- edges that a transition resolves; what is more is recorded on `fanout`, for ticks
local RESOLVED = -1
local OUTLIVED = 1e14    -- added to the scores of what is to be forgotten but still needed, so that prune gets past it

-- What a job depends on and belongs to; nil for most. A parent that has nothing of its own has '{}', so that it is asked.
local function read_options(text)
  return text and text ~= '' and text ~= '{}' and cjson.decode(text) or nil
end

local function is_final(state)
  return state == 'completed' or state == 'failed' or state == 'cancelled'
end

-- How often the rest of an end was recorded on `fanout`: an edge that comes after that is none of those that are meant.
local fanned
local function times_fanned()
  fanned = fanned or tonumber(call('GET', P .. 'fanned') or 0)
  return fanned
end

-- What has ended in this step: {job, whether it completed}. ending.commit() sees to all who wait for it.
local ends = {}

-- await(id, options, again): the edges from a job to those that it depends on. Returns how many are not resolved yet.
-- One to a job that has failed, or is not there, is resolved by ending.commit(); when a job is run `again` it asks for
-- neither.
local function await(id, options, again)
  local unresolved, seen = 0, {}
  for _, parent in ipairs(options.depends_on or {}) do
    local key = P .. 'job:' .. parent
    local had = call('HMGET', key, 'state', 'options')
    local over = not had[1] or is_final(had[1])
    local waits = not over or had[1] ~= 'completed' and options.on_parent_failure ~= 'run' and not again
    if had[1] and not had[2] then call('HSET', key, 'options', '{}') end
    call('ZADD', P .. 'dependents:' .. parent, waits and times_fanned() or RESOLVED, id)
    if waits and not seen[parent] then -- named twice, it is still one edge
      seen[parent] = true
      unresolved = unresolved + 1
      if over then ends[#ends + 1] = {parent, false} end
    end
  end
  return unresolved
end

local function rescore(id, job, by)
  local state, kind, finished, retention = unpack(job)
  call('ZADD', P .. 'final:' .. state, 'XX', finished + by, id)
  call('ZADD', P .. 'final:' .. state .. ':' .. kind, 'XX', finished + by, id)
  if retention then call('ZADD', P .. 'expiring', 'XX', finished + retention + by, id) end
end

-- is_needed(...): whether somebody may still want the result of a job that prune has found. Then prune is not to meet it
-- again until nobody does. The second value: whether it had met it before.
local function is_needed(id)
  if call('EXISTS', P .. 'dependents:' .. id) == 0 then return false, false end
  local key = P .. 'job:' .. id
  local job = call('HMGET', key, 'state', 'type', 'finished', 'retention', 'outlived')
  if job[5] then return true, true end
  rescore(id, job, OUTLIVED)
  call('HSET', key, 'outlived', 1)
  return true, false
end

-- A job has ended, or is gone: it waits for nobody any more, and wants nobody's result.
local function leave_parents(id, options)
  for _, parent in ipairs(options.depends_on or {}) do
    local key = P .. 'dependents:' .. parent
    if call('ZREM', key, id) == 1 and call('EXISTS', key) == 0 then
      local job = call('HMGET', P .. 'job:' .. parent, 'state', 'type', 'finished', 'retention', 'outlived')
      if job[5] then
        rescore(parent, job, 0)
        call('HDEL', P .. 'job:' .. parent, 'outlived')
      end
    end
  end
end

-- Workflows in which a member has ended or gone: name -> whether one ended in anything but completion.
local touched, touched_order = {}, {}
local function touch(workflow, failed)
  if touched[workflow] == nil then touched_order[#touched_order + 1] = workflow end
  touched[workflow] = touched[workflow] or failed
end

-- workflow_state(...): 'running', or how it has ended; 'cancelled' from the moment on that it is to be. nil if there is none.
local function workflow_state(workflow)
  local record = call('HMGET', P .. 'workflow:' .. workflow, 'created', 'cancelling', 'finished', 'failed', 'cancelled')
  if not record[1] then return nil end
  if record[2] then return 'cancelled' end
  if not record[3] then return 'running' end
  return tonumber(record[4]) + tonumber(record[5]) == 0 and 'completed' or 'failed'
end

-- join_workflow(...): a new job becomes a member. Of a workflow that is gone or has ended, it does not: a follow-up is
-- never refused. Of one that is being cancelled it does, and is cancelled with the rest.
local function join_workflow(id, workflow)
  local key = P .. 'workflow:' .. workflow
  local record = call('HMGET', key, 'created', 'finished', 'cancelling')
  if not record[1] or record[2] then return end
  local number = call('HINCRBY', key, 'total', 1)
  call('ZADD', P .. 'members:' .. workflow, number, id)
  call('ZADD', P .. 'unfinished:' .. workflow, number, id)
  if record[3] then
    call('HDEL', key, 'cancelled_to')
    call('HINCRBY', key, 'joined', 1)
    call('ZADD', P .. 'cancelling', record[3], workflow)
  end
end

-- member_ended(...): counted once, for only the first end takes it out of those that are unfinished.
local function member_ended(id, workflow, state)
  if call('ZREM', P .. 'unfinished:' .. workflow, id) == 0 then return end
  call('HINCRBY', P .. 'workflow:' .. workflow, state, 1)
  touch(workflow, state ~= 'completed')
end

-- member_again(...): a member that had ended in that state is to run once more, and so its workflow runs.
local function member_again(id, workflow, state)
  local number = call('ZSCORE', P .. 'members:' .. workflow, id)
  if not number then return end
  local key = P .. 'workflow:' .. workflow
  call('ZADD', P .. 'unfinished:' .. workflow, number, id)
  call('HINCRBY', key, state, -1)
  if call('HDEL', key, 'finished') == 1 then call('HDEL', key, 'cancelling', 'cancelled_to', 'joined') end
end

-- job_ended(...), job_gone(...): what finish and forget tell of a job that has options; `state` is its final one, or nil if
-- it goes before it has ended. That is no success to those who wait for it, and a cancelled one to its workflow.
local function job_ended(id, state, text)
  ends[#ends + 1] = {id, state == 'completed'}
  local options = read_options(text)
  if not options then return end
  leave_parents(id, options)
  if options.workflow then member_ended(id, options.workflow, state) end
end

local function job_gone(id, state, text)
  if not state then job_ended(id, 'cancelled', text) end
  local options = read_options(text)
  local workflow = options and options.workflow
  if workflow and call('ZREM', P .. 'members:' .. workflow, id) == 1 then
    call('HINCRBY', P .. 'workflow:' .. workflow, 'gone', 1)
    touch(workflow, false)
  end
end

-- see_to_workflows(): stores the callbacks that are due by now, each once ever; a workflow that has ended, and none
-- of whose members is left, goes.
local function see_to_workflows()
  for _, workflow in ipairs(touched_order) do
    local key = P .. 'workflow:' .. workflow
    local function fire(which)
      local list = P .. 'callback:' .. workflow .. ':' .. which
      local fields = call('LRANGE', list, 0, -1)
      if fields[1] then
        call('UNLINK', list)
        parts.storing.store_job(1, nil, fields)
        call('HSET', key, which, fields[1])
      end
    end
    if touched[workflow] then fire('on_failure') end
    local record = call('HMGET', key, 'finished', 'failed', 'cancelled')
    if not record[1] and call('EXISTS', P .. 'unfinished:' .. workflow) == 0 then
      record[1] = now
      call('HSET', key, 'finished', now)
      call('ZREM', P .. 'cancelling', workflow)
      fire('on_complete')
      if tonumber(record[2] or nil) == 0 and tonumber(record[3] or nil) == 0 then fire('on_success') end
    end
    if record[1] and call('EXISTS', P .. 'members:' .. workflow) == 0 then
      call('UNLINK', key)
      for _, which in ipairs({'on_complete', 'on_success', 'on_failure'}) do
        call('UNLINK', P .. 'callback:' .. workflow .. ':' .. which)
      end
      call('ZREM', P .. 'workflows', workflow)
    end
  end
  touched, touched_order = {}, {}
end

-- resolve_edge(...): one of those that a blocked job waits for has ended. Returns what that cost, in edges.
local function resolve_edge(child, parent, completed)
  local key = P .. 'job:' .. child
  call('ZADD', P .. 'dependents:' .. parent, 'XX', RESOLVED, child)
  local waits = call('HINCRBY', key, 'pending', -1) > 0
  if completed and waits then return 1 end
  local kind, priority, group, watched, retention, callback, text, due =
    unpack(call('HMGET', key, 'type', 'priority', 'group', 'watched', 'retention', 'callback', 'options', 'due'))
  local options = read_options(text) or {}
  local choice = 'run'
  if not completed then
    choice = options.on_parent_failure or 'skip'
    local workflow = options.workflow
    if workflow and call('HEXISTS', P .. 'workflow:' .. workflow, 'cancelling') == 1 then choice = 'skip' end
  end
  if choice == 'run' and waits then return 1 end

  call('ZREM', P .. 'blocked', child)
  count('blocked', priority, kind, -1)
  if choice == 'run' then
    due = math.max(now, tonumber(due or nil) or 0) -- until now it could not run, and so it did not wait for a worker
    local state = due > now and 'scheduled' or 'enqueued'
    call('HSET', key, 'state', state, 'due', due)
    if state == 'scheduled' then
      call('ZADD', P .. 'due', due, child)
      count(state, priority, kind, 1)
    else
      enqueue(child, kind, priority, group or '')
    end
    tell_followers(child, watched)
    return 1
  end
  local state = choice == 'fail' and 'failed' or 'cancelled'
  call('HSET', key, 'state', state, 'finished', now, 'error',
       '{"code":"parent-failed","message":"Job ' .. parent .. ', which it waited for, did not complete."}')
  parts.ending.finish(child, kind, priority, state, tonumber(retention or nil), callback, watched, text)
  return math.max(1, #(options.depends_on or {})) -- for it leaves them all
end

-- How many edges this step may still resolve; with a number, that is it from now on.
local room = EDGES_A_STEP
local function edges_left(number)
  room = number or room
  return room
end

-- release_dependents(...): resolves edges to a job that has ended, those that came before it was recorded the `before`th
-- time, as long as this step has room. Returns whether all are resolved.
local function release_dependents(parent, completed, before)
  local most = math.max(room, 0)
  local children = call('ZRANGEBYSCORE', P .. 'dependents:' .. parent, 0, before, 'LIMIT', 0, most + 1)
  for _, child in ipairs(children) do
    if room <= 0 then return false end
    room = room - resolve_edge(child, parent, completed)
  end
  return true
end

-- resolve_ends(...): releases those who wait for what has ended in this step, and so on with those that this ends.
local function resolve_ends()
  local n = 1
  while ends[n] do
    local parent, completed = unpack(ends[n])
    if not release_dependents(parent, completed, '+inf') then
      fanned = call('INCR', P .. 'fanned')
      call('RPUSH', P .. 'fanout', string.format('%.0f %s %s', fanned, completed and 'completed' or 'failed', parent))
    end
    n = n + 1
  end
  ends = {}
end

return {
  read_options = read_options, await = await, is_needed = is_needed, touch = touch, workflow_state = workflow_state,
  join_workflow = join_workflow, member_again = member_again, job_ended = job_ended, job_gone = job_gone,
  see_to_workflows = see_to_workflows, edges_left = edges_left, release = release_dependents,
  resolve_ends = resolve_ends,
}
