#!lua
-- uses: storing operating
-- submit(window, n, call…): stores the new jobs of n calls. Each call is for itself: all of its jobs are stored, or none.
--   ARGV[2] ms for which an idempotency key holds; ARGV[3] number of calls; then for each:
--     hash of its idempotency key or '', the request's fingerprint, seed, the numbers of those jobs, from 1 on, whose ids
--     the client chose, number of jobs, fourteen fields a job (see store_job)
-- The seed is this call's alone, or '' if it has neither a key nor chosen ids. A call that was carried out before, and whose
-- answer was lost, gets the same answer again.
-- Answers for each call {'stored', job…}; {'replayed', seed of the first call, job…}, as that was answered;
-- {'reused'} if the key was used with another fingerprint; or {'exists', number of the job, state} if a chosen id is taken.
-- A job is {state, created?, created in ms, due in ms or nil}. An id that nobody chose and that is known changes nothing.

local window = string.format('%.0f', math.max(1, tonumber(ARGV[2]))) -- SET takes no 0, and must not fail once it is reached

-- Of a call that can be refused, or that may have been made before. Most are neither, so they do not pay for these functions.
local function submit_checked(key, fingerprint, seed, numbers, jobs, at)
  -- What store_job said when it stored jobs at that time.
  local function as_stored(answer, first, number, created)
    for n = first, first + (number - 1) * NEW_JOB_FIELDS, NEW_JOB_FIELDS do
      local due = due_time(ARGV[n + 5], ARGV[n + 6], created)
      answer[#answer + 1] = {due and due > created and 'scheduled' or 'enqueued', 1, created, due or false}
    end
    return answer
  end

  local record = key ~= '' and call('GET', P .. 'once:' .. key)
  if record then
    local created, first, used_with = string.match(record, '^(%d+) (%S+) (.*)$')
    if used_with ~= fingerprint then return {'reused'} end
    return as_stored(first == seed and {'stored'} or {'replayed', first}, at, jobs, tonumber(created))
  end
  local chosen, seen = words(numbers), {}
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
  if key ~= '' then
    call('SET', P .. 'once:' .. key, string.format('%.0f', now) .. ' ' .. seed .. ' ' .. fingerprint, 'PX', window)
  end
  local answer = {'stored'}
  for n = 1, jobs do answer[n + 1] = store_job(at + (n - 1) * NEW_JOB_FIELDS, chosen[tostring(n)] and seed) end
  return answer
end

local answers = {}
local at = 4
for n = 1, tonumber(ARGV[3]) do
  local jobs = tonumber(ARGV[at + 4])
  if ARGV[at + 2] ~= '' then
    answers[n] = submit_checked(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], jobs, at + 5)
  else
    local answer = {'stored'}
    for job = 1, jobs do answer[job + 1] = store_job(at + 5 + (job - 1) * NEW_JOB_FIELDS) end
    answers[n] = answer
  end
  at = at + 5 + jobs * NEW_JOB_FIELDS
end
commit()
return answers
