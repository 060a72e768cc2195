#!lua
-- submit(window, n, call…): stores the new jobs of n calls. Each call is for itself: all of its jobs are stored, or none.
--   ARGV[2] ms for which an idempotency key holds; ARGV[3] number of calls; then for each:
--     hash of its idempotency key or '', the request's fingerprint or, of jobs that are calls of their own, 'each', seed, the numbers of those jobs, from 1 on, whose ids
--     the client chose, '' or their new workflow, number of jobs, fourteen fields a job (see store_job), parents first
--     A workflow is "<id> <its callbacks, separated by commas, or -> <its name>"; the callbacks' fields follow the jobs'.
-- The seed is this call's alone, or '' if it has neither a key nor chosen ids, unique jobs, jobs that depend on others or
-- jobs of a workflow. A call that was carried out before, and whose answer was lost, gets the same answer again.
-- Answers for each call {'stored', job…}; {'replayed', seed of the first call, job…}, as that was answered;
-- {'reused'} if the key was used with another fingerprint; {'exists', number of the job, state} if a chosen id is taken; or
-- {'duplicate', number of the job, id of the one that bears its name, state}; {'no-parent', number of the job, the parent}
-- if a job depends on one that is not there; {'no-workflow', number of the job} or {'ended', number of the job, state} if it
-- is to be a member where none can be; {'draining', type} or {'full', type, waiting jobs, max_backlog} if its type takes no
-- new jobs: then all of the call is refused, or of 'each' that job.
-- A job is {state, created?, created in ms, due in ms or nil}, and of a twin the id of the other, whose all this is, behind
-- that. An id that nobody chose and that is known changes nothing.

local storing = parts.storing
local window = string.format('%.0f', math.max(1, tonumber(ARGV[2]))) -- SET takes no 0, and must not fail once it is reached

-- Of a call that can be refused, or that may have been made before. Most are neither, so they do not pay for these functions.
local function submit_checked(key, fingerprint, seed, numbers, workflow, jobs, at)
  local new, callbacks, name = string.match(workflow, '^(%S+) (%S+) (.*)$')

  -- What store_job said when it stored jobs at that time. `met` are those that met a twin, or were
  -- blocked: "<number> <its answer>", in lines.
  local function as_stored(answer, first, number, created, met)
    local before = #answer
    for n = first, first + (number - 1) * NEW_JOB_FIELDS, NEW_JOB_FIELDS do
      local due = storing.due_time(ARGV[n + 5], ARGV[n + 6], created)
      answer[#answer + 1] = {due and due > created and 'scheduled' or 'enqueued', 1, created, due or false}
    end
    for which, state, since, due, other in string.gmatch(met or '', '(%d+) (%a+) (%d+) (%d*) (%S+)') do
      local own = other == '-'
      answer[before + which] = {state, own and 1 or 0, tonumber(since), tonumber(due) or false, not own and other or nil}
    end
    return answer
  end

  -- The first job whose name another bears so that it is refused, as an answer.
  local function refused_twin()
    local own = {} -- name -> the job of this call that will bear it
    for n = 1, jobs do
      local job = at + (n - 1) * NEW_JOB_FIELDS
      local named = ARGV[job + 13] ~= '' and cjson.decode(ARGV[job + 13]).unique
      if named and call('EXISTS', P .. 'job:' .. ARGV[job]) == 0 then
        local name = parts.unique.name(ARGV[job + 1], named)
        local twin = parts.unique.twin_of(name, ARGV[job]) or own[name]
        if not twin then
          own[name] = {ARGV[job], as_stored({}, job, 1, now)[1][1]}
        elseif named.duplicates == 'reject' or named.duplicates == 'replace' and not parts.unique.is_waiting(twin[2]) then
          return {'duplicate', n, twin[1], twin[2]}
        end
      end
    end
  end

  -- The first job that depends on one that is not there, or is to belong to a workflow that takes none, as an answer.
  local function missing_link()
    local known = {}
    for n = 1, jobs do
      local job = at + (n - 1) * NEW_JOB_FIELDS
      local links = parts.dependents.read_options(ARGV[job + 13])
      if links and call('EXISTS', P .. 'job:' .. ARGV[job]) == 0 then
        for _, parent in ipairs(links.depends_on or {}) do
          known[parent] = known[parent] or call('EXISTS', P .. 'job:' .. parent) == 1
          if not known[parent] then return {'no-parent', n, parent} end
        end
        if links.workflow and links.workflow ~= new then
          local state = parts.dependents.workflow_state(links.workflow)
          if not state then return {'no-workflow', n} end
          if state ~= 'running' then return {'ended', n, state} end
        end
      end
      known[ARGV[job]] = true
    end
  end

  local function store_workflow()
    local record = P .. 'workflow:' .. new
    call('HSET', record, 'name', name, 'created', now, 'total', 0, 'completed', 0, 'failed', 0, 'cancelled', 0, 'gone', 0)
    call('ZADD', P .. 'workflows', now, new)
    local from = at + jobs * NEW_JOB_FIELDS
    for which in string.gmatch(callbacks, '[%a_]+') do
      call('RPUSH', P .. 'callback:' .. new .. ':' .. which, unpack(ARGV, from, from + NEW_JOB_FIELDS - 1))
      from = from + NEW_JOB_FIELDS
    end
  end

  local told = key == '' and call('GET', P .. 'reply:' .. seed)
  if told then
    local created, met = string.match(told, '^(%d+) (.*)$')
    return as_stored({'stored'}, at, jobs, tonumber(created), met)
  end
  local record = key ~= '' and call('GET', P .. 'once:' .. key)
  if record then
    local created, first, used_with, met = string.match(record, '^(%d+) (%S+) ([^\n]*)\n?(.*)$')
    if used_with ~= fingerprint then return {'reused'} end
    return as_stored(first == seed and {'stored'} or {'replayed', first}, at, jobs, tonumber(created), met)
  end
  local stored = new and call('HGET', P .. 'workflow:' .. new, 'created')
  if stored then return as_stored({'stored'}, at, jobs, tonumber(stored)) end
  local chosen, seen = parts.operating.words(numbers), {}
  for n = 1, numbers ~= '' and jobs or 0 do
    local job = at + (n - 1) * NEW_JOB_FIELDS
    local id = ARGV[job]
    if chosen[tostring(n)] then
      local had = call('HMGET', P .. 'job:' .. id, 'state', 'seed', 'created')
      if had[1] and had[2] == seed then return as_stored({'stored'}, at, jobs, tonumber(had[3])) end
      if had[1] or seen[id] then return {'exists', n, had[1] or seen[id]} end
    end
    seen[id] = as_stored({}, job, 1, now)[1][1]
  end
  local refused = policy_of(ARGV[at + 1]) ~= false and parts.backlog.refused(at, jobs) or refused_twin() or missing_link()
  if refused then return refused end
  if new then store_workflow() end
  local answer, met = {'stored'}, {}
  for n = 1, jobs do
    local one = storing.store_job(at + (n - 1) * NEW_JOB_FIELDS, chosen[tostring(n)] and seed)
    answer[n + 1] = one
    if one[5] or one[1] == 'blocked' then
      met[#met + 1] = string.format('%d %s %.0f %s %s', n, one[1], one[3], one[4] and string.format('%.0f', one[4]) or '',
                                 one[5] or '-')
    end
  end
  -- Of twins alone nobody is a member.
  if new and call('EXISTS', P .. 'unfinished:' .. new) == 0 then parts.dependents.touch(new, false) end
  local time = string.format('%.0f', now)
  if key ~= '' then
    met[1] = met[1] and '\n' .. met[1]
    call('SET', P .. 'once:' .. key, time .. ' ' .. seed .. ' ' .. fingerprint .. table.concat(met, '\n'), 'PX', window)
  elseif met[1] then
    call('SET', P .. 'reply:' .. seed, time .. ' ' .. table.concat(met, '\n'), 'PX', 60000)
  end
  return answer
end

local answers = {}
local at = 4
for n = 1, tonumber(ARGV[3]) do
  local jobs = tonumber(ARGV[at + 5])
  local _, callbacks = nil, 0
  if ARGV[at + 4] ~= '' then _, callbacks = string.gsub(string.match(ARGV[at + 4], '^%S+ (%S+)'), '%a[%a_]*', '') end
  if ARGV[at + 2] ~= '' then
    answers[n] = submit_checked(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], jobs, at + 6)
  else
    local answer, each = {'stored'}, ARGV[at + 1] == 'each'
    local refused = not each and policy_of(ARGV[at + 7]) ~= false and parts.backlog.refused(at + 6, jobs)
    for job = 1, refused and 0 or jobs do
      local first = at + 6 + (job - 1) * NEW_JOB_FIELDS
      local refused_alone = each and policy_of(ARGV[first + 1]) ~= false and parts.backlog.refused(first, 1)
      answer[job + 1] = refused_alone or storing.store_job(first)
    end
    answers[n] = refused or answer
  end
  at = at + 6 + (jobs + callbacks) * NEW_JOB_FIELDS
end
if made.dependents then parts.ending.commit() end
commit()
return answers
