#!lua flags=allow-oom
-- uses: ending
-- close_session(session): the session ends; what it still holds, up to 200 jobs a call, is released.
-- Answers the number of jobs that it still holds.
local session = ARGV[2]
local key = P .. 'held:' .. session
local ids = call('SRANDMEMBER', key, 200)
call('DEL', P .. 'session:' .. session)
stop_waiting(session)
for _, id in ipairs(ids) do
  local job = call('HMGET', P .. 'job:' .. id, 'type', 'priority', 'group', 'attempt', 'started', 'node', 'cancel', 'retention',
                   'watched', 'state', 'session', 'callback')
  local running = job[10] == 'processing'
  local ours = running and job[11] == session
  local state = job[7] and 'cancelled' or 'enqueued'
  if ours or not running then call('ZREM', P .. 'processing', id) end
  call('SREM', key, id)
  if ours then -- what does not match its job is only struck off
    call('HSET', P .. 'job:' .. id, 'state', state)
    count('processing', job[2], job[1], -1)
    record_attempt(id, job[4], 'released', job[5], job[6])
    if state == 'enqueued' then
      total('released')
      enqueue(id, job[1], job[2], job[3] or '', true)
      tell_followers(id, job[9])
    else
      call('HSET', P .. 'job:' .. id, 'finished', now)
      finish(id, job[1], job[2], state, tonumber(job[8] or nil), job[12])
      if job[9] then tell_watchers(id) end
    end
  end
end
local left = call('SCARD', key)
if left == 0 then call('HDEL', P .. 'sessions', session) end
commit_finals()
commit()
return left
