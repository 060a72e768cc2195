#!lua flags=allow-oom
-- cancel_workflow(workflow, done to, limit): a workflow is to be cancelled; from now on that is recorded, until all of its
-- members have been.
--   ARGV[3] how far the members have been cancelled, in the order of their creation, as the last call said; '' at first
--   ARGV[4] how many members are wanted to be cancelled next; ARGV[5] '1' for a tick, which goes on and does not begin anew
-- Answers {state: 'cancelling', 'cancelled', 'completed' or 'failed'; how far that is, '<number> <last member looked at>',
-- or '' if that were all; members to be cancelled…}, or nil if there is no such workflow. Told again, it tells the same or
-- what is next. The number is of those that came since: what was said before one came says nothing of that one.
local dependents = parts.dependents
local workflow, done_to, limit = ARGV[2], ARGV[3], tonumber(ARGV[4])
local key, members = P .. 'workflow:' .. workflow, P .. 'members:' .. workflow
local record = call('HMGET', key, 'created', 'finished', 'cancelling', 'cancelled_to', 'joined')
if not record[1] then return false end
if record[2] then return {dependents.workflow_state(workflow), ''} end
if not record[3] then
  call('HSET', key, 'cancelling', now)
  call('ZADD', P .. 'cancelling', now, workflow)
elseif ARGV[5] == '1' then
  if not call('ZSCORE', P .. 'cancelling', workflow) then return {'cancelling', ''} end -- another tick was here first
elseif done_to == '' then
  call('ZADD', P .. 'cancelling', record[3], workflow) -- once more, for members that were requeued since
end
local at, joined = record[4] or '', record[5] or '0'
local number, member = string.match(done_to, '^(%d+) (.*)$')
if number == joined then
  local score = call('ZSCORE', members, member)
  if score then
    at = score .. ' ' .. member
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
  call('HDEL', key, 'cancelled_to')
  return {'cancelling', ''}
end
return {'cancelling', joined .. ' ' .. found[#found], unpack(found)}
