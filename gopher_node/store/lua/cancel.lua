#!lua flags=allow-oom
-- cancel(id): a waiting job ends at once; the holder of a running one is told, and its next unsuccessful end is final.
-- Answers {state before, state now}, or nil if there is no such job. A finished job stays as it is.
local id = ARGV[2]
local key = P .. 'job:' .. id
local job = call('HMGET', key, 'state', 'type', 'priority', 'group', 'session', 'retention', 'watched')
local state, kind, priority = job[1], job[2], job[3]
if not state then return false end
if state == 'processing' then
  call('HSET', key, 'cancel', 1)
  publish('session:' .. job[5], id)
  commit()
  return {state, state}
end
if state == 'completed' or state == 'failed' or state == 'cancelled' then return {state, state} end
if state == 'enqueued' then
  call('ZREM', P .. 'lane:' .. priority .. ':' .. kind .. ':' .. (job[4] or ''), id)
  tidy_lane(priority, kind, job[4] or '')
elseif state == 'scheduled' then
  call('ZREM', P .. 'due', id)
else
  call('ZREM', P .. 'blocked', id)
end
call('HSET', key, 'state', 'cancelled', 'finished', now)
count(state, priority, kind, -1)
finish(id, kind, priority, 'cancelled', tonumber(job[6] or nil))
if job[7] then tell_watchers(id) end
commit_finals()
commit()
return {state, 'cancelled'}
