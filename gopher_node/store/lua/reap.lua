#!lua flags=allow-oom
-- reap('session', session, renewals, limit) | reap('overdue', n, (id, nonce, end)…): takes jobs back from a holder that
-- is gone. Each take counts as a crash; a job with no crashes left fails, any other goes to the front of its lane. From its
-- second crash on it is a suspect: a node runs it in a process of its own, whose death is told to settle.lua. That its
-- node died then tells little of it, and may happen to each job that waits for a process while nodes die one after the other;
-- so it takes that `NODES_OUTLIVED` times as often. It ends all the same: one that uses up a machine's memory takes nodes along.
-- The caller judged, by its own clock, that the session stood still at `renewals`, or that these leases are past their
-- end. A session that has been renewed since, and a lease that is no longer the job's or ends later, keep what they hold.
-- An HTTP lease without a single heartbeat is a release as long as that does not go on: `max_crashes` times in a row.
-- A session loses its right to claim at once, and vanishes with its last job.
-- Answers {jobs taken, jobs that the session still holds}.
local ending, attempts = parts.ending, parts.attempts
local NODES_OUTLIVED = 3
local taken = 0

local function why(expected_nonce, unheard, deadline, ends, ignored)
  local code, message = 'lease-expired', 'The run outlived its hard deadline and was not settled.'
  if ignored then
    code, message = 'cancelled', 'The worker went on although the job was cancelled, and lost its lease.'
  elseif not expected_nonce then
    code, message = 'crashed', 'The node that ran this job stopped renewing its session.'
  elseif unheard then
    message = "The worker's lease ended without a heartbeat."
  elseif deadline and ends < tonumber(deadline) then
    message = 'The worker stopped renewing its lease.'
  end
  return string.format('{"code":"%s","message":"%s"}', code, message)
end

local function take_back(id, expected_nonce, expected_end, expected_session)
  local key = P .. 'job:' .. id
  local job = call('HMGET', key, 'state', 'nonce', 'session', 'type', 'priority', 'group', 'attempt', 'crashes',
                   'max_crashes', 'cancel', 'started', 'node', 'retention', 'watched', 'lease', 'deadline', 'renewed',
                   'unheard', 'callback', 'options')
  local session, kind, priority, lease = job[3], job[4], job[5], job[15]
  -- What does not match its job is only struck off, or it would be found here for ever.
  if job[1] ~= 'processing' then call('ZREM', P .. 'processing', id) end
  if expected_session and (job[1] ~= 'processing' or session ~= expected_session) then
    call('SREM', P .. 'held:' .. expected_session, id)
    return
  end
  if job[1] ~= 'processing' or expected_nonce and job[2] ~= expected_nonce then return end
  local ends = tonumber(call('ZSCORE', P .. 'processing', id) or nil)
  if expected_end and ends ~= expected_end then return end
  local crashes, max_crashes = tonumber(job[8] or nil) or 0, tonumber(job[9])
  local unheard = lease and not job[17]
  local times = (tonumber(job[18] or nil) or 0) + 1
  -- It was told of the cancel by its heartbeats, which have moved its deadline here.
  local ignored = job[10] and lease and not unheard and ends >= tonumber(job[16])
  local crashed = not ignored and (not unheard or times > max_crashes)
  local allowed = max_crashes
  if expected_session and crashes >= SUSPECT and not lease then allowed = max_crashes * NODES_OUTLIVED end
  if crashed then crashes = crashes + 1 end
  local state = job[10] and 'cancelled' or crashes > allowed and 'failed' or 'enqueued'
  ending.end_run(id, kind, priority, job[6] or '', session, lease, job[18])
  call('HSET', key, 'state', state)
  if crashed then call('HSET', key, 'crashes', crashes) end
  if unheard then call('HSET', key, 'unheard', math.min(times, max_crashes)) end
  attempts.record(id, job[7], ignored and 'cancelled' or crashed and 'crashed' or 'released', job[11], job[12],
                 why(expected_nonce, unheard, job[16], ends, ignored))
  local verdict = nil
  if crashed and not job[10] then verdict = false end
  local policy = policy_of(kind)
  if policy and policy.breaker then parts.breaker.heard(kind, policy, id, job[11], verdict) end
  if crashed then total_of('crashed:' .. kind) elseif state == 'enqueued' then total('released') end
  if state == 'enqueued' then
    enqueue(id, kind, priority, job[6] or '', true)
    if job[20] then parts.unique.keep_deadline(id) end
    tell_followers(id, job[14])
  else
    call('HSET', key, 'finished', now)
    ending.finish(id, kind, priority, state, tonumber(job[13] or nil), job[19], job[14], job[20])
  end
  taken = taken + 1
end

local still_held = 0
if ARGV[2] == 'session' then
  local session, renewals, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
  local record = call('HGET', P .. 'sessions', session)
  if record and string.match(record, '^%d+') == renewals then
    if call('DEL', P .. 'session:' .. session) == 1 then parts.forgetting.stop_waiting(session) end
    local ids = call('SRANDMEMBER', P .. 'held:' .. session, limit)
    table.sort(ids)
    for _, id in ipairs(ids) do take_back(id, nil, nil, session) end
    ending.commit()
    still_held = call('SCARD', P .. 'held:' .. session)
    if still_held == 0 then call('HDEL', P .. 'sessions', session) end
  end
else
  for at = 4, 1 + 3 * tonumber(ARGV[3]), 3 do take_back(ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])) end
  ending.commit()
end
if made.breaker then parts.breaker.commit() end
commit()
return {taken, still_held}
