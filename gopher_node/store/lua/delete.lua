#!lua flags=allow-oom
-- delete(id): forgets a job that is not running.
-- Answers the state it had, 'processing' if it runs and therefore stays, or nil if there is no such job.
local id = ARGV[2]
local job = call('HMGET', P .. 'job:' .. id, 'state', 'type', 'priority', 'group', 'tags', 'retention', 'watched')
local state, kind, priority = job[1], job[2], job[3]
if not state then return false end
if state == 'processing' then return state end
if state == 'completed' or state == 'failed' or state == 'cancelled' then
  forget_final(id, state, kind, priority, job[5], job[6])
else
  if state == 'enqueued' then
    call('ZREM', P .. 'lane:' .. priority .. ':' .. kind .. ':' .. (job[4] or ''), id)
    tidy_lane(priority, kind, job[4] or '')
  else
    call('ZREM', P .. (state == 'scheduled' and 'due' or 'blocked'), id)
  end
  count(state, priority, kind, -1)
  forget(id, kind, job[5])
end
if job[7] then tell_watchers(id) end
total('deleted')
commit()
return state
