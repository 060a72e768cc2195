#!lua flags=allow-oom
-- cancel_workflow(workflow, done to, limit): a workflow is to be cancelled; from now on that is recorded, until all of its
-- members have been.
--   ARGV[3] the member up to which, in the order of their creation, all have been cancelled; '' for none, or at first
--   ARGV[4] how many members are wanted to be cancelled next
-- Answers {state: 'cancelling', 'cancelled', 'completed' or 'failed'; the last member looked at, or '' if that were all;
-- members to be cancelled…}, or nil if there is no such workflow. Told again, it tells the same or what is next.
local dependents = parts.dependents
local workflow, done_to, limit = ARGV[2], ARGV[3], tonumber(ARGV[4])
local key, members = P .. 'workflow:' .. workflow, P .. 'members:' .. workflow
local record = call('HMGET', key, 'created', 'finished', 'cancelling', 'cancelled_to')
if not record[1] then return false end
if record[2] then return {dependents.workflow_state(workflow), ''} end
if not record[3] then
  call('HSET', key, 'cancelling', now)
  call('ZADD', P .. 'cancelling', now, workflow)
end
local at = record[4] or ''
if done_to ~= '' then
  local score = call('ZSCORE', members, done_to)
  if score then
    at = score .. ' ' .. done_to
    call('HSET', key, 'cancelled_to', at)
  end
end
local rank = 0
local score, last = string.match(at, '^(%S+) (.*)$')
if last then
  if call('ZSCORE', members, last) == score then
    rank = call('ZRANK', members, last) + 1
  else
    rank = call('ZCOUNT', members, '-inf', '(' .. score)
  end
end
local found = call('ZRANGE', members, rank, rank + limit - 1)
if not found[1] then
  call('ZREM', P .. 'cancelling', workflow)
  return {'cancelling', ''}
end
return {'cancelling', found[#found], unpack(found)}
