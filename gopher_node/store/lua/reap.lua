#!lua flags=allow-oom
-- reap('session', session, renewals, limit) | reap('overdue', n, (id, nonce)…): takes jobs back from a holder that is
-- gone. Each take counts as a crash; a job with no crashes left fails, any other goes to the front of its lane.
-- The caller judged, by its own clock, that the session stood still at `renewals`, or that these leases are past their
-- hard deadline. A session that has been renewed since, and a lease that is no longer the job's, keep what they hold.
-- A session loses its right to claim at once, and vanishes with its last job.
-- Answers {jobs taken, jobs that the session still holds}.
local taken = 0

local function take_back(id, expected_nonce, expected_session)
  local key = P .. 'job:' .. id
  local job = call('HMGET', key, 'state', 'nonce', 'session', 'type', 'priority', 'group', 'attempt', 'crashes',
                   'max_crashes', 'cancel', 'started', 'node', 'retention', 'watched')
  local session, kind, priority = job[3], job[4], job[5]
  -- What does not match its job is only struck off, or it would be found here for ever.
  if job[1] ~= 'processing' then call('ZREM', P .. 'processing', id) end
  if expected_session and (job[1] ~= 'processing' or session ~= expected_session) then
    call('SREM', P .. 'held:' .. expected_session, id)
    return
  end
  if job[1] ~= 'processing' or expected_nonce and job[2] ~= expected_nonce then return end
  local crashes = (tonumber(job[8] or nil) or 0) + 1
  local state = job[10] and 'cancelled' or crashes > tonumber(job[9]) and 'failed' or 'enqueued'
  call('ZREM', P .. 'processing', id)
  call('SREM', P .. 'held:' .. session, id)
  call('HSET', key, 'state', state, 'crashes', crashes)
  record_attempt(id, job[7], 'crashed', job[11], job[12],
                 expected_nonce and '{"code":"lease-expired","message":"The run outlived its hard deadline and was not settled."}'
                 or '{"code":"crashed","message":"The node that ran this job stopped renewing its session."}')
  count('processing', priority, kind, -1)
  total('crashed')
  if state == 'enqueued' then
    enqueue(id, kind, priority, job[6] or '', true)
  else
    call('HSET', key, 'finished', now)
    finish(id, kind, priority, state, tonumber(job[13] or nil))
    if job[14] then tell_watchers(id) end
  end
  taken = taken + 1
end

local left = 0
if ARGV[2] == 'session' then
  local session, renewals, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
  local record = call('HGET', P .. 'sessions', session)
  if record and string.match(record, '^%d+') == renewals then
    call('DEL', P .. 'session:' .. session)
    stop_waiting(session)
    local ids = call('SRANDMEMBER', P .. 'held:' .. session, limit)
    table.sort(ids)
    for _, id in ipairs(ids) do take_back(id, nil, session) end
    left = call('SCARD', P .. 'held:' .. session)
    if left == 0 then call('HDEL', P .. 'sessions', session) end
  end
else
  for n = 1, tonumber(ARGV[3]) do take_back(ARGV[2 + 2 * n], ARGV[3 + 2 * n]) end
end
commit_finals()
commit()
return {taken, left}
