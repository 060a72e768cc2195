#!lua flags=no-writes
-- survey(limit): what a reaper looks at: all sessions, and running jobs that are past their hard deadline.
-- Answers {server time in ms, {session, "<renewals>:<lease>:<node>"…}, {{id, nonce, started, deadline}…}}.
local overdue = {}
local found = call('ZRANGEBYSCORE', P .. 'processing', '-inf', now, 'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[2]))
for i = 1, #found, 2 do
  local job = call('HMGET', P .. 'job:' .. found[i], 'nonce', 'started')
  -- A nil would end the reply here. An id without a job is told all the same: reaping strikes it off.
  overdue[#overdue + 1] = {found[i], job[1] or '', tonumber(job[2] or nil) or 0, tonumber(found[i + 1])}
end
return {now, call('HGETALL', P .. 'sessions'), overdue}
