#!lua flags=allow-oom
-- close_session(session): the session ends; what it still holds, up to 200 jobs a call, is released.
-- Answers the number of jobs that it still holds.
local ending, attempts = parts.ending, parts.attempts
local session = ARGV[2]
local key = P .. 'held:' .. session
local ids = call('SRANDMEMBER', key, 200)
if call('DEL', P .. 'session:' .. session) == 1 then parts.forgetting.stop_waiting(session) end
for _, id in ipairs(ids) do
  local job = call('HMGET', P .. 'job:' .. id, 'type', 'priority', 'group', 'attempt', 'started', 'node', 'cancel', 'retention',
                   'watched', 'state', 'session', 'callback', 'lease', 'unheard', 'options')
  local running = job[10] == 'processing'
  local ours = running and job[11] == session
  local state = job[7] and 'cancelled' or 'enqueued'
  if not running then call('ZREM', P .. 'processing', id) end
  if not ours then
    call('SREM', key, id) -- what does not match its job is only struck off
  else
    ending.end_run(id, job[1], job[2], job[3] or '', session, job[13], job[14])
    call('HSET', P .. 'job:' .. id, 'state', state)
    attempts.record(id, job[4], 'released', job[5], job[6])
    local policy = policy_of(job[1])
    if policy and policy.breaker then parts.breaker.heard(job[1], policy, id, job[5], nil) end
    if state == 'enqueued' then
      total('released')
      enqueue(id, job[1], job[2], job[3] or '', true)
      if job[15] then parts.unique.keep_deadline(id) end
      tell_followers(id, job[9])
    else
      call('HSET', P .. 'job:' .. id, 'finished', now)
      ending.finish(id, job[1], job[2], state, tonumber(job[8] or nil), job[12], job[9], job[15])
    end
  end
end
ending.commit()
local still_held = call('SCARD', key)
if still_held == 0 then call('HDEL', P .. 'sessions', session) end
commit()
return still_held
