#!lua flags=allow-oom
-- uses: ending
-- close_session(session): the session ends; what it still holds, up to 200 jobs a call, is released.
-- Answers the number of jobs that it still holds.
local session = ARGV[2]
local key = P .. 'held:' .. session
local ids = call('SRANDMEMBER', key, 200)
if call('DEL', P .. 'session:' .. session) == 1 then stop_waiting(session) end
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
    end_run(id, job[1], job[2], session, job[13], job[14])
    call('HSET', P .. 'job:' .. id, 'state', state)
    record_attempt(id, job[4], 'released', job[5], job[6])
    if state == 'enqueued' then
      total('released')
      enqueue(id, job[1], job[2], job[3] or '', true)
      tell_followers(id, job[9])
    else
      call('HSET', P .. 'job:' .. id, 'finished', now)
      finish(id, job[1], job[2], state, tonumber(job[8] or nil), job[12], job[9], job[15])
    end
  end
end
commit_ends()
local still_held = call('SCARD', key)
if still_held == 0 then call('HDEL', P .. 'sessions', session) end
commit()
return still_held
