#!lua flags=allow-oom
-- settle(keep…, count, settlement…): ends leases: complete, retry, fail, crash, cancelled, release.
--   ARGV[2..4] how long completed and cancelled jobs are kept in ms, and how many of each
--   ARGV[5] number of settlements; then for each:
--     outcome, id, attempt, nonce, body (result or error as JSON), delay in ms (of a completion: '' or a mark of all that
--     it says), number of follow-ups, fourteen fields each
-- A crash is that of a process in which the job ran alone: it took no other along, and tells that it was this job's doing. So
-- the job fails as soon as its crashes reach `max_crashes`, where one whose node died (reap.lua) has the benefit of the doubt.
-- Answers for each the state the job was given, or 'stale' if the lease is no longer the job's. A settlement that was
-- already carried out is answered as it was then, and changes nothing: its reply may have been lost. A completion with
-- another mark than it was carried out with is none of these: 'other'.
local keep = {completed = tonumber(ARGV[2]), cancelled = tonumber(ARGV[3]), jobs = tonumber(ARGV[4])}
local ending = parts.ending
local RECORDED_AS = {release = 'released', cancelled = 'cancelled', crash = 'crashed'}
local answers = {}

local function settle_one(outcome, id, attempt, nonce, body, delay, follow_ups, at)
  local key = P .. 'job:' .. id
  local job = call('HMGET', key, 'state', 'nonce', 'attempt', 'settled', 'type', 'priority', 'session', 'retention', 'watched',
                   'lease', 'callback', 'options', 'started', 'group')
  if job[4] and string.sub(job[4], 1, #nonce + 1) == nonce .. ':' then
    local state, mark = string.match(job[4], '^(%a+):?(.*)$', #nonce + 2)
    if outcome == 'complete' and mark ~= '' and mark ~= delay then return 'other' end
    return state
  end
  if job[1] ~= 'processing' or job[2] ~= nonce or job[3] ~= attempt then
    total('stale')
    return 'stale'
  end
  local kind, priority, group = job[5], job[6], job[14] or ''
  -- What only an unsuccessful end needs.
  local errors, max_retries, cancel, node, counted, unheard, crashes, max_crashes
  if outcome ~= 'complete' then
    errors, max_retries, cancel, node, counted, unheard, crashes, max_crashes =
      unpack(call('HMGET', key, 'errors', 'max_retries', 'cancel', 'node', 'counted', 'unheard', 'crashes', 'max_crashes'))
    -- A run whose error was counted is not handed back for nothing.
    if outcome == 'release' and counted == attempt then outcome = 'retry' end
  end
  errors = tonumber(errors or nil) or 0
  local state
  if outcome == 'complete' then
    state = 'completed'
  elseif outcome == 'cancelled' then
    state = 'cancelled'
  elseif outcome == 'release' then
    state = cancel and 'cancelled' or 'enqueued'
  else
    local spent
    if outcome == 'crash' then
      crashes = (tonumber(crashes or nil) or 0) + 1
      spent = crashes >= tonumber(max_crashes)
    else
      if counted ~= attempt then errors = errors + 1 end
      spent = errors > tonumber(max_retries)
    end
    if outcome == 'fail' then
      state = 'failed'
    elseif cancel then
      state = 'cancelled'
    elseif spent then
      state = 'failed'
    else
      state = tonumber(delay) > 0 and 'scheduled' or 'enqueued'
    end
  end

  local mark = outcome == 'complete' and delay ~= '' and ':' .. delay or ''
  local fields = {'state', state, 'settled', nonce .. ':' .. state .. mark}
  local function set(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if outcome == 'retry' or outcome == 'fail' then set('errors', errors) end
  if outcome == 'crash' then set('crashes', crashes) end
  if state == 'scheduled' then set('due', now + delay) end
  if state == 'completed' then put_body('result', id, body, fields) end
  if state == 'completed' or state == 'failed' or state == 'cancelled' then set('finished', now) end
  call('HSET', key, unpack(fields))
  ending.end_run(id, kind, priority, group, job[7], job[10], unheard)
  if outcome ~= 'complete' then
    parts.attempts.record(id, attempt, RECORDED_AS[outcome] or 'error', job[13], node, body ~= '' and body or nil)
  end
  -- What a run says that was to stop tells nothing of its type, unless it succeeded.
  local verdict = nil
  if outcome == 'complete' then
    verdict = true
  elseif (outcome == 'retry' or outcome == 'fail' or outcome == 'crash') and not cancel then
    verdict = false
  end
  local policy = policy_of(kind)
  if policy and policy.breaker then parts.breaker.heard(kind, policy, id, job[13], verdict) end

  if outcome == 'crash' then total_of('crashed:' .. kind) end
  if state == 'enqueued' then
    enqueue(id, kind, priority, group, outcome ~= 'retry')
    if outcome == 'release' then total('released') elseif outcome == 'retry' then total_of('retried:' .. kind) end
  elseif state == 'scheduled' then
    call('ZADD', P .. 'due', now + delay, id)
    count('scheduled', priority, kind, 1)
    if outcome == 'retry' then total_of('retried:' .. kind) end
  else
    ending.finish(id, kind, priority, state, tonumber(job[8] or nil), job[11], job[9], job[12])
  end
  if state == 'enqueued' or state == 'scheduled' then
    if job[12] then parts.unique.keep_deadline(id) end
    tell_followers(id, job[9])
  end
  if state == 'completed' then
    for n = 1, follow_ups do parts.storing.store_job(at + (n - 1) * NEW_JOB_FIELDS) end
  end
  return state
end

local at = 6
for n = 1, tonumber(ARGV[5]) do
  local outcome, id, attempt, nonce, body, delay, follow_ups = unpack(ARGV, at, at + 6)
  follow_ups = tonumber(follow_ups)
  answers[n] = settle_one(outcome, id, attempt, nonce, body, delay, follow_ups, at + 7)
  at = at + 7 + follow_ups * NEW_JOB_FIELDS
end

ending.commit()
if made.breaker then parts.breaker.commit() end
ending.prune(nil, keep)
commit()
return answers
