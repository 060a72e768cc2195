#!lua flags=no-writes
-- survey(limit, ahead, passed): what a reaper looks at: all sessions, and running jobs whose lease ends before a time.
--   ARGV[2] number of jobs; ARGV[3] ms from now to that time: 0, but for ends that the reaper judges to come earlier than
--     is written, for the clock was set back since; ARGV[4] number of the first such jobs to pass over
-- Answers {server time in ms, {session, "<renewals>:<lease>:<node>"…}, {{id, nonce, since, end, lease}…}}. `since` is when
-- that end was set: at a heartbeat, or at the claim. `lease` is 0 if the end is the run's hard deadline.
local overdue = {}
local found = call('ZRANGEBYSCORE', P .. 'processing', '-inf', string.format('%.0f', now + ARGV[3]), 'WITHSCORES',
                   'LIMIT', ARGV[4], ARGV[2])
for i = 1, #found, 2 do
  local job = call('HMGET', P .. 'job:' .. found[i], 'nonce', 'started', 'lease', 'deadline', 'renewed', 'cancel')
  local ends = tonumber(found[i + 1])
  -- A heartbeat does not move a hard deadline, which was set at the claim, but where it tells of a cancel.
  local lapses = job[3] and ends < tonumber(job[4])
  -- A nil would end the reply here. An id without a job is told all the same: reaping strikes it off.
  overdue[#overdue + 1] = {found[i], job[1] or '', tonumber((lapses or job[6]) and job[5] or job[2] or nil) or 0, ends,
                             lapses and tonumber(job[3]) or 0}
end
return {now, call('HGETALL', P .. 'sessions'), overdue}
