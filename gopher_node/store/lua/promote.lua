#!lua flags=allow-oom
-- promote(limit): moves up to `limit` jobs that are due from `due` into their lanes.
--   ARGV[2] limit
-- Answers {jobs moved, 1 if there is something for fan_out, due time of the next one in ms or nil, when the next one expires or nil, when the next recurring
-- job fires or nil, server time in ms}.
local ids = call('ZRANGEBYSCORE', P .. 'due', '-inf', now, 'LIMIT', 0, tonumber(ARGV[2]))
for _, id in ipairs(ids) do
  local key = P .. 'job:' .. id
  local job = call('HMGET', key, 'type', 'priority', 'group', 'watched', 'crashes')
  call('HSET', key, 'state', 'enqueued')
  count('scheduled', job[2], job[1], -1)
  -- A suspect, which claims put off while there is no process for it, keeps its place at the front.
  enqueue(id, job[1], job[2], job[3] or '', (tonumber(job[5] or nil) or 0) >= SUSPECT)
  tell_followers(id, job[4])
end
if ids[1] then call('ZREM', P .. 'due', unpack(ids)) end
commit()
local nearest = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')
local expires = call('ZRANGE', P .. 'deadlines', 0, 0, 'WITHSCORES')
local fires = call('ZRANGE', P .. 'recurring-due', 0, 0, 'WITHSCORES')
local fans = math.min(1, call('EXISTS', P .. 'fanout', P .. 'cancelling'))
return {#ids, fans, nearest[2] and math.ceil(tonumber(nearest[2])) or false, expires[2] and math.ceil(tonumber(expires[2])) or false,
        fires[2] and math.ceil(tonumber(fires[2])) or false, now}
