#!lua flags=allow-oom
-- edit(operation, id, priority or '', due or '', delay or ''): gives a job that is scheduled, enqueued or blocked another
-- priority, another due time, or both. A blocked one stays so until it is released. It moves to where these say; in a lane it goes behind those that wait there.
--   ARGV[2] id of this operation: told again, it is answered the same
-- Answers the state before, or nil if there is no such job. A job that is none of these stays as it is.
local operating, unique, storing = parts.operating, parts.unique, parts.storing
local operation, id = ARGV[2], ARGV[3]
local key = P .. 'job:' .. id
local job = call('HMGET', key, 'state', 'type', 'priority', 'group', 'operation', 'watched', 'due', 'created')
local state, kind, priority, group = job[1], job[2], job[3], job[4] or ''
if not state then return false end
local before = operating.answered_before(operation, job[5])
if before then return before end
if not unique.is_waiting(state) then return state end

local wanted = ARGV[4] ~= '' and ARGV[4] or priority
local due = storing.due_time(ARGV[5], ARGV[6], now)
local becomes = state
if due and state ~= 'blocked' then becomes = due > now and 'scheduled' or 'enqueued' end

local moves = becomes ~= state or wanted ~= priority
if moves then operating.leave_place(id, state, kind, priority, group) end
local fields = {'state', becomes, 'priority', wanted, 'operation', operation .. ':' .. state}
if due then
  fields[7], fields[8] = 'due', due
end
call('HSET', key, unpack(fields))
tell_followers(id, job[6])
if becomes == 'scheduled' then
  call('ZADD', P .. 'due', due or job[7], id)
  if moves then count(becomes, wanted, kind, 1) end
elseif becomes == 'blocked' then
  if moves then
    call('ZADD', P .. 'blocked', job[8], id)
    count(becomes, wanted, kind, 1)
  end
elseif moves then
  enqueue(id, kind, wanted, group)
end
commit()
return state
