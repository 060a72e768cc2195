#!lua flags=allow-oom
-- expire(limit): ends up to `limit` waiting jobs whose deadline has come.
-- Answers how many.
local unique, operating, ending = parts.unique, parts.operating, parts.ending
local gone = 0
local why = '{"code":"expired","message":"The job had not started when its time was over."}'
for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'deadlines', '-inf', now, 'LIMIT', 0, tonumber(ARGV[2]))) do
  local key = P .. 'job:' .. id
  local job = call('HMGET', key, 'state', 'type', 'priority', 'group', 'retention', 'callback', 'watched', 'options')
  if unique.is_waiting(job[1]) then
    operating.leave_place(id, job[1], job[2], job[3], job[4] or '')
    call('HSET', key, 'state', 'cancelled', 'finished', now, 'error', why)
    ending.finish(id, job[2], job[3], 'cancelled', tonumber(job[5] or nil), job[6], job[7], job[8])
    gone = gone + 1
  else
    call('ZREM', P .. 'deadlines', id) -- or it would be found here for ever
  end
end
ending.commit()
commit()
return gone
