#!lua flags=allow-oom
-- promote(limit): moves up to `limit` jobs that are due from `due` into their lanes.
--   ARGV[2] limit
-- Answers {jobs moved, due time of the next one in ms or nil, server time in ms}.
local ids = call('ZRANGEBYSCORE', P .. 'due', '-inf', now, 'LIMIT', 0, tonumber(ARGV[2]))
for _, id in ipairs(ids) do
  local key = P .. 'job:' .. id
  local job = call('HMGET', key, 'type', 'priority', 'group', 'watched')
  call('HSET', key, 'state', 'enqueued')
  count('scheduled', job[2], job[1], -1)
  enqueue(id, job[1], job[2], job[3] or '')
  tell_followers(id, job[4])
end
if ids[1] then call('ZREM', P .. 'due', unpack(ids)) end
commit()
local nearest = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')
return {#ids, nearest[2] and math.ceil(tonumber(nearest[2])) or false, now}
